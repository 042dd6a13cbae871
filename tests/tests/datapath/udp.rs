//! Datagrams to Services.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use weft_tests::{Agent, Node, Pod, World, manifests, soon, throughout};

use crate::backends::{Backend, at, counter};

#[test]
fn an_unconnected_socket_sees_each_answer_come_from_the_address_it_asked() {
    let Some(world) = World::new() else { return };
    let Shop { web, api, .. } = &Shop::open(&world, &[]);
    let one = [("10.96.0.1:53", "api"), ("10.96.0.2:53", "db"), ("10.96.0.3:53", "api")];
    let six = [("[fd96::1]:53", "api"), ("[fd96::2]:53", "db")];
    let mapped = one.map(|(to, name)| (format!("[::ffff:{}", to.replace(":53", "]:53")), name));
    let own = api.pod.addr(5353);
    for (any, asked) in [
        ("0.0.0.0:0", one.map(|(to, name)| (at(to), name)).to_vec()),
        ("[::]:0", six.map(|(to, name)| (at(to), name)).to_vec()),
        ("[::]:0", mapped.map(|(to, name)| (at(&to), name)).to_vec()),
        ("0.0.0.0:0", vec![(own, "api"), (at("10.96.0.1:53"), "api"), (own, "api")]),
    ] {
        let socket = web.udp(at(any)).unwrap();
        for (to, name) in [asked.clone(), asked].concat() {
            socket.send_to(b"?", to).unwrap();
            assert_eq!(answer(&socket), (name.to_owned(), to));
        }
    }
    // All questions first, then all answers: both pods have more than one address here.
    let socket = web.udp(at("0.0.0.0:0")).unwrap();
    let both = [("10.96.0.1:53", "api"), ("10.96.0.2:53", "db")].map(|(to, name)| (name.to_owned(), at(to)));
    for (_, to) in &both {
        socket.send_to(b"?", to).unwrap();
    }
    let answers: BTreeSet<_> = both.iter().map(|_| answer(&socket)).collect();
    assert_eq!(answers, BTreeSet::from(both));
}

#[test]
fn a_connected_socket_hears_its_peer_alone_and_by_the_name_it_was_connected_by() {
    let Some(world) = World::new() else { return };
    let Shop { web, api, db, .. } = &Shop::open(&world, &[]);
    let [vip, other, again] = ["10.96.0.1:53", "10.96.0.2:53", "10.96.0.3:53"].map(at);
    // What Linux does without us: the answer to the explicit address does not reach the socket.
    let plain = (web.udp_connect(api.pod.addr(5353)).unwrap(), api.pod.addr(5353), db.pod.addr(5353));
    let meshed = (web.udp_connect(vip).unwrap(), vip, other);
    for (socket, peer, elsewhere) in [plain, meshed] {
        assert_eq!(socket.peer_addr().unwrap(), peer);
        socket.send_to(b"?", elsewhere).unwrap();
        socket.send(b"?").unwrap();
        assert_eq!(answer(&socket), ("api".to_owned(), peer));
        assert_silent(&socket);
    }
    // Another Service in front of the same pod does not change what the peer is called.
    let socket = web.udp_connect(vip).unwrap();
    socket.send_to(b"?", again).unwrap();
    assert_eq!(answer(&socket), ("api".to_owned(), vip));
    let six = web.udp_connect(at("[fd96::1]:53")).unwrap();
    six.send(b"?").unwrap();
    assert_eq!(answer(&six), ("api".to_owned(), at("[fd96::1]:53")));
    assert_eq!(six.peer_addr().unwrap(), at("[fd96::1]:53"));
}

#[test]
fn a_disconnected_socket_forgets_what_it_was_connected_by() {
    let Some(world) = World::new() else { return };
    let Shop { web, api, .. } = &Shop::open(&world, &[]);
    let socket = web.udp_connect(at("10.96.0.1:53")).unwrap();
    rustix::net::connect_unspec(&socket).unwrap();
    for to in [api.pod.addr(5353), at("10.96.0.3:53"), api.pod.addr(5353)] {
        socket.send_to(b"?", to).unwrap();
        assert_eq!(answer(&socket), ("api".to_owned(), to));
    }
    rustix::net::connect(&socket, &at("10.96.0.2:53")).unwrap();
    socket.send(b"?").unwrap();
    assert_eq!(answer(&socket), ("db".to_owned(), at("10.96.0.2:53")));
}

