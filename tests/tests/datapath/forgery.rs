//! Packets that claim to be somebody else's, made with raw sockets.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use socket2::{SockFilter, Socket};
use weft_tests::packet::{Segment, Sniffer, send_datagram, send_syn};
use weft_tests::{Pod, eventually, soon, throughout};
use weft_transport::{Diag, Query, States};

use super::attested::attested;
use super::stage::{NOBODY, Stage, assert_untouched, from, listen, policy};

#[test]
fn nobody_gets_in_by_the_address_and_port_of_a_connection_that_was_let_in() {
    forge_a_live_connection(Pod::addr);
}

#[test]
fn nobody_gets_in_by_those_of_a_connection_over_ipv6_either() {
    forge_a_live_connection(Pod::addr6);
}

fn forge_a_live_connection(addr: fn(&Pod, u16) -> SocketAddr) {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    // No hook of this node sees what it sends.
    let far = stage.world.node("b").pod("x/far").outsider().start();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let listener = listen(api, 8080);
    let _agent = node.agent();
    for forger in [cron, &outsider, &far] {
        let victim = front.tcp_connect(addr(api, 8080)).unwrap();
        let port = victim.local_addr().unwrap().port();
        let (served, _) = listener.accept().unwrap();
        let is_attested = || attested(node, addr(front, port), addr(api, 8080)).is_some();
        assert!(is_attested());

        // While it is connected: the kernel takes the SYN for a stray one.
        send_syn(forger, victim.local_addr().unwrap(), addr(api, 8080)).unwrap();
        throughout(Duration::from_millis(100), || talk(&victim, &served));
        assert_untouched(&listener);

        // After its close. Whoever closes first remembers the connection for a while, and would answer a SYN
        // by an ACK: that must be the victim.
        drop(victim);
        assert_eq!((&served).read(&mut [0]).unwrap(), 0);
        drop(served);
        eventually(Duration::from_secs(1), || !is_attested());
        assert_really_closed(api);
        assert_reset(forger, front, addr(front, port), addr(api, 8080));
        assert_untouched(&listener);
    }
}

#[test]
fn nobody_gets_in_by_a_connection_whose_server_is_gone() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let listener = listen(api, 8080);
    let _agent = node.agent();
    let victim = front.tcp_connect(api.addr(8080)).unwrap();
    let established = Instant::now();
    let port = victim.local_addr().unwrap().port();
    let (served, _) = listener.accept().unwrap();

    // The server's reset does not reach the victim, whose socket goes on living.
    let link = |state| assert!(front.exec(&["ip", "link", "set", "eth0", state]).status.success());
    link("down");
    set_socket_linger(&served, Some(Duration::ZERO)).unwrap();
    drop(served);
    assert_really_closed(api);
    link("up");
    soon(|| established.elapsed() > Duration::from_millis(1_050));
    assert!(attested(node, front.addr(port), api.addr(8080)).is_some(), "its socket is open");
    assert_reset(cron, front, front.addr(port), api.addr(8080));
    assert_untouched(&listener);
}

#[test]
fn a_refused_or_failed_connection_leaves_no_attestation() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    // Policy lets it in, but nobody listens yet.
    let bound = front.addr(41_000);
    let request = weft_tests::SocketRequest::tcp(api.addr(8080)).from(bound);
    assert!(front.open(&request).is_err());
    assert!(attested(node, bound, api.addr(8080)).is_none());
    let listener = listen(api, 8080);
    assert_reset(cron, front, front.addr(41_000), api.addr(8080));
    assert_untouched(&listener);
}

#[test]
fn a_client_is_proven_however_often_its_syn_is_sent() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let listener = Socket::from(api.socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP).unwrap());
    listener.bind(&SocketAddr::from((api.ip(), 8080)).into()).unwrap();
    listener.listen(0).unwrap();
    let _agent = node.agent();
    // The kernel drops the SYNs to a full queue, once they have been let in.
    let _waits = front.tcp_connect(api.addr(8080)).unwrap();
    thread::scope(|scope| {
        let late = scope.spawn(|| front.tcp_connect(api.addr(8080)));
        let begun = Instant::now();
        soon(|| late.is_finished() || begun.elapsed() > LONGER_THAN_ATTESTED);
        assert!(!late.is_finished(), "{:?}", late.join().unwrap());
        listener.accept().unwrap();
        late.join().unwrap().unwrap();
    });
    assert_eq!(node.stat("denied_lookup"), 0);
}

#[test]
fn a_connection_of_which_nothing_can_be_remembered_is_not_attested() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let listener = listen(api, 8080);
    let _agent = node.agent();
    let socket = Socket::from(front.socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP).unwrap());
    exhaust_option_memory(&socket).unwrap();
    socket.bind(&SocketAddr::from((front.ip(), 41_000)).into()).unwrap();
    let refused = socket.connect(&api.addr(8080).into()).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused), "nobody can prove who it is");
    drop(socket);
    assert!(attested(node, front.addr(41_000), api.addr(8080)).is_none(), "or who took it away again?");
    assert_reset(cron, front, front.addr(41_000), api.addr(8080));
    assert_untouched(&listener);
}

