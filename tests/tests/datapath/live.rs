//! Connections that live while policies change.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weft_tests::packet::send_syn;
use weft_tests::{Pod, SocketRequest, at_a_rate, eventually, manifests, throughout};
use weft_transport::{Diag, Query, State, States};

use super::stage::{NOBODY, Stage, assert_eacces, from, from_block, listen, pod, policy};

#[test]
fn a_tighter_policy_ends_what_it_forbids_within_a_second_on_both_ends() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, world } = &stage;
    let far = pod(&world.node("b"), "web/far");
    let outsider = node.pod("x/outsider").outsider().start();
    let listener = listen(api, 8080);
    let _agent = node.agent();
    let clients = [front, cron, &far, &outsider];
    let connect = |client: &&Pod| [api.addr(8080), api.addr6(8080)].map(|to| client.tcp_connect(to).unwrap());
    let streams: Vec<TcpStream> = clients.iter().flat_map(connect).collect();
    eventually(Duration::from_secs(1), || live(api).len() == streams.len());
    // Of each client, the server has taken one and left one in the queue.
    let served: Vec<_> = (0..clients.len()).map(|_| listener.accept().unwrap().0).collect();

    let began = Instant::now();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let [allowed, forbidden] = [&streams[..2], &streams[2..]];
    let mut ends: Vec<_> = forbidden.iter().map(|_| None).collect();
    eventually(SECOND, || {
        for (end, stream) in ends.iter_mut().zip(forbidden).filter(|(end, _)| end.is_none()) {
            *end = how_it_ended(stream);
        }
        ends.iter().all(Option::is_some) && live(api).len() == allowed.len()
    });
    assert!(began.elapsed() < SECOND, "both ends were closed after {:?}", began.elapsed());
    assert_eq!(live(front).len(), 2);
    assert_eq!(live(cron).len(), 0);
    let (here, elsewhere) = ends.split_at(2);
    // On this node, whichever comes first: the server's reset, or the end of the client's own socket.
    let cut = |end: &Option<ErrorKind>| {
        matches!(end, Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted))
    };
    assert!(here.iter().all(cut), "{here:?}");
    assert!(elsewhere.iter().all(|end| *end == Some(ErrorKind::ConnectionReset)), "{elsewhere:?}");
    assert!(allowed.iter().all(is_open), "an allowed connection is not touched");
    drop(served);
}

#[test]
fn a_tighter_policy_ends_many_connections_and_half_open_ones_within_a_second() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let _listener = listen(api, 8080);
    let _agent = node.agent();
    let streams: Vec<_> = (0..MANY).map(|_| front.tcp_connect(api.addr(8080)).unwrap()).collect();
    // Nobody has this address: the handshake never ends.
    send_syn(&outsider, "10.77.99.99:41000".parse().unwrap(), api.addr(8080)).unwrap();
    let half_open = |state: &State| matches!(state, State::NewSynReceived | State::SynReceived);
    eventually(SECOND, || live(api).iter().filter(|state| half_open(state)).count() == 1);

    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    eventually(SECOND, || live(api).is_empty() && live(front).is_empty());
    assert!(!streams.iter().any(is_open));
}

#[test]
fn a_tighter_policy_ends_what_a_server_still_serves_after_its_listener_and_its_client_left() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let (by_service, attested) = (listen(api, 8080), listen(api, 9000));
    let ports = "[{port: 80, targetPort: 8080}]";
    let service = format!("{{clusterIP: 10.96.0.1, selector: {{app: api}}, ports: {ports}}}");
    node.apply("service.yaml", &manifests::service("shop/api", &service));
    let _agent = node.agent();
    let _server = front.serve_echo(7000);
    let own = api.tcp_connect(front.addr(7000)).unwrap();
    let one = cron.tcp_connect(api.addr(8080)).unwrap();
    node.apply_and_wait("policy.yaml", &policy("shop/api", "ALLOW", &from("web/cron")));
    let other = cron.tcp_connect(api.addr(9000)).unwrap();
    let served = [&by_service, &attested].map(|listener| {
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap()
    });
    drop((by_service, attested));
    cron.update(|manifest| manifest.enrol_as("disabled"));
    node.wait();
    assert!(is_open(&one) && is_open(&other), "leaving cuts nothing");

    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    eventually(SECOND, || !is_open(&one) && !is_open(&other));
    assert!(is_open(&own), "the pod's own is no server's");
    drop(served);
}

