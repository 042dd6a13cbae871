//! Pods that come and go, a proxy that finishes, an agent that lends and takes back.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use weft_identity::ca::{self, DirectoryIssuer};
use weft_identity::{Clock, Held, Issuer as _, Order, Trust, TrustDomains};
use weft_model::AppProtocol::{Http, Http2, Tcp};
use weft_model::{ObjectName, ServiceAccount};
use weft_proxy::observe::Record;
use weft_proxy::{Error, Limits, Reason, Unlent, serve_agent};
use weft_transport::handover::{AgentEnd, FromProxy, Hello, Listening, Pod, Role, SOCKET, generation};
use weft_transport::memfd::Sealed;
use weft_transport::seqpacket::Listener;

use crate::mesh::{Mesh, PATIENCE, empty, full, get, plain, read, routed, rule};
use crate::server::Server;

#[tokio::test]
async fn a_drain_fails_no_request() {
    let mesh = Arc::new(Mesh::start().await);
    let (one, two) = (
        Server::http1(&mesh, |_| async { Response::new(full("ok")) }),
        Server::http2(&mesh, |_| async { Response::new(full("ok")) }),
    );
    let rules = vec![rule("/1", &[("one", 1)]), rule("/2", &[("two", 1)])];
    let backends: [(&str, Option<&str>, &[_]); 2] =
        [("one", Some("http"), &[one.address]), ("two", Some("kubernetes.io/h2c"), &[two.address])];
    mesh.serve_all(routed(Http, rules), &[], &backends);
    let drained = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for http2 in [false, true] {
        for path in ["/1", "/2"] {
            let (mesh, drained) = (Arc::clone(&mesh), Arc::clone(&drained));
            clients.push(tokio::task::spawn(async move {
                let mut answered = 0;
                if http2 {
                    let mut client = mesh.http2().await;
                    // A client that was told to go asks for no more.
                    while client.ready().await.is_ok() {
                        let request = Request::get(format!("http://web{path}")).body(empty()).unwrap();
                        match client.send_request(request).await {
                            Ok(answer) => assert_eq!(read(answer).await.0, 200),
                            Err(error) => assert!(error.is_canceled() && drained.load(SeqCst), "{error:?}"),
                        }
                        answered += 1;
                    }
                } else {
                    let mut client = mesh.http1().await;
                    loop {
                        client.ready().await.unwrap();
                        let answer = client.send_request(get(path)).await.unwrap();
                        let last = answer.headers().get("connection").is_some_and(|value| value == "close");
                        assert_eq!(read(answer).await.0, 200);
                        answered += 1;
                        if last {
                            assert!(drained.load(SeqCst));
                            break;
                        }
                    }
                }
                answered
            }));
        }
    }
    while one.heads().len() < 50 || two.heads().len() < 50 {
        tokio::task::yield_now().await;
    }
    drained.store(true, SeqCst);
    timeout(PATIENCE, mesh.handle.drain(Duration::from_mins(5))).await.expect("all connections end").unwrap();
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert!(mesh.handle.report().draining);
    assert!(matches!(mesh.handle.add_pod(mesh.pod()).await, Err(Error::Draining)));
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let mesh = Mesh::start().await;
    let listener = mesh.listen();
    mesh.serve(plain(Tcp), &[listener.local_addr().unwrap()]);
    let mut client = mesh.dial().await;
    let (_server, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    mesh.handle.drain(Duration::from_millis(50)).await.unwrap();
    let end = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_a_drain_cuts_is_told_with_its_reason_before_the_drain_is_over() {
    for (listens, asks) in [(Tcp, 0), (Http, 1), (Http2, 2)] {
        let mesh = Mesh::start().await;
        let server = Server::start(mesh.listen(), asks == 2, |_| std::future::pending::<Response<_>>());
        mesh.serve(plain(listens), &[server.address]);
        let mut reader = mesh.take_reader().await;
        let mut client = mesh.dial().await;
        if asks == 2 {
            client.write_all(HTTP2_REQUEST).await.unwrap();
        } else {
            client.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        }
        let arrived = async {
            while server.heads().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, arrived).await.expect("it is asked");
        mesh.handle.drain(Duration::from_millis(50)).await.unwrap();
        let mut records = Vec::new();
        while let Ok(Some(record)) = timeout(Duration::ZERO, reader.next()).await {
            records.push(record);
        }
        let reasons = records.iter().map(|record| match record {
            Record::Request(record) => ("request", record.reason),
            Record::Connection(record) => ("connection", record.reason),
            Record::Live { .. } => ("live", None),
        });
        let cut = |what| (what, Some(Reason::CUT));
        let wanted: &[_] = if asks > 0 { &[cut("connection"), cut("request")] } else { &[cut("connection")] };
        let mut reasons: Vec<_> = reasons.filter(|(what, _)| *what != "live").collect();
        reasons.sort_by_key(|(what, _)| *what);
        assert_eq!(reasons, wanted, "{listens:?}");
        assert_eq!(mesh.handle.report().pods[0].1.connections, 0);
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, client.read_to_end(&mut rest)).await.unwrap();
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{listens:?}");
    }
}

/// HTTP/2 with prior knowledge: preface, SETTINGS, and HEADERS of `GET http://web/` that end their stream.
const HTTP2_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x08\x01\x05\0\0\0\x01\x82\x86\x84\x41\x03web";

#[tokio::test]
async fn nothing_is_held_of_a_pod_that_was_removed() {
    let mesh = Mesh::start().await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    mesh.serve(plain(Http), &[server.address]);
    let mut kept = mesh.dial().await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    assert_ne!(timeout(PATIENCE, kept.read(&mut [0; 1024])).await.unwrap().unwrap(), 0);
    let before = sockets();
    mesh.handle.remove_pod(mesh.cookie()).await.unwrap();
    assert!(matches!(timeout(PATIENCE, kept.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
    assert!(mesh.handle.report().pods.is_empty());
    // The accepted one, the upstream one, the worker's listener and the proxy's own copy of the namespace.
    assert!(sockets() < before);
    // The listener is the agent's: a pod that comes back is served from where it was left.
    mesh.handle.add_pod(mesh.pod()).await.unwrap();
    let mut client = mesh.http1().await;
    assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
}

fn sockets() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn over_the_bounds_of_a_pod_connections_are_reset_and_requests_refused() {
    let limits = Limits { pod_connections: 2, pod_requests: 1, ..Limits::default() };
    let mesh = Mesh::with(limits).await;
    let server = Server::http1(&mesh, |_| std::future::pending());
    mesh.serve(plain(Http), &[server.address]);
    let (mut one, mut other) = (mesh.http1().await, mesh.http1().await);
    let waiting = one.send_request(get("/"));
    let refused = async {
        while server.heads().is_empty() {
            tokio::task::yield_now().await;
        }
        let (status, reason, _) = read(other.send_request(get("/")).await.unwrap()).await;
        assert_eq!((status, reason.as_str()), (503, "PodRequests"));
        let third = async { mesh.try_dial(true).await?.read(&mut [0]).await };
        assert!(timeout(PATIENCE, third).await.unwrap().is_err());
    };
    tokio::select! {
        _ = waiting => panic!("nobody answers"),
        () = refused => {}
    }
    assert_eq!(mesh.connection().await.reason, Some(Reason::POD_CONNECTIONS));
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let mesh = Mesh::with(limits).await;
    let server = Server::http1(&mesh, |_| async { Response::new(full("ok")) });
    mesh.serve(plain(Http), &[server.address]);
    let mut idle = mesh.http1().await;
    assert_eq!(read(idle.send_request(get("/")).await.unwrap()).await.0, 200);
    let mut idle_too = mesh.http2().await;
    let slash = || Request::get("http://web/").body(empty()).unwrap();
    assert_eq!(read(idle_too.send_request(slash()).await.unwrap()).await.0, 200);
    let mut slow = mesh.dial().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let end = timeout(PATIENCE, slow.read(&mut [0])).await.expect("it is cut off");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    idle.ready().await.unwrap();
    assert_eq!(read(idle.send_request(get("/")).await.unwrap()).await.0, 200);
    assert_eq!(read(idle_too.send_request(slash()).await.unwrap()).await.0, 200);
}

#[tokio::test]
async fn an_agent_fills_the_proxy_and_the_next_one_takes_back_what_it_holds() {
    let mesh = Mesh::start().await;
    mesh.handle.remove_pod(mesh.cookie()).await.unwrap();
    let server = Server::http2(&mesh, |_| async { Response::new(full("ok")) });
    let run = tempfile::tempdir().unwrap();
    let path = run.path().join(SOCKET);
    let (origins, lease) =
        (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/zero").unwrap());
    let agents = async {
        let (lent, listener) = (mesh.pod(), Listener::bind(&path).unwrap());
        let listeners = lent.listeners.into_iter().map(|socket| Listening { role: Role::Outbound, socket });
        let pod = Pod {
            name: ObjectName::new("shop", "client"),
            cookie: lent.cookie,
            addresses: Vec::new(),
            service_account: lent.service_account,
            netns: lent.netns,
            listeners: listeners.collect(),
            transparent: lent.transparent,
        };
        let snapshot = serde_json::to_vec(&mesh.snapshot(plain(Http2), &[server.address])).unwrap();
        let snapshot = Sealed::of(&snapshot).unwrap();
        let agent = meet(&listener).await;
        assert!(agent.take_back().await.unwrap().is_empty());
        // The pod comes before what it needs: it is acknowledged last.
        let first = agent.pod(&pod).await.unwrap();
        let second = agent.snapshot(1, &snapshot).await.unwrap();
        let third = agent.maps(origins.as_fd(), lease.as_fd()).await.unwrap();
        assert_eq!([acked(&agent).await, acked(&agent).await, acked(&agent).await], [second, third, first]);
        let mut client = mesh.http1().await;
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
        let report = mesh.handle.report();
        assert_eq!((report.snapshot, report.pods.len()), (Some(1), 1));
        // The agent is killed: the proxy goes on.
        drop((agent, listener, pod));
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
        std::fs::remove_file(&path).unwrap();
        let listener = Listener::bind(&path).unwrap();
        let agent = meet(&listener).await;
        let held = agent.take_back().await.unwrap();
        assert_eq!((held.len(), held[0].cookie), (1, mesh.cookie()));
        let unread = agent.snapshot(2, &Sealed::of(b"no snapshot").unwrap()).await.unwrap();
        assert!(matches!(said(&agent).await, FromProxy::Nack(nack) if nack.of == unread));
        let gone = agent.pod_gone(mesh.cookie()).await.unwrap();
        assert_eq!(acked(&agent).await, gone);
        let drain = agent.drain(Duration::from_mins(1)).await.unwrap();
        assert_eq!(acked(&agent).await, drain);
        agent
    };
    let hello = Hello::of_this_process(generation(), "proxy");
    let open = |_, _| Ok((mesh.origins() as _, Arc::new(Unlent) as _));
    let serving =
        serve_agent(&mesh.handle, mesh.take_reader().await, &path, hello, open, std::future::pending());
    let both = async { tokio::join!(serving, agents) };
    timeout(PATIENCE, both).await.expect("the proxy drains and returns");
}

#[tokio::test]
async fn certificates_outlive_their_agent_and_stay_until_the_next_one_has_better_or_wants_none() {
    let (mesh, run) = (Mesh::start().await, tempfile::tempdir().unwrap());
    let path = run.path().join(SOCKET);
    let client = mesh.pod().service_account.unwrap();
    let agents = async {
        let listener = Listener::bind(&path).unwrap();
        let agent = meet(&listener).await;
        agent.take_back().await.unwrap();
        let sent = agent.identities(1, &sealed(&issued(&client).await)).await.unwrap();
        assert_eq!(acked(&agent).await, sent);
        let svid = mesh.handle.endpoint_of(&client).unwrap().svid();
        assert_eq!(svid.id().service_account().as_ref(), Some(&client));
        assert_eq!(mesh.handle.report().certificates, 1);
        drop((agent, listener));
        std::fs::remove_file(&path).unwrap();

        let listener = Listener::bind(&path).unwrap();
        let agent = meet(&listener).await;
        agent.take_back().await.unwrap();
        let none = Held { missing: [client.clone()].into(), ..Held::default() };
        for broken in [sealed(&none), Sealed::of(b"no keys").unwrap()] {
            agent.identities(1, &broken).await.unwrap();
            said(&agent).await;
            assert_eq!(mesh.handle.endpoint_of(&client).unwrap().svid(), svid);
        }
        agent.identities(2, &sealed(&Held::default())).await.unwrap();
        acked(&agent).await;
        assert!(mesh.handle.endpoint_of(&client).is_none());
        let drain = agent.drain(Duration::from_mins(1)).await.unwrap();
        assert_eq!(acked(&agent).await, drain);
        agent
    };
    let hello = Hello::of_this_process(generation(), "proxy");
    let open = |_, _| Ok((mesh.origins() as _, Arc::new(Unlent) as _));
    let serving =
        serve_agent(&mesh.handle, mesh.take_reader().await, &path, hello, open, std::future::pending());
    let both = async { tokio::join!(serving, agents) };
    timeout(PATIENCE, both).await.expect("the proxy drains and returns");
}

/// What an agent holds for `account`, by an authority of its own.
async fn issued(account: &ServiceAccount) -> Held {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    ca::init(dir.path(), "mesh.example", &clock).unwrap();
    let issuer = DirectoryIssuer::new(dir.path(), clock);
    let authority = issuer.authority().await.unwrap();
    let domains = TrustDomains::new("mesh.example", []).unwrap();
    let order = Order { account: account.clone(), ttl: Duration::from_hours(1) };
    Held {
        trust: Some(Arc::new(Trust::new(domains, authority.roots).unwrap())),
        svids: [(account.clone(), Arc::new(issuer.issue(order).await.unwrap()))].into(),
        missing: [].into(),
    }
}

fn sealed(held: &Held) -> Sealed {
    Sealed::of(&held.to_wire()).unwrap()
}

async fn meet(listener: &Listener) -> AgentEnd {
    let hello = Hello::of_this_process(generation(), "agent");
    AgentEnd::greet(listener.accept().await.unwrap(), &hello).await.unwrap()
}

/// What the proxy says next, but for reports and records.
async fn said(agent: &AgentEnd) -> FromProxy {
    loop {
        match agent.receive().await.unwrap().expect("the proxy lives") {
            FromProxy::Report(_) => {}
            FromProxy::Records { id, .. } => agent.ack(id).await.unwrap(),
            said => return said,
        }
    }
}

async fn acked(agent: &AgentEnd) -> u64 {
    match said(agent).await {
        FromProxy::Ack { of } => of,
        other => panic!("{other:?}"),
    }
}
