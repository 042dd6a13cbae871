//! The set-up: `shop/web` and `shop/api` on one node, and two Services before `api`, one accelerated.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use weft_tests::{Agent, Node, Pod, World, manifests};

/// Dropped from top to bottom: the agent before what it works on.
pub(crate) struct Stage {
    pub(crate) agent: Agent,
    pub(crate) listener: TcpListener,
    pub(crate) web: Pod,
    pub(crate) api: Pod,
    pub(crate) node: Node,
    pub(crate) world: World,
}

/// A Service with the annotation.
pub(crate) const FAST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);
/// A Service without it.
pub(crate) const PLAIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 2)), 80);

impl Stage {
    /// None where end-to-end tests are off, and on a kernel that may not accelerate: then it has been
    /// asserted that the agent says so and that the Service works.
    pub(crate) fn open() -> Option<Self> {
        let stage = Self::open_with(&[])?;
        if weft_tests::kernel() >= (6, 18, 14) {
            assert_eq!(stage.why_off(), None);
            return Some(stage);
        }
        let why = stage.why_off().expect("an old kernel is a degradation");
        assert!(why.contains("older than 6.18.14"), "{why}");
        let (mut client, mut server) = stage.connect(FAST);
        assert_eq!(pass(&mut client, &mut server, b"through TCP"), b"through TCP");
        assert_eq!(stage.count("latch_native") + stage.count("latch_redirect"), 0);
        None
    }

    /// With more arguments for the agent, whatever the kernel. None where end-to-end tests are off.
    pub(crate) fn open_with(arguments: &[&str]) -> Option<Self> {
        Self::open_beside(arguments, |_| ())
    }

    /// As [`Stage::open_with`], on a node where something was done before its agent began.
    pub(crate) fn open_beside(arguments: &[&str], before: impl FnOnce(&Node)) -> Option<Self> {
        let world = World::new()?;
        let node = world.node("a");
        before(&node);
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        world.apply("fast.yaml", &service("fast", "10.96.0.1", true));
        world.apply("plain.yaml", &service("plain", "10.96.0.2", false));
        let web = node.pod("shop/web").service_account("web").start();
        let api = node.pod("shop/api").service_account("api").label("app", "api").start();
        let listener = api.tcp_listen(api.addr(8080)).expect("the pod has its address");
        let agent = node.spawn_agent(arguments);
        node.wait();
        Some(Self { agent, listener, web, api, node, world })
    }

    /// A connection from `web` to `to`: its client and its server.
    #[track_caller]
    pub(crate) fn connect(&self, to: SocketAddr) -> (TcpStream, TcpStream) {
        let client = self.web.tcp_connect(to).expect("the Service answers");
        let (server, _) = self.listener.accept().expect("a connection was made");
        server
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a time-out that is not zero is allowed");
        (client, server)
    }

    /// Why same-node acceleration is off, according to `weft status`.
    pub(crate) fn why_off(&self) -> Option<String> {
        self.node.degradations().into_iter().find(|line| line.starts_with("same-node acceleration"))
    }

    /// A counter of the programs.
    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> u64 {
        let status = self.node.weft_json(&["status"]);
        status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status}"))
    }

    /// Directions that began redirected, that never were, and that left.
    pub(crate) fn latches(&self) -> [u64; 3] {
        ["latch_redirect", "latch_native", "latch_left"].map(|name| self.count(name))
    }
}

/// The Service `shop/<name>` before `api`.
pub(crate) fn service(name: &str, ip: &str, accelerated: bool) -> String {
    let annotations = if accelerated { "{weft.dev/accelerate: same-node}" } else { "{}" };
    let spec =
        format!("{{clusterIP: {ip}, selector: {{app: api}}, ports: [{{port: 80, targetPort: 8080}}]}}");
    manifests::annotated_service(&format!("shop/{name}"), annotations, &spec)
}

/// Sends `data` and returns what arrives.
#[track_caller]
pub(crate) fn pass(from: &mut TcpStream, to: &mut TcpStream, data: &[u8]) -> Vec<u8> {
    from.write_all(data).expect("the connection takes it");
    let mut got = vec![0; data.len()];
    to.read_exact(&mut got).expect("it arrives");
    got
}

/// Bytes that tell their place in a stream.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}