#[test]
fn sockets_connected_to_a_removed_backend_are_cut_within_two_seconds_and_no_others() {
    let Some(world) = World::new() else { return };
    let Shop { node, web, api, .. } = &Shop::open(&world, &[]);
    let [stale, other] = ["10.96.0.1:53", "10.96.0.2:53"].map(|vip| web.udp_connect(at(vip)).unwrap());
    let unconnected = web.udp(at("0.0.0.0:0")).unwrap();
    unconnected.send_to(b"?", at("10.96.0.1:53")).unwrap();
    assert_eq!(answer(&unconnected).1, at("10.96.0.1:53"));
    let late = web.udp(at("0.0.0.0:0")).unwrap();
    late.send_to(b"?", at("10.96.0.1:53")).unwrap();

    // Two that reach the same pod, but not as this Service's backend.
    let [direct, again] = [api.pod.addr(5353), at("10.96.0.3:53")].map(|to| web.udp_connect(to).unwrap());
    // And one that was its backend's once.
    let moved = web.udp_connect(at("10.96.0.1:53")).unwrap();
    rustix::net::connect(&moved, &api.pod.addr(5353)).unwrap();

    node.apply("slice-api.yaml", &slice("api", "IPv4", &[]));
    assert_cut(&stale);
    assert_eq!(stale.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);

    // The answer that was under way comes, by its name; the next question is refused.
    assert_eq!(answer(&late), ("api".to_owned(), at("10.96.0.1:53")));
    for unconnected in [&unconnected, &late] {
        let refused = unconnected.send_to(b"?", at("10.96.0.1:53")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        unconnected.send_to(b"?", api.pod.addr(5353)).unwrap();
        assert_eq!(answer(unconnected), ("api".to_owned(), api.pod.addr(5353)));
    }
    let others = [("other", &other), ("direct", &direct), ("again", &again), ("moved", &moved)];
    throughout(Duration::from_millis(500), || {
        for (name, socket) in others {
            assert_eq!(socket.send(b"?").map_err(|error| error.kind()), Ok(1), "send of {name}");
            let answer = socket.recv(&mut [0; 16]);
            assert!(answer.is_ok(), "recv of {name}: {answer:?}");
        }
        true
    });
    assert_eq!(other.peer_addr().unwrap(), at("10.96.0.2:53"));
    assert_eq!(again.peer_addr().unwrap(), at("10.96.0.3:53"));
}

#[test]
fn sockets_of_a_backend_that_went_while_the_agent_was_away_are_cut_when_it_is_back() {
    let Some(world) = World::new() else { return };
    let Shop { node, web, agent, .. } = &mut Shop::open(&world, &[]);
    let connect = |to: &str| web.udp_connect(at(to)).unwrap();
    let [stale, six, other] = ["10.96.0.1:53", "[fd96::1]:53", "10.96.0.2:53"].map(connect);
    agent.kill();
    node.apply("slice-api.yaml", &slice("api", "IPv4", &[]));
    node.apply("slice6-api.yaml", &slice("api", "IPv6", &[]));
    agent.restart();
    for socket in [stale, six] {
        assert_cut(&socket);
    }
    assert_eq!(other.send(b"?").unwrap(), 1);
    assert_eq!(answer(&other), ("db".to_owned(), at("10.96.0.2:53")));
}

#[test]
fn sockets_of_everybody_who_is_balanced_are_cut_with_their_backend() {
    let Some(world) = World::new() else { return };
    let Shop { node, web, .. } = &Shop::open(&world, &["--service-scope", "node"]);
    let (process, outside) = (node.host_process("app"), node.pod("shop/outside").enrolled(false).start());
    node.wait();
    let connect = |from: &Pod, to: &str| from.udp_connect(at(to)).unwrap();
    let by_name = ["10.96.0.1:53", "[::ffff:10.96.0.1]:53", "[fd96::1]:53"];
    let stale: Vec<_> =
        [web, &process, &outside].iter().flat_map(|from| by_name.map(|to| connect(from, to))).collect();
    let other = connect(&process, "10.96.0.2:53");
    // The whole Service goes, and its endpoints with it.
    for file in ["api.yaml", "slice-api.yaml", "slice6-api.yaml"] {
        node.remove(file);
    }
    for socket in &stale {
        assert_cut(socket);
    }
    assert_eq!(other.send(b"?").unwrap(), 1);
    assert_eq!(answer(&other), ("db".to_owned(), at("10.96.0.2:53")));
}

/// Ends within two seconds, though nobody sends.
#[track_caller]
fn assert_cut(socket: &UdpSocket) {
    let start = Instant::now();
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED), "{error}");
}

