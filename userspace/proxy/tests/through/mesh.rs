//! A pod in a namespace of its own, a proxy for it, and the origins that a hook would write. Needs root.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{Request, Response, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpSocket, TcpStream};
use weft_model::{
    AppProtocol, Backend, BackendTarget, Distribution, Endpoint, EndpointGroup, LoadBalancer, Mtls,
    ObjectName, PortRouting, Protocol, Route, RouteMatch, RouteRule, RouteSet, Service, ServiceAccount,
    ServiceKind, ServicePort, Snapshot, Timeouts, TrafficSettings, Workload,
};
use weft_proxy::observe::{ConnectionRecord, Reader, Record, RequestRecord};
use weft_proxy::{Handle, Lease, Limits, PodSockets, Proxy, Settings};
use weft_transport::testing::WrittenOrigins;
use weft_transport::{Netns, Origin, Transparent};

use crate::namespace::namespace;

/// The one address that clients dial.
pub(crate) const VIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);
const DIALLED: Origin = Origin { dialled: VIP, frontend: 1, chosen: None };
/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// See the module. The server's endpoints are in the same namespace, on other ports. Two workers share the connections.
pub(crate) struct Mesh {
    pub(crate) handle: Handle,
    reader: tokio::sync::Mutex<Option<Reader>>,
    netns: Netns,
    cookie: u64,
    origins: Arc<WrittenOrigins>,
    listener: TcpListener,
    version: Mutex<u64>,
}

/// Another pod. It is in the same namespace, so that it reaches the same servers, but nobody knows: a pod is known by
/// its cookie and its listeners.
pub(crate) struct OtherPod<'a> {
    mesh: &'a Mesh,
    cookie: u64,
    listener: TcpListener,
}

impl OtherPod<'_> {
    /// A client of HTTP/1 on a new connection of this pod.
    pub(crate) async fn http1(&self) -> conn::http1::SendRequest<Body> {
        http1(self.mesh.dial_as(self.cookie, &self.listener, Some(DIALLED)).await.unwrap()).await
    }

    /// A client of HTTP/2 on a new connection of this pod.
    pub(crate) async fn http2(&self) -> conn::http2::SendRequest<Body> {
        http2(self.mesh.dial_as(self.cookie, &self.listener, Some(DIALLED)).await.unwrap()).await
    }
}

/// A lease that nobody reads.
pub(crate) struct NoLease;

