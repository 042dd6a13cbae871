//! Requests a second without the proxy, through it, and through one that tells an agent of each, with what a request
//! costs the worker. Needs root.
//!
//! `cargo run --release -p weft-proxy --example through [connections] [seconds]`
#![expect(clippy::print_stdout, reason = "an example that measures")]
#![expect(clippy::disallowed_methods, reason = "tasks of a measurement end with it")]

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use weft_model::{
    AppProtocol, Distribution, Endpoint, EndpointGroup, LoadBalancer, ObjectName, PortRouting, Protocol,
    Service, ServiceKind, ServicePort, Snapshot,
};
use weft_proxy::{Handle, PodSockets, Proxy, Settings, Unlent, account::Usage, observe::Reader, serve_agent};
use weft_telemetry::records::RecordBatch;
use weft_transport::{
    Netns, Origin, Transparent,
    handover::{AgentEnd, FromProxy, Hello, SOCKET, generation},
    seqpacket::Listener,
    testing::WrittenOrigins,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (connections, seconds) = (number(32)?, number(3)?);
    let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    let endpoint = server.local_addr()?;
    thread::spawn(move || on_a_thread(serve(server)));
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (unread, nobody) = Proxied::start(endpoint).await?;
        drop(nobody);
        let (told, reader) = Proxied::start(endpoint).await?;
        told.tell(reader, &dir.path().join(SOCKET))?;
        for round in 0..ROUNDS {
            let direct = load(endpoint, connections, seconds, None).await? / seconds;
            println!("round {round}: {connections} connections, direct {direct}/s");
            for (how, proxy) in [("nobody reads records", &unread), ("records are told", &told)] {
                let before = proxy.usage();
                let through = load(proxy.address, connections, seconds, Some(proxy)).await?;
                let after = proxy.usage();
                println!(
                    "  {how:>20}: {}/s ({:.2} of direct), {} ns of the worker each, {} records lost so far",
                    through / seconds,
                    ratio(through / seconds, direct),
                    (after.busy_ns - before.busy_ns) / (after.requests_total - before.requests_total).max(1),
                    proxy.lost.load(Relaxed),
                );
            }
        }
        Ok(())
    })
}

/// A proxy of one worker, and a pod's listener that it serves.
struct Proxied {
    handle: Arc<Handle>,
    address: SocketAddr,
    cookie: u64,
    origins: Arc<WrittenOrigins>,
    lost: Arc<AtomicU64>,
}

impl Proxied {
    async fn start(endpoint: SocketAddr) -> Result<(Self, Reader)> {
        let netns = Netns::current()?;
        let cookie = netns.cookie()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let origins = Arc::<WrittenOrigins>::default();
        let settings = Settings { workers: NonZeroUsize::new(1), ..Settings::default() };
        let (handle, reader) = Proxy::start(settings, Arc::clone(&origins) as Arc<_>, Arc::new(Unlent))?;
        handle.apply(&snapshot(endpoint))?;
        let name = ObjectName::new("shop", "client");
        let sockets = PodSockets {
            name,
            service_account: None,
            cookie,
            netns,
            listeners: vec![listener],
            inbound: Vec::new(),
            transparent: Transparent::default(),
        };
        handle.add_pod(sockets).await?;
        Ok((Self { handle: Arc::new(handle), address, cookie, origins, lost: Arc::default() }, reader))
    }

    fn usage(&self) -> Usage {
        self.handle.report().pods[0].1
    }

    /// Tells records to an agent on a thread of its own, which reads them and does no more.
    fn tell(&self, reader: Reader, path: &Path) -> Result<()> {
        let (ready, listening) = std::sync::mpsc::channel();
        let (at, lost) = (path.to_owned(), Arc::clone(&self.lost));
        thread::spawn(move || {
            on_a_thread(async move {
                let listener = Listener::bind(at)?;
                ready.send(())?;
                let hello = Hello::of_this_process(generation(), "agent");
                let agent = AgentEnd::greet(listener.accept().await?, &hello).await?;
                agent.take_back().await?;
                while let Some(said) = agent.receive().await? {
                    if let FromProxy::Records { id, bytes } = said {
                        lost.store(RecordBatch::read(&bytes.read()?)?.lost, Relaxed);
                        agent.ack(id).await?;
                    }
                }
                Ok(())
            });
        });
        listening.recv()?;
        let (handle, path) = (Arc::clone(&self.handle), path.to_owned());
        thread::spawn(move || {
            on_a_thread(async move {
                let hello = Hello::of_this_process(generation(), "proxy");
                let open = |_, _| Err(std::io::Error::other("this agent lends no maps"));
                serve_agent(&handle, reader, &path, hello, open, std::future::pending()).await;
                Ok(())
            });
        });
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

fn on_a_thread(work: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work).expect("the server serves");
}

/// Answers whatever is one packet.
async fn serve(listener: std::net::TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn(async move {
            let mut bytes = [0; 4096];
            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                if stream.write_all(ANSWER).await.is_err() {
                    break;
                }
            }
        });
    }
}

async fn load(to: SocketAddr, connections: u64, seconds: u64, proxy: Option<&Proxied>) -> Result<u64> {
    let (answered, until) = (Arc::<AtomicU64>::default(), Instant::now() + Duration::from_secs(seconds));
    let mut clients = Vec::new();
    for _ in 0..connections {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        if let Some(proxy) = proxy {
            let origin = Origin { dialled: VIP, frontend: 1, chosen: None };
            proxy.origins.write(proxy.cookie, socket.local_addr()?, origin);
        }
        let stream = socket.connect(to).await?;
        clients.push(tokio::task::spawn(ask(stream, until, Arc::clone(&answered))));
    }
    for client in clients {
        client.await??;
    }
    Ok(answered.load(Relaxed))
}

async fn ask(mut stream: TcpStream, until: Instant, answered: Arc<AtomicU64>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; 8192];
    while Instant::now() < until {
        stream.write_all(REQUEST).await?;
        if stream.read(&mut bytes).await? == 0 {
            return Err("the proxy closed".into());
        }
        answered.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn snapshot(endpoint: SocketAddr) -> Snapshot {
    let name = ObjectName::new("shop", "web");
    let endpoint = Endpoint {
        address: endpoint,
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: None,
    };
    let group = EndpointGroup {
        service: name.clone(),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: vec![endpoint],
    };
    let routing = PortRouting { protocol: AppProtocol::Http, ..PortRouting::default() };
    let port = ServicePort {
        name: "".into(),
        port: VIP.port(),
        protocol: Protocol::Tcp,
        app_protocol: None,
        groups: vec![group],
        routing: Some(Arc::new(routing)),
    };
    let service = Service {
        name: name.clone(),
        kind: ServiceKind::ClusterIp,
        ips: vec![VIP.ip()],
        ports: vec![port],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    };
    Snapshot { version: 1, services: Arc::new([(name, Arc::new(service))].into()), ..Snapshot::default() }
}

const ROUNDS: usize = 4;
const VIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)), 80);
const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nhost: web.shop\r\nuser-agent: through\r\naccept: */*\r\nx-request-id: 1\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nserver: through\r\ncontent-type: text/plain\r\ncontent-length: 12\r\n\r\nhello, world";