#[test]
fn a_live_connection_is_whose_namespace_has_it_and_not_whose_address_it_has() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let _server = api.serve_name(8080, "api");
    let _agent = node.agent();
    // `cron` takes the address of `front`, which is away.
    let address = format!("{}/16", front.ip());
    assert!(front.exec(&["ip", "link", "set", "eth0", "down"]).status.success());
    assert!(cron.exec(&["ip", "address", "add", &address, "dev", "eth0"]).status.success());
    let taken = SocketRequest::tcp(api.addr(8080)).from((front.ip(), 41_000).into());
    let taken = TcpStream::from(cron.open(&taken).unwrap());
    let own = cron.tcp_connect(api.addr(8080)).unwrap();
    for stream in [&taken, &own] {
        (&mut &*stream).read_exact(&mut [0; 4]).unwrap();
    }
    node.apply_and_wait("policy.yaml", &policy("shop/api", "ALLOW", &from("web/cron")));
    throughout(Duration::from_millis(500), || is_open(&own) && is_open(&taken));
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    eventually(SECOND, || !is_open(&own) && !is_open(&taken));
}

#[test]
fn a_tighter_policy_ends_connected_sockets_of_udp_servers_and_of_no_clients() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let resolver = node.pod("x/resolver").outsider().start();
    let _dns = resolver.serve_udp_name(53, "answer");
    let ports = "[{port: 90, targetPort: 9000, protocol: UDP}]";
    let service = format!("{{clusterIP: 10.96.0.1, selector: {{app: api}}, ports: {ports}}}");
    node.apply("service.yaml", &manifests::service("shop/api", &service));
    let _agent = node.agent();
    // A server that has a socket for each client beside the one that all begin with, and one that a Service
    // leads to, with its only socket.
    let port = SocketRequest::udp(api.addr(8080)).reuse_port();
    let listener = UdpSocket::from(api.open(&port).unwrap());
    let serve = |request: &SocketRequest, client: &Pod, to: SocketAddr| {
        let asking = client.udp((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let from = SocketAddr::from((client.ip(), asking.local_addr().unwrap().port()));
        let serving = UdpSocket::from(api.open(&request.clone().to(from)).unwrap());
        serving.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(is_served(&asking, &serving, to));
        (asking, serving)
    };
    let allowed = serve(&port, front, api.addr(8080));
    let forbidden = [
        serve(&port, cron, api.addr(8080)),
        serve(&port, &outsider, api.addr(8080)),
        serve(&SocketRequest::udp(api.addr(9000)), &outsider, api.addr(9000)),
    ];
    let own = api.udp_connect(resolver.addr(53)).unwrap();

    let began = Instant::now();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    for (_, serving) in &forbidden {
        assert_eq!(serving.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    assert!(began.elapsed() < SECOND, "all were ended after {:?}", began.elapsed());
    throughout(Duration::from_millis(500), || {
        assert!(is_served(&allowed.0, &allowed.1, api.addr(8080)), "the policy allows it");
        own.send(b"?").is_ok() && own.recv(&mut [0; 8]).is_ok()
    });
    listener.set_nonblocking(true).unwrap();
    assert!(listener.recv(&mut [0; 8]).is_err(), "each socket had its own client's datagrams");
}

#[test]
fn a_looser_policy_or_an_unrelated_change_cuts_nothing_and_loses_no_byte() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let db = pod(node, "shop/db");
    let _servers = [api.serve_echo(8080), db.serve_echo(8080)];
    let mine = from_block(&format!("{}/32", outsider.ip()));
    let allow = |extra: usize| {
        let more = (0..extra).map(|i| from_block(&format!("10.9.{i}.0/24")));
        policy("shop/api", "ALLOW", &all_of([from("web/*"), mine.clone()].into_iter().chain(more)))
    };
    let deny_block = |name: &str, i: usize| policy(name, "DENY", &from_block(&format!("10.8.{i}.0/24")));
    node.apply("policy.yaml", &allow(0));
    let _agent = node.agent();
    let idle: Vec<_> =
        [front, cron, &outsider].map(|client| client.tcp_connect(api.addr(8080)).unwrap()).into();
    let mut stream = front.tcp_connect(api.addr6(8080)).unwrap();
    let (stop, echoed) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let pump = scope.spawn(|| echo_until(&mut stream, &stop, &echoed));
        let churn = scope.spawn(|| connect_until(cron, api.addr(8080), &stop));
        for change in 0..20 {
            match change % 4 {
                0 => node.apply_and_wait("other.yaml", &deny_block("shop/db", change)),
                1 => node.apply_and_wait("policy.yaml", &allow(change)),
                2 => node.apply_and_wait("audit.yaml", &audited(&deny_block("shop/api", change))),
                _ => node.remove("other.yaml"),
            }
        }
        node.remove("policy.yaml");
        node.wait();
        stop.store(true, Ordering::Relaxed);
        pump.join().unwrap().expect("every byte comes back, in order");
        churn.join().unwrap().expect("no new connection is cut");
    });
    assert!(echoed.load(Ordering::Relaxed) > 1 << 20, "bytes went through all along");
    assert!(idle.iter().all(is_open));
}