impl Lease for NoLease {
    fn renew(&self) -> Result<(), weft_transport::Error> {
        Ok(())
    }
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::of(2, limits).await
    }

    /// With so many workers.
    pub(crate) async fn of(workers: usize, limits: Limits) -> Self {
        let netns = namespace();
        let cookie = netns.cookie().unwrap();
        let origins = Arc::<WrittenOrigins>::default();
        let settings = Settings { workers: NonZeroUsize::new(workers), limits };
        let (handle, reader) =
            Proxy::start(settings, Arc::clone(&origins) as Arc<_>, Arc::new(NoLease)).unwrap();
        let listener = netns.listen("[::]:0".parse().unwrap()).unwrap();
        let mesh = Self {
            handle,
            reader: tokio::sync::Mutex::new(Some(reader)),
            cookie,
            netns,
            origins,
            listener,
            version: Mutex::new(0),
        };
        mesh.handle.add_pod(mesh.pod()).await.unwrap();
        mesh
    }

    pub(crate) fn origins(&self) -> Arc<WrittenOrigins> {
        Arc::clone(&self.origins)
    }

    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The pod, as an agent lends it.
    pub(crate) fn pod(&self) -> PodSockets {
        self.sockets("client", self.cookie, &self.listener)
    }

    /// Adds another pod.
    pub(crate) async fn other_pod(&self) -> OtherPod<'_> {
        let listener = self.netns.listen("[::]:0".parse().unwrap()).unwrap();
        let cookie = self.cookie + 1_000_000;
        self.handle.add_pod(self.sockets("other", cookie, &listener)).await.unwrap();
        OtherPod { mesh: self, cookie, listener }
    }

    fn sockets(&self, name: &str, cookie: u64, listener: &TcpListener) -> PodSockets {
        use std::os::fd::AsFd as _;
        PodSockets {
            name: ObjectName::new("shop", name),
            service_account: Some(ServiceAccount::new("shop", name)),
            cookie,
            netns: Netns::from_fd(self.netns.as_fd().try_clone_to_owned().unwrap()).unwrap(),
            listeners: vec![listener.try_clone().unwrap()],
            inbound: Vec::new(),
            transparent: Transparent::default(),
        }
    }

    /// A listening socket for a server.
    pub(crate) fn listen(&self) -> tokio::net::TcpListener {
        let listener = self.netns.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        tokio::net::TcpListener::from_std(listener).unwrap()
    }

    /// Does something inside the pod's namespace.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.netns.run(act).unwrap()
    }

    /// An address where nobody listens.
    pub(crate) fn nobody(&self) -> SocketAddr {
        self.netns.listen("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap()
    }

    /// Puts a Service in force: what `routing` says, and these endpoints.
    pub(crate) fn serve(&self, routing: PortRouting, endpoints: &[SocketAddr]) {
        self.serve_all(routing, endpoints, &[]);
    }

    /// As [`Mesh::serve`], with backends beside it that routes may name.
    pub(crate) fn serve_all(&self, routing: PortRouting, endpoints: &[SocketAddr], others: &[Other<'_>]) {
        self.handle.apply(&self.snapshot_of(Some(routing), endpoints, others)).unwrap();
    }

    /// As [`Mesh::serve`]; the endpoints are of the pod `shop/server` on another node.
    pub(crate) fn serve_elsewhere(&self, routing: PortRouting, endpoints: &[SocketAddr]) {
        let (name, server) = workload("server");
        let ips = vec![Ipv4Addr::LOCALHOST.into()];
        let server = Workload { ips, local: false, ..(*server).clone() };
        let workloads = Arc::new([(name, Arc::new(server))].into());
        let mtls = Arc::new(Mtls { on: true, ..Mtls::default() });
        self.handle.apply(&Snapshot { workloads, mtls, ..self.snapshot(routing, endpoints) }).unwrap();
    }

    /// The Service has neither routes nor policies any more.
    pub(crate) fn serve_plainly(&self, endpoints: &[SocketAddr]) {
        self.handle.apply(&self.snapshot_of(None, endpoints, &[])).unwrap();
    }

    /// What [`Mesh::serve`] puts in force.
    pub(crate) fn snapshot(&self, routing: PortRouting, endpoints: &[SocketAddr]) -> Snapshot {
        self.snapshot_of(Some(routing), endpoints, &[])
    }

    fn snapshot_of(
        &self,
        routing: Option<PortRouting>,
        endpoints: &[SocketAddr],
        others: &[Other<'_>],
    ) -> Snapshot {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        // Without routing, what it speaks is its own appProtocol.
        let protocol = routing.is_none().then_some("http");
        let mut web = service("web", protocol, endpoints);
        web.ips = vec![VIP.ip()];
        web.ports[0].routing = routing.map(Arc::new);
        let others = others.iter().map(|(name, protocol, endpoints)| service(name, *protocol, endpoints));
        let services = others.chain([web]).map(|service| (service.name.clone(), Arc::new(service)));
        Snapshot { version: *version, services: Arc::new(services.collect()), ..Snapshot::default() }
    }

    /// Dials the Service, as the hook would have it.
    pub(crate) async fn dial(&self) -> TcpStream {
        self.try_dial(true).await.unwrap()
    }

    /// Connects to the pod's listener, with an origin or without.
    pub(crate) async fn try_dial(&self, with_origin: bool) -> std::io::Result<TcpStream> {
        self.dial_as(self.cookie, &self.listener, with_origin.then_some(DIALLED)).await
    }

    /// Dials a pod that has to be spoken to by mutual TLS, as the hook would have it.
    pub(crate) async fn dial_chosen(&self, to: SocketAddr) -> TcpStream {
        let origin = Origin { dialled: to, frontend: 0, chosen: Some(to) };
        self.dial_as(self.cookie, &self.listener, Some(origin)).await.unwrap()
    }

    async fn dial_as(
        &self,
        cookie: u64,
        listener: &TcpListener,
        origin: Option<Origin>,
    ) -> std::io::Result<TcpStream> {
        let socket = self.netns.run(|| {
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                    .unwrap();
            rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            rustix::io::ioctl_fionbio(&socket, true).unwrap();
            socket
        });
        let socket = TcpSocket::from_std_stream(socket.unwrap().into());
        let from = socket.local_addr()?;
        if let Some(origin) = origin {
            self.origins.write(cookie, from, origin);
        }
        let to = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let stream = socket.connect(to).await?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// The record of the next connection that ends.
    pub(crate) async fn connection(&self) -> Box<ConnectionRecord> {
        loop {
            if let Record::Connection(record) = self.record().await {
                return record;
            }
        }
    }

    /// Why the next connection that is refused is.
    pub(crate) async fn refused(&self) -> weft_proxy::Reason {
        loop {
            if let Some(reason) = self.connection().await.reason {
                return reason;
            }
        }
    }

    /// The record of the next request that ends.
    pub(crate) async fn request(&self) -> Box<RequestRecord> {
        loop {
            if let Record::Request(record) = self.record().await {
                return record;
            }
        }
    }

    /// Why the next request and the next connection that is refused end, told in whichever order.
    pub(crate) async fn request_and_refused(&self) -> (Option<weft_proxy::Reason>, weft_proxy::Reason) {
        let (mut request, mut refused) = (None, None);
        loop {
            match self.record().await {
                Record::Request(record) => request = Some(record.reason),
                Record::Connection(record) => refused = record.reason.or(refused),
                Record::Live { .. } => {}
            }
            if let (Some(request), Some(refused)) = (request, refused) {
                return (request, refused);
            }
        }
    }

    async fn record(&self) -> Record {
        let mut reader = self.reader.lock().await;
        let reader = reader.as_mut().expect("an agent reads the records of this mesh");
        let next = tokio::time::timeout(PATIENCE, reader.next()).await;
        next.expect("something ends").expect("the proxy lives")
    }

    /// What records come out of, for whoever tells an agent.
    pub(crate) async fn take_reader(&self) -> Reader {
        self.reader.lock().await.take().expect("it is taken once")
    }

    /// A client of HTTP/1 on a new connection.
    pub(crate) async fn http1(&self) -> conn::http1::SendRequest<Body> {
        http1(self.dial().await).await
    }

    /// A client of HTTP/2 on a new connection.
    pub(crate) async fn http2(&self) -> conn::http2::SendRequest<Body> {
        http2(self.dial().await).await
    }
}

async fn http1(stream: TcpStream) -> conn::http1::SendRequest<Body> {
    let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender
}

async fn http2(stream: TcpStream) -> conn::http2::SendRequest<Body> {
    let (sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// A backend: its name, its `appProtocol`, its endpoints.
pub(crate) type Other<'a> = (&'a str, Option<&'a str>, &'a [SocketAddr]);
pub(crate) type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "web").body(empty()).unwrap()
}

/// The status, the reason and the body of an answer.
pub(crate) async fn read(answer: Response<Incoming>) -> (u16, String, String) {
    let reason = answer.headers().get("x-weft-reason").map(|reason| reason.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, reason.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

fn service(name: &str, app_protocol: Option<&str>, endpoints: &[SocketAddr]) -> Service {
    let name = ObjectName::new("shop", name);
    let endpoint = |address: &SocketAddr| Endpoint {
        address: *address,
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
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    Service {
        name,
        kind: ServiceKind::ClusterIp,
        ips: Vec::new(),
        ports: vec![ServicePort {
            name: "".into(),
            port: 80,
            protocol: Protocol::Tcp,
            app_protocol: app_protocol.map(Into::into),
            groups: vec![group],
            routing: None,
        }],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    }
}

/// A pod of a ServiceAccount of its own, as the snapshot knows it.
pub(crate) fn workload(name: &str) -> (ObjectName, Arc<Workload>) {
    let workload = Workload {
        name: ObjectName::new("shop", name),
        service_account: ServiceAccount::new("shop", name),
        ips: Vec::new(),
        node: None,
        local: true,
        labels: Arc::default(),
        enrolled: true,
        netns: None,
        ports: Vec::new(),
        owner: name.into(),
        ready: true,
        passage: weft_model::Passage::Done,
        terminating: false,
        created: u64::MAX,
    };
    (workload.name.clone(), Arc::new(workload))
}

/// A Service without routes that speaks this.
pub(crate) fn plain(protocol: AppProtocol) -> PortRouting {
    PortRouting { protocol, ..PortRouting::default() }
}

/// A Service with these settings.
pub(crate) fn with_traffic(protocol: AppProtocol, traffic: TrafficSettings) -> PortRouting {
    PortRouting { protocol, traffic: Arc::new(traffic), ..PortRouting::default() }
}

/// A Service with one HTTPRoute.
pub(crate) fn routed(protocol: AppProtocol, rules: Vec<RouteRule>) -> PortRouting {
    let route = Route { name: ObjectName::new("shop", "web"), rules };
    PortRouting { protocol, producer: RouteSet::Http(vec![Arc::new(route)]), ..PortRouting::default() }
}

/// A rule for everything below a path, to these backends.
pub(crate) fn rule(prefix: &str, backends: &[(&str, u32)]) -> RouteRule {
    let path = weft_model::PathMatch::Prefix(prefix.into());
    let backend = |(name, weight): &(&str, u32)| Backend {
        target: BackendTarget::Service { name: ObjectName::new("shop", *name), port: 80 },
        weight: *weight,
        filters: Vec::new(),
    };
    RouteRule {
        name: None,
        matches: vec![RouteMatch { path, ..RouteMatch::any() }],
        filters: Vec::new(),
        backends: backends.iter().map(backend).collect(),
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        traffic: Arc::default(),
    }
}
