//! Connections of mutual TLS that a pod's streams to another node share: who uses them, and when they go.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use weft_identity::{
    Clock, Endpoint, Held, Issuer as _, Order, Svid, Trust, TrustDomains,
    ca::{self, DirectoryIssuer},
};
use weft_model::{AppProtocol, ServiceAccount};
use weft_proxy::Limits;
use weft_transport::{ReadAhead, mux};

use crate::mesh::{Mesh, PATIENCE, get, plain, read};

#[tokio::test]
async fn requests_and_bytes_to_the_same_port_share_a_connection() {
    let world = World::start(Limits::default()).await;
    let server = world.server();
    world.mesh.serve_elsewhere(plain(AppProtocol::Http), &[server.address]);
    let mut bytes = world.mesh.dial_chosen(server.address).await;
    echoes(&mut bytes).await;
    for _ in 0..3 {
        let answer = world.mesh.http1().await.send_request(get("/")).await.unwrap();
        assert_eq!(read(answer).await, (200, String::new(), "ok".to_owned()));
    }
    let mut others = world.mesh.dial_chosen(server.address).await;
    echoes(&mut others).await;
    assert_eq!((server.accepted(), server.open()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_nobody_uses_is_closed_after_its_time_and_one_in_use_is_not() {
    let limits = Limits { pool_time: Duration::from_millis(500), ..Limits::default() };
    let world = World::start(limits).await;
    let (used, unused) = (world.server(), world.server());
    world.mesh.serve_elsewhere(plain(AppProtocol::Http), &[used.address, unused.address]);
    let mut stays = world.mesh.dial_chosen(used.address).await;
    echoes(&mut stays).await;
    for _ in 0..2 {
        let mut goes = world.mesh.dial_chosen(unused.address).await;
        echoes(&mut goes).await;
        assert_eq!(unused.open(), 1);
        drop(goes);
        unused.closes().await;
    }
    echoes(&mut stays).await;
    assert_eq!((used.accepted(), used.open()), (1, 1));
}

#[tokio::test]
async fn a_pods_connections_go_with_it() {
    let world = World::start(Limits::default()).await;
    let server = world.server();
    world.mesh.serve_elsewhere(plain(AppProtocol::Http), &[server.address]);
    let mut idle = world.mesh.dial_chosen(server.address).await;
    echoes(&mut idle).await;
    drop(idle);
    world.mesh.handle.remove_pod(world.mesh.cookie()).await.unwrap();
    server.closes().await;
}

#[tokio::test]
async fn a_connection_goes_with_its_certificate_once_its_streams_have_ended() {
    let world = World::start(Limits::default()).await;
    let server = world.server();
    world.mesh.serve_elsewhere(plain(AppProtocol::Http), &[server.address]);
    let mut before = world.mesh.dial_chosen(server.address).await;
    echoes(&mut before).await;
    world.mesh.handle.use_identities(world.authority.held(&[client()])).unwrap();
    let mut after = world.mesh.dial_chosen(server.address).await;
    echoes(&mut after).await;
    assert_eq!((server.accepted(), server.open()), (2, 2), "what was renewed takes no more");
    echoes(&mut before).await;
    drop(before);
    server.has_open(1).await;
    echoes(&mut after).await;
}

/// A mesh whose pod `shop/client` has a certificate, and others of its authority on another node.
struct World {
    mesh: Mesh,
    authority: Authority,
}

impl World {
    /// With one worker: connections are a worker's own.
    async fn start(limits: Limits) -> Self {
        let (mesh, authority) = (Mesh::of(1, limits).await, Authority::new());
        mesh.handle.use_identities(authority.held(&[client()])).unwrap();
        Self { mesh, authority }
    }

    /// The proxy of a pod of another node.
    fn server(&self) -> Server {
        let listener = self.mesh.listen();
        let server = Server {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            open: Arc::default(),
        };
        let account = ServiceAccount::new("shop", "server");
        let endpoint =
            Endpoint::new(self.authority.svid(account), self.authority.trust(), Clock::system()).unwrap();
        let counts = (Arc::clone(&server.accepted), Arc::clone(&server.open));
        tokio::spawn(accept(listener, Arc::new(endpoint), counts));
        server
    }
}

type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>);

struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// How many connections there were.
    fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// How many there are.
    fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    async fn closes(&self) {
        self.has_open(0).await;
    }

    async fn has_open(&self, wanted: usize) {
        let wait = async {
            while self.open() != wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it closes in time");
    }
}

async fn accept(listener: TcpListener, endpoint: Arc<Endpoint>, (accepted, open): Counts) {
    while let Ok((socket, _)) = listener.accept().await {
        let (endpoint, accepted, open) = (Arc::clone(&endpoint), Arc::clone(&accepted), Arc::clone(&open));
        tokio::spawn(async move {
            let tls = endpoint.accept(ReadAhead::new(socket, &[]), PATIENCE).await.unwrap();
            accepted.fetch_add(1, SeqCst);
            open.fetch_add(1, SeqCst);
            let (incoming, driver) = mux::server(tls);
            let serve = async {
                while let Some((stream, _)) = incoming.accept().await {
                    stream.is_open();
                    tokio::spawn(serve(stream));
                }
            };
            // How it ends is the client's business.
            let _ = tokio::join!(driver, serve);
            open.fetch_sub(1, SeqCst);
        });
    }
}

/// Answers requests, and sends back all else, until the client has ended.
async fn serve(mut stream: mux::Stream) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        let said = &bytes[..read];
        let answer = if said.starts_with(b"GET ") { ANSWER } else { said };
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Bytes that are no request come back.
async fn echoes(stream: &mut TcpStream) {
    let mut back = [0; 4];
    stream.write_all(b"\0any").await.unwrap();
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("they come back").unwrap();
    assert_eq!(&back, b"\0any");
}

/// Who issues certificates.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(dir.path(), "mesh.example", &Clock::system()).unwrap();
        Self(dir)
    }

    fn issuer(&self) -> DirectoryIssuer {
        DirectoryIssuer::new(self.0.path(), Clock::system())
    }

    fn trust(&self) -> Arc<Trust> {
        let authority = self.issuer().authority().now_or_never().unwrap().unwrap();
        Arc::new(Trust::new(TrustDomains::new("mesh.example", []).unwrap(), authority.roots).unwrap())
    }

    fn svid(&self, account: ServiceAccount) -> Arc<Svid> {
        let order = Order { account, ttl: Duration::from_hours(1) };
        Arc::new(self.issuer().issue(order).now_or_never().unwrap().unwrap())
    }

    /// What an agent says, with new certificates.
    fn held(&self, accounts: &[ServiceAccount]) -> Held {
        let svids = accounts.iter().map(|account| (account.clone(), self.svid(account.clone()))).collect();
        Held { trust: Some(self.trust()), svids, missing: [].into() }
    }
}

fn client() -> ServiceAccount {
    ServiceAccount::new("shop", "client")
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
