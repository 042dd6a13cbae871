//! What these tests begin with: the pods `web`, `v1` and `v2` on one node, the Services `front` (routed),
//! `v1`, `v2` and `plain` (in front of `v1`, and in the kernel).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_tests::{Agent, Node, Pod, Server, World, manifests, soon};

/// Dropped from top to bottom: the agent before what it works on.
pub(crate) struct Shop {
    pub(crate) agent: Agent,
    pub(crate) web: Pod,
    pub(crate) v1: Pod,
    pub(crate) v2: Pod,
    pub(crate) _servers: Vec<Server>,
    pub(crate) node: Node,
    pub(crate) world: World,
}

/// The Service `shop/front`, whose requests take a route.
pub(crate) const FRONT: SocketAddr = vip(1);
/// The Service `shop/plain`, in front of `v1`, whose connections stay in the kernel.
pub(crate) const PLAIN: SocketAddr = vip(4);

pub(crate) const fn vip(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, last)), 80)
}

impl Shop {
    /// With the route that sends everything to `v1`, but `/v2` to `v2`.
    pub(crate) fn open() -> Option<Self> {
        Self::open_with("{}", ROUTE)
    }

    /// With these annotations of `front`, and this route.
    pub(crate) fn open_with(annotations: &str, route: &str) -> Option<Self> {
        let shop = Self::start(&[], annotations, Some(route), &[])?;
        shop.wait_for_proxy();
        Some(shop)
    }

    /// Without a route, and so without a proxy.
    pub(crate) fn open_unrouted() -> Option<Self> {
        Self::start(&[], "{}", None, &[])
    }

    /// With more documents, by file, and with these arguments of the agent.
    pub(crate) fn open_beside(
        more: &[(String, String)],
        annotations: &str,
        route: &str,
        arguments: &[&str],
    ) -> Option<Self> {
        let shop = Self::start(more, annotations, Some(route), arguments)?;
        shop.wait_for_proxy();
        Some(shop)
    }

    fn start(
        more: &[(String, String)],
        annotations: &str,
        route: Option<&str>,
        arguments: &[&str],
    ) -> Option<Self> {
        let world = World::new()?;
        let node = world.node("a");
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        for (name, last) in [("v1", 2), ("v2", 3)] {
            world.apply(&format!("{name}.yaml"), &service(name, last, name));
        }
        world.apply("plain.yaml", &service("plain", 4, "v1"));
        let front = "{clusterIP: 10.96.0.1, selector: {app: v1}, ports: [{port: 80, targetPort: 8080, \
                     appProtocol: http}]}";
        world.apply("front.yaml", &manifests::annotated_service("shop/front", annotations, front));
        if let Some(route) = route {
            world.apply("route.yaml", &manifests::http_route("shop/front", route));
        }
        for (file, yaml) in more {
            world.apply(file, yaml);
        }
        let web = node.pod("shop/web").service_account("web").start();
        let [v1, v2] = ["v1", "v2"]
            .map(|name| node.pod(&format!("shop/{name}")).service_account(name).label("app", name).start());
        let servers = vec![v1.serve_http(8080, "v1"), v2.serve_http(8080, "v2")];
        let agent = node.spawn_agent(arguments);
        node.wait();
        Some(Self { agent, web, v1, v2, _servers: servers, node, world })
    }

    /// Waits until the proxy answers, and is in force.
    #[track_caller]
    pub(crate) fn wait_for_proxy(&self) {
        soon(|| self.node.has_proxy() && self.web.get(FRONT, "/", &[]).is_ok());
    }
}

fn service(name: &str, last: u8, app: &str) -> String {
    let spec = format!(
        "{{clusterIP: 10.96.0.{last}, selector: {{app: {app}}}, ports: [{{port: 80, targetPort: 8080}}]}}"
    );
    manifests::service(&format!("shop/{name}"), &spec)
}

pub(crate) const ROUTE: &str = "{parentRefs: [{group: \"\", kind: Service, name: front, port: 80}], rules: [\
     {matches: [{path: {type: PathPrefix, value: /v2}}], backendRefs: [{name: v2, port: 80}]}, \
     {backendRefs: [{name: v1, port: 80}]}]}";