#[test]
fn what_is_allowed_again_is_not_cut_for_what_was_forbidden_a_moment_before() {
    let Some(stage) = Stage::open() else { return };
    let Stage { cron, api, node, .. } = &stage;
    let listener = listen(api, 8080);
    let _agent = node.agent();
    for _ in 0..3 {
        stage.protect("ALLOW", NOBODY);
        stage.unprotect();
        let stream = cron.tcp_connect(api.addr(8080)).unwrap();
        throughout(SECOND, || is_open(&stream));
    }
    drop(listener);
}

#[test]
fn enrolling_a_running_pod_cuts_nothing_and_a_later_policy_holds_for_its_old_connections() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let _server = api.serve_echo(8080);
    api.update(|manifest| drop(manifest.labels.insert("weft.dev/mesh".into(), "disabled".into())));
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    let streams: Vec<_> =
        [front, cron, &outsider].map(|client| client.tcp_connect(api.addr(8080)).unwrap()).into();

    api.update(|manifest| manifest.enrol(true));
    node.wait();
    assert_eacces(cron.tcp_connect(api.addr(8080)));
    throughout(SECOND, || streams.iter().all(is_open));
    let connections = node.weft_json(&["get", "connections"]);
    let unmanaged = connections.as_array().unwrap().iter().filter(|one| one["managed"] == false).count();
    assert_eq!(unmanaged, 1, "the outsider's is the only one that no hook saw: {connections}");

    node.apply("policy.yaml", &policy("shop/api", "DENY", &from_block(&format!("{}/32", outsider.ip()))));
    eventually(SECOND, || !is_open(&streams[2]));
    assert!(is_open(&streams[0]) && is_open(&streams[1]), "what the new policy allows stays");
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    eventually(SECOND, || !streams.iter().any(is_open));
}

