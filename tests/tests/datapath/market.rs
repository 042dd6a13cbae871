//! What tests of the agent's life begin with: the pods `web`, `thief` and `api` on one node, the Service
//! `api`, and a policy that lets only `web` in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_tests::{Agent, Node, Pod, Server, World, manifests};

/// Dropped from top to bottom: the agent before what it works on.
pub(crate) struct Market {
    pub(crate) agent: Agent,
    pub(crate) web: Pod,
    /// A pod that no rule allows.
    pub(crate) thief: Pod,
    pub(crate) api: Pod,
    _server: Server,
    pub(crate) node: Node,
    pub(crate) world: World,
}

/// The Service `shop/api`.
pub(crate) const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);

impl Market {
    /// With its agent running. None where end-to-end tests are off.
    pub(crate) fn open() -> Option<Self> {
        Self::open_with(Node::agent)
    }

    /// With the agent that `start` gives.
    pub(crate) fn open_with(start: impl FnOnce(&Node) -> Agent) -> Option<Self> {
        let world = World::new()?;
        let node = world.node("a");
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        world.apply("service.yaml", &service("10.96.0.1"));
        world.apply("policy.yaml", &policy("web"));
        let web = node.pod("shop/web").service_account("web").start();
        let thief = node.pod("shop/thief").service_account("thief").start();
        let api = node.pod("shop/api").service_account("api").label("app", "api").start();
        let server = api.serve_name(8080, "api");
        let agent = start(&node);
        Some(Self { agent, web, thief, api, _server: server, node, world })
    }

    /// Asserts that the kernel balances `web` to `api` and refuses `thief`.
    #[track_caller]
    pub(crate) fn assert_enforced(&self) {
        assert_eq!(self.web.ask(API).expect("web may reach the Service"), "api");
        assert_refused(&self.thief, API);
        assert_refused(&self.thief, self.api.addr(8080));
    }
}

/// Asserts that the kernel's policy refuses a connection of an enrolled pod.
#[track_caller]
pub(crate) fn assert_refused(client: &Pod, to: SocketAddr) {
    let refused = client.tcp_connect(to).map(drop).map_err(|error| error.raw_os_error());
    // EPERM before kernel 5.18.
    assert!(matches!(refused, Err(Some(libc::EACCES | libc::EPERM))), "{to}: {refused:?}");
}

/// Asserts that a connection to a Service is left as it is: it has nowhere to go.
#[track_caller]
pub(crate) fn assert_not_balanced(client: &Pod, to: SocketAddr) {
    let route = ["ip", "route", "replace", "unreachable", "10.96.0.0/16"];
    assert!(client.exec(&route).status.success());
    let refused = client.tcp_connect(to).map(drop).map_err(|error| error.raw_os_error());
    assert_eq!(refused, Err(Some(libc::EHOSTUNREACH)), "{to}");
}

/// The Service `api` at this address.
pub(crate) fn service(ip: &str) -> String {
    let spec =
        format!("{{clusterIP: {ip}, selector: {{app: api}}, ports: [{{port: 80, targetPort: 8080}}]}}");
    manifests::service("shop/api", &spec)
}

/// Only the ServiceAccount `account` may reach `api`.
pub(crate) fn policy(account: &str) -> String {
    let spec = format!(
        "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], action: ALLOW, \
         rules: [{{sources: [{{type: ServiceAccount, serviceAccount: {{namespace: shop, name: {account}}}}}]}}]}}"
    );
    manifests::authorization_policy("shop/api-clients", &spec)
}
