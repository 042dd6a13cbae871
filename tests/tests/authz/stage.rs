//! What these tests begin with: one node with `web`, `other` and `api`, where `api` serves HTTP on port 8080 and echoes
//! on port 9000, behind the Service `shop/api`; and `plain`, which is not in the mesh.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_tests::{Agent, Answer, Node, Pod, Server, World, manifests, soon};

/// Dropped from top to bottom: the agent before what it works on.
pub(crate) struct Stage {
    pub(crate) agent: Agent,
    _servers: Vec<Server>,
    pub(crate) web: Pod,
    pub(crate) other: Pod,
    pub(crate) plain: Pod,
    pub(crate) api: Pod,
    pub(crate) node: Node,
    _world: World,
}

/// The Service in front of `api`.
pub(crate) const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);

impl Stage {
    /// With this policy for `api` in force; `spec` is what follows `targetRefs`.
    pub(crate) fn open(spec: &str) -> Option<Self> {
        let stage = Self::start(&[("policy.yaml", policy(spec))])?;
        soon(|| stage.node.has_proxy());
        stage.node.wait();
        Some(stage)
    }

    /// With these documents in force, and no policy unless one of them is one.
    pub(crate) fn start(documents: &[(&str, String)]) -> Option<Self> {
        let world = World::new()?;
        let node = world.node("a");
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        let service =
            "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}";
        world.apply("service.yaml", &manifests::service("shop/api", service));
        for (file, document) in documents {
            world.apply(file, document);
        }
        let pod = |name: &str| node.pod(&format!("shop/{name}")).service_account(name).label("app", name);
        let (web, other, api) = (pod("web").start(), pod("other").start(), pod("api").start());
        let plain = node.pod("field/plain").enrolled(false).start();
        let servers = vec![api.serve_http(8080, "api"), api.serve_echo(9000)];
        let agent = node.agent();
        node.wait();
        Some(Self { agent, _servers: servers, web, other, plain, api, node, _world: world })
    }

    /// Puts another policy in force.
    pub(crate) fn apply(&self, spec: &str) {
        self.node.apply_and_wait("policy.yaml", &policy(spec));
    }

    /// Waits until this pod gets this status for `GET target`. The proxy may hear of a policy after the kernel.
    #[track_caller]
    pub(crate) fn gets(&self, pod: fn(&Self) -> &Pod, target: &str, status: u16) {
        soon(|| ask(pod(self), API, ("GET", target), &[]).is_ok_and(|answer| answer.status == status));
    }
}

/// One request over a connection of its own.
pub(crate) fn ask(
    from: &Pod,
    to: SocketAddr,
    request: (&str, &str),
    headers: &[(&str, &str)],
) -> std::io::Result<Answer> {
    from.http(to)?.ask(request, headers, &[])
}

/// An AuthorizationPolicy for `api`.
pub(crate) fn policy(spec: &str) -> String {
    let target = "targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}]";
    manifests::authorization_policy("shop/api", &format!("{{{target}, {spec}}}"))
}