#[test]
fn an_answer_whose_question_is_forgotten_shows_its_sender_and_is_counted() {
    let Some(world) = World::new() else { return };
    let Shop { node, web, db, .. } = &Shop::open(&world, &["--map-size", "weft_udp_rev=512"]);
    // A server that answers when it is told to.
    let server = db.pod.udp(at("0.0.0.0:7000")).unwrap();
    let asking: Vec<_> = (0..32).map(|_| web.udp(at("0.0.0.0:0")).unwrap()).collect();
    for socket in &asking {
        socket.send_to(b"?", at("10.96.0.2:70")).unwrap();
    }
    let clients: Vec<_> = asking.iter().map(|_| server.recv_from(&mut [0; 16]).unwrap().1).collect();
    // The kernel keeps what is used least by CPU: those asked on one may outlive any number on another.
    on_every_cpu(|| {
        for _ in 0..2000 {
            web.udp(at("0.0.0.0:0")).unwrap().send_to(b"?", at("10.96.0.1:53")).unwrap();
        }
    });
    for client in clients {
        server.send_to(b"db", client).unwrap();
    }
    let shown: Vec<_> = asking.iter().map(|socket| answer(socket).1).collect();
    let forgotten = shown.iter().filter(|from| **from == db.pod.addr(7000)).count();
    let known = shown.iter().filter(|from| **from == at("10.96.0.2:70")).count();
    assert_eq!(forgotten + known, shown.len(), "{shown:?}");
    assert!(forgotten > 0, "2000 later sockets of each CPU fit beside 32 in a map of 512");
    assert_eq!(counter(node, "reverse_misses"), forgotten as u64);

    // Who asks again is known again.
    asking[0].send_to(b"?", at("10.96.0.2:70")).unwrap();
    let (_, client) = server.recv_from(&mut [0; 16]).unwrap();
    server.send_to(b"db", client).unwrap();
    assert_eq!(answer(&asking[0]).1, at("10.96.0.2:70"));
}

#[test]
fn datagrams_are_spread_over_the_backends() {
    let Some(world) = World::new() else { return };
    let Shop { node, web, .. } = &Shop::open(&world, &[]);
    let dns = Backend::several(node, "dns", 3);
    let spec =
        "{clusterIP: 10.96.0.4, selector: {app: dns}, ports: [{port: 53, protocol: UDP, targetPort: 5353}]}";
    node.apply_and_wait("dns.yaml", &manifests::service("shop/dns", spec));
    let mut seen = BTreeSet::new();
    soon(|| {
        let (name, from) = web.ask_udp(at("10.96.0.4:53")).unwrap();
        assert_eq!(from, at("10.96.0.4:53"));
        seen.insert(name);
        seen.len() == dns.len()
    });

    // Each of those was a socket of its own; one socket keeps to one backend.
    let socket = web.udp(SocketAddr::from((web.ip(), 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answers = BTreeSet::new();
    for _ in 0..30 {
        socket.send_to(b"?", at("10.96.0.4:53")).unwrap();
        let mut answer = [0; 64];
        let (length, _) = socket.recv_from(&mut answer).unwrap();
        answers.insert(answer[..length].to_vec());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

/// Services `api` and `again` (.1 and .3) in front of one pod, `db` (.2) in front of another.
struct Shop {
    node: Node,
    web: Pod,
    api: Backend,
    db: Backend,
    agent: Agent,
}

impl Shop {
    fn open(world: &World, arguments: &[&str]) -> Self {
        let node = world.node("a");
        let web = node.pod("shop/web").start();
        let [api, db] = ["api", "db"].map(|name| Backend::start(&node, name, name));
        for (name, last, backend) in [("api", 1, &api), ("db", 2, &db), ("again", 3, &api)] {
            let spec = format!(
                "{{clusterIP: 10.96.0.{last}, clusterIPs: [10.96.0.{last}, \"fd96::{last}\"], \
                  ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack, ports: [{PORTS}]}}"
            );
            node.apply(&format!("{name}.yaml"), &manifests::service(&format!("shop/{name}"), &spec));
            let (four, six) = (backend.pod.ip().into(), backend.pod.ip6().into());
            node.apply(&format!("slice-{name}.yaml"), &slice(name, "IPv4", &[four]));
            node.apply(&format!("slice6-{name}.yaml"), &slice(name, "IPv6", &[six]));
        }
        let agent = node.spawn_agent(arguments);
        node.wait();
        Self { node, web, api, db, agent }
    }
}

fn slice(service: &str, family: &str, addresses: &[std::net::IpAddr]) -> String {
    let ports = "[{name: dns, port: 5353, protocol: UDP}, {name: slow, port: 7000, protocol: UDP}]";
    let endpoints: Vec<_> = addresses.iter().map(|ip| format!("{{addresses: [\"{ip}\"]}}")).collect();
    let suffix = family.to_lowercase();
    manifests::endpoint_slice(
        &format!("shop/{service}"),
        &suffix,
        family,
        ports,
        &format!("[{}]", endpoints.join(", ")),
    )
}

/// Does `work` once on each CPU that this thread may run on.
fn on_every_cpu(mut work: impl FnMut()) {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).unwrap();
    for cpu in (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap()) {
        let mut one = CpuSet::new();
        one.set(cpu).unwrap();
        sched_setaffinity(this, &one).unwrap();
        work();
    }
    sched_setaffinity(this, &allowed).unwrap();
}

#[track_caller]
fn answer(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut name = [0; 64];
    let (len, from) = socket.recv_from(&mut name).unwrap();
    (String::from_utf8_lossy(&name[..len]).into_owned(), from)
}

#[track_caller]
fn assert_silent(socket: &UdpSocket) {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let error = socket.recv_from(&mut [0; 64]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

const PORTS: &str = "{name: dns, port: 53, protocol: UDP, targetPort: 5353}, {name: slow, port: 70, protocol: UDP, targetPort: 7000}";
