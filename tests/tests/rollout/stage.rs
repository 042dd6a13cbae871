//! What these tests begin with: the pods `web` and `near` on node `a`, `far` on node `b`; agents of both that issue
//! certificates of one authority, and a Service for each way that a connection can take.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_tests::{
    Agent, Node, Pod, Server, World, manifests, soon, text,
    wire::{Stream, Wire},
};

use crate::load::CALLS;

/// Dropped from top to bottom: the agents before what they work on.
pub(crate) struct Stage {
    pub(crate) of_a: Agent,
    pub(crate) of_b: Agent,
    _servers: Vec<Server>,
    pub(crate) web: Pod,
    pub(crate) far: Pod,
    pub(crate) a: Node,
    pub(crate) b: Node,
    near: Pod,
    _world: World,
}

/// In the kernel: `near`, which says its name.
pub(crate) const NEAR: SocketAddr = vip(1);
/// Bytes by mutual TLS: `far`, which says its name.
pub(crate) const FAR: SocketAddr = vip(2);
/// Requests by a route, and mutual TLS: `far`.
pub(crate) const ROUTED: SocketAddr = vip(3);
/// Calls by a route, and mutual TLS: `far`.
pub(crate) const CALLED: SocketAddr = vip(4);

const fn vip(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, last)), 80)
}

impl Stage {
    pub(crate) fn open() -> Option<Self> {
        Self::open_with(&[])
    }

    /// With more arguments of both agents.
    pub(crate) fn open_with(more: &[&str]) -> Option<Self> {
        Self::open_by(&[], more)
    }

    /// As [`Stage::open_with`]; the agent of node `a` is started by way of a command.
    pub(crate) fn open_by(wrapper: &[String], more: &[&str]) -> Option<Self> {
        let world = World::new()?;
        let (a, b) = (world.node("a"), world.node("b"));
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        let service = |name: &str, last: u8, app: &str, port: u16, protocol: &str| {
            let spec = format!(
                "{{clusterIP: 10.96.0.{last}, selector: {{app: {app}}}, \
                 ports: [{{port: 80, targetPort: {port}{protocol}}}]}}"
            );
            world.apply(&format!("{name}.yaml"), &manifests::service(&format!("shop/{name}"), &spec));
        };
        service("near", 1, "near", 8080, "");
        service("far", 2, "far", 8080, "");
        service("routed", 3, "far", 8081, ", appProtocol: http");
        service("called", 4, "far", CALLS, ", appProtocol: kubernetes.io/h2c");
        world.apply("http.yaml", &manifests::http_route("shop/routed", &route("routed")));
        world.apply("grpc.yaml", GRPC_ROUTE);
        let web = a.pod("shop/web").service_account("web").start();
        let near = a.pod("shop/near").label("app", "near").start();
        let far = b.pod("shop/far").service_account("far").label("app", "far").start();
        let servers =
            vec![near.serve_name(8080, "near"), far.serve_name(8080, "far"), far.serve_http(8081, "far")];
        let authority = world.dir().join("ca").display().to_string();
        let made = a.weft_alone(&["ca", "init", "--dir", &authority]);
        assert!(made.status.success(), "{}", text(&made));
        let arguments = [&["--ca-dir", &authority], more].concat();
        let (of_a, of_b) = (a.spawn_agent_by(wrapper, &arguments), b.spawn_agent(&arguments));
        let stage = Self { of_a, of_b, _servers: servers, web, far, a, b, near, _world: world };
        stage.settle();
        soon(|| stage.a.has_proxy() && stage.b.has_proxy());
        soon(|| stage.web.ask(FAR).is_ok() && stage.web.get(ROUTED, "/", &[]).is_ok());
        Some(stage)
    }

    /// Does what kube-proxy does, in the client's own namespace: it is what is left of a Service without the mesh.
    #[track_caller]
    pub(crate) fn balance_without_mesh(&self) {
        let to = [
            (NEAR, self.near.addr(8080)),
            (FAR, self.far.addr(8080)),
            (ROUTED, self.far.addr(8081)),
            (CALLED, self.far.addr(CALLS)),
        ];
        let rules = to.map(|(service, pod)| {
            format!(
                "add rule ip services output ip daddr {} tcp dport {} dnat to {pod}\n",
                service.ip(),
                service.port()
            )
        });
        let chain = "{ type nat hook output priority -100; }";
        let script =
            format!("add table ip services\nadd chain ip services output {chain}\n{}", rules.concat());
        let output = self.web.exec(&["nft", &script]);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Waits until both nodes enforce what is in the manifests now.
    #[track_caller]
    pub(crate) fn settle(&self) {
        self.a.wait();
        self.b.wait();
    }
}

/// Of what went between `web` and `far`, which are on different nodes, nothing was in clear.
#[track_caller]
pub(crate) fn assert_sealed(stage: &Stage, wire: &Wire) {
    let web = [stage.web.addr(0).ip(), stage.web.addr6(0).ip()];
    let is_between_nodes =
        |stream: &&Stream| web.contains(&stream.from.ip()) || web.contains(&stream.to.ip());
    for stream in wire.begun(2).iter().filter(is_between_nodes) {
        assert!(stream.is_tls13() && !stream.contains(b"far\n"), "{} to {}", stream.from, stream.to);
    }
}

fn route(name: &str) -> String {
    format!(
        "{{parentRefs: [{{group: \"\", kind: Service, name: {name}, port: 80}}], \
         rules: [{{backendRefs: [{{name: {name}, port: 80}}]}}]}}"
    )
}

const GRPC_ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: called, namespace: shop}
spec:
  parentRefs: [{group: \"\", kind: Service, name: called, port: 80}]
  rules: [{backendRefs: [{name: called, port: 80}]}]
";