#[test]
fn a_packet_from_outside_with_the_pods_own_address_gets_nowhere() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let listener = listen(api, 8080);
    let datagrams = api.udp((Ipv6Addr::UNSPECIFIED, 8080).into()).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = node.agent();
    let mut sockets = Diag::open(&api.netns()).unwrap();
    for forger in [front, &outsider] {
        for (from, to) in [(api.addr(4000), api.addr(8080)), (api.addr6(4000), api.addr6(8080))] {
            send_syn(forger, from, to).unwrap();
            send_datagram(forger, from, to, b"forged").unwrap();
        }
    }
    throughout(Duration::from_millis(200), || {
        let begun = sockets.sockets(&Query::tcp(States::LIVE)).unwrap();
        let datagram = datagrams.recv_from(&mut [0; 8]);
        assert!(begun.is_empty(), "{begun:?}");
        datagram.is_err()
    });
    assert_untouched(&listener);
}

#[test]
fn an_address_that_the_pod_has_beside_its_ips_is_no_way_round_its_policy() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let listener = listen(api, 8080);
    let said = |pod: &Pod, command: &[&str]| String::from_utf8(pod.exec(command).stdout).unwrap();
    let shown = said(api, &["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "link"]);
    let address = shown.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap();
    let shown = said(&outsider, &["ip", "-o", "link", "show", "eth0"]);
    let link = shown.split(':').next().unwrap().parse().unwrap();
    let address: Ipv6Addr = address.parse().unwrap();
    let to = SocketAddrV6::new(address, 8080, 0, link);
    outsider.tcp_connect(to.into()).unwrap();
    listener.accept().unwrap();

    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = node.agent();
    assert!(outsider.tcp_connect(to.into()).is_err());
    assert_untouched(&listener);
}

/// A SYN from `forger` with an address of `victim` is answered by a reset, to the victim, and by
/// nothing else.
#[track_caller]
fn assert_reset(forger: &Pod, victim: &Pod, claimed: SocketAddr, server: SocketAddr) {
    let sniffer = Sniffer::new(victim, claimed.ip()).unwrap();
    let answers = |segment: &Segment| {
        segment.destination_port == claimed.port() && (segment.resets() || segment.accepts())
    };
    send_syn(forger, claimed, server).unwrap();
    let answer = sniffer.wait(Duration::from_secs(1), answers).unwrap().expect("the SYN is answered");
    assert!(answer.resets(), "{answer:?}");
    let more = sniffer.wait(Duration::from_millis(50), Segment::accepts).unwrap();
    assert_eq!(more, None);
}

/// No connection of `pod` is left within a second: the child that another test is just starting has a copy of each.
#[track_caller]
fn assert_really_closed(pod: &Pod) {
    let mut sockets = Diag::open(&pod.netns()).unwrap();
    eventually(Duration::from_secs(1), || sockets.sockets(&Query::tcp(States::LIVE)).unwrap().is_empty());
}

/// Leaves a socket less memory for options than its storage takes, by filters that let everything pass.
fn exhaust_option_memory(socket: &Socket) -> io::Result<()> {
    let attach = |words, numbers| {
        // The kernel makes several instructions of the first, and one of the second.
        let load_words = (0..words).map(|_| SockFilter::new(0x20, 0, 0, 0));
        let load_numbers = (0..numbers).map(|_| SockFilter::new(0, 0, 0, 0));
        let pass = SockFilter::new(6, 0, 0, u32::MAX);
        socket.attach_filter(&load_words.chain(load_numbers).chain([pass]).collect::<Vec<_>>())
    };
    let fits = |words, numbers| attach(words, numbers).and_then(|()| socket.detach_filter()).is_ok();
    let words = most(|words| fits(words, 0));
    attach(words, most(|numbers| fits(words, numbers)))
}

/// The largest number below the most instructions of a filter that `works`.
fn most(works: impl Fn(u16) -> bool) -> u16 {
    let (mut good, mut bad) = (0_u16, 4096);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if works(middle) { good = middle } else { bad = middle }
    }
    good
}

/// Bytes still go both ways.
fn talk(client: &TcpStream, server: &TcpStream) -> bool {
    server.set_nonblocking(false).unwrap();
    let (mut client, mut server, mut byte) = (client, server, [0]);
    client.write_all(b"?").and_then(|()| server.read_exact(&mut byte)).is_ok()
        && server.write_all(b"!").and_then(|()| client.read_exact(&mut byte)).is_ok()
}

/// An attestation holds for a second after the SYN, which by then has been sent again.
const LONGER_THAN_ATTESTED: Duration = Duration::from_millis(1_300);