#[test]
fn replacing_one_refusal_by_another_never_lets_anybody_in() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let _server = api.serve_name(8080, "api");
    let refusal = |turn: usize| {
        let others =
            (1..RULES).map(|i| from_block(&format!("10.{}.{}.{}/26", 100 + turn % 100, i / 4, i % 4 * 64)));
        let (action, rule) = match turn % 3 {
            0 => return policy("shop/api", "ALLOW", &all_of(others.chain([NOBODY.to_owned()]))),
            1 => ("DENY", "[{networkAttributes: {ports: [8080]}}]".to_owned()),
            _ => ("DENY", from_block("10.77.0.0/16")),
        };
        policy("shop/api", action, &all_of(others.chain([rule])))
    };
    node.apply("policy.yaml", &refusal(0));
    let _agent = node.agent();
    let (stop, tried) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients = [front, &outsider].map(|client| {
            let (stop, tried) = (&stop, &tried);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert!(client.open(&SocketRequest::tcp(api.addr(8080))).is_err(), "let in");
                    tried.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            })
        });
        // Ten thousand rules are replaced each second: those of one policy, each time that another one is in force.
        scope.spawn(|| {
            let turns = (1..).take_while(|_| !stop.load(Ordering::Relaxed));
            turns.for_each(|turn| {
                node.apply("policy.yaml", &refusal(turn));
                // A quarter faster than is asked for; what is not read before the next one is there is nobody's.
                thread::sleep(Duration::from_millis(80));
            });
        });
        let stopping = Stopping(&stop);
        // Each time that rows are written they are those of another policy.
        let written = || node.metric("weft_apply_seconds_count", &[]);
        at_a_rate("policies of a thousand rules that are replaced", 10.0, written);
        drop(stopping);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert!(tried.load(Ordering::Relaxed) > 100);
}

/// Has whoever looks at it stop, also when the test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One list of rules.
fn all_of(rules: impl Iterator<Item = String>) -> String {
    let rules: Vec<_> = rules.map(|rules| rules[1..rules.len() - 1].to_owned()).collect();
    format!("[{}]", rules.join(", "))
}

/// The same policy under another name, and without effect.
fn audited(policy: &str) -> String {
    policy.replace("name: api}", "name: audit}").replace("action:", "mode: Audit, action:")
}

/// States of the connections of a pod.
fn live(pod: &Pod) -> Vec<State> {
    let sockets = Diag::open(&pod.netns()).unwrap().sockets(&Query::tcp(States::LIVE)).unwrap();
    sockets.iter().map(|socket| socket.state).collect()
}

/// A datagram reaches the server's socket, and its answer the client's.
fn is_served(asking: &UdpSocket, serving: &UdpSocket, to: SocketAddr) -> bool {
    let arrives = |socket: &UdpSocket| socket.recv(&mut [0; 8]).is_ok();
    asking.send_to(b"?", to).is_ok() && arrives(serving) && serving.send(b"!").is_ok() && arrives(asking)
}

/// Neither end has closed it, and no byte waits.
fn is_open(stream: &TcpStream) -> bool {
    how_it_ended(stream).is_none()
}

/// What its reader is told, once.
fn how_it_ended(stream: &TcpStream) -> Option<ErrorKind> {
    stream.set_nonblocking(true).unwrap();
    let told = stream.peek(&mut [0]).map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof);
    stream.set_nonblocking(false).unwrap();
    (told != ErrorKind::WouldBlock).then_some(told)
}

/// Sends numbers to an echo server and compares what comes back.
fn echo_until(stream: &mut TcpStream, stop: &AtomicBool, echoed: &AtomicU64) -> io::Result<()> {
    let mut next = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let sent: Vec<u8> = (next..next + 4096).flat_map(u64::to_be_bytes).collect();
        let mut back = vec![0; sent.len()];
        stream.write_all(&sent)?;
        stream.read_exact(&mut back)?;
        assert!(sent == back, "the echo differs");
        next += 4096;
        echoed.fetch_add(sent.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Connects again and again, each time for one question.
fn connect_until(client: &Pod, to: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = client.tcp_connect(to)?;
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0])?;
    }
    Ok(())
}

const SECOND: Duration = Duration::from_secs(1);
const MANY: usize = 500;
/// What each file costs is shared by so many.
const RULES: usize = 1000;
