//! A mode that becomes Strict under live connections, and who passes it all the same.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use weft_tests::{Pod, eventually, manifests, soon, throughout};

use crate::path::SECRET;
use crate::stage::{API, Stage, talks};

/// What the pods of `api` take.
fn mode(mtls: &str) -> String {
    manifests::authentication_policy(
        "shop/api",
        &format!(
            "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], mtls: {mtls}}}"
        ),
    )
}

const STRICT_BUT_9090: &str = "{mode: Strict, portLevel: [{port: 9090, mode: Permissive}]}";

#[test]
fn a_mode_that_becomes_strict_ends_live_plaintext_within_a_second_at_both_ends_and_nothing_else() {
    let Some(stage) = Stage::open(&[]) else { return };
    let listeners = [8081, 9090].map(|port| listen(&stage.api, port));
    let [at, by_port] = [8081, 9090].map(|port| stage.api.addr(port));
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    let late = stage.a.pod("field/late").enrolled(false).start();
    let neighbour = stage.b.pod("field/neighbour").enrolled(false).start();
    let near = stage.b.pod("shop/near").start();
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    let silent = stage.a.pod("shop/silent").outsider().start();
    stage.settle();
    let connect = |client: &Pod, to: SocketAddr| {
        let listener = &listeners[usize::from(to == by_port)];
        soon_connected(client, to, listener)
    };
    let forbidden = [&plain, &late, &neighbour, &stranger].map(|client| connect(client, at));
    // Nobody has said anything on this one yet, neither end.
    let unheard = silent.tcp_connect(at).unwrap();
    let unheard = (unheard, listeners[0].accept().unwrap().0);
    let allowed = [
        connect(&stage.web, at),
        connect(&near, at),
        connect(&stage.kubelets[1], at),
        connect(&plain, by_port),
        connect(&stranger, by_port),
    ];
    // It is older than its enrolment: known by its address, proven by nobody.
    late.update(|manifest| manifest.enrol(true));
    stage.settle();
    throughout(Duration::from_millis(300), || forbidden.iter().chain(&allowed).all(is_open));

    let began = Instant::now();
    stage.world.apply("mode.yaml", &mode(STRICT_BUT_9090));
    let mut ends = vec![(None, None); forbidden.len() + 1];
    eventually(SECOND, || {
        for ((client, server), end) in forbidden.iter().chain([&unheard]).zip(&mut ends) {
            *end = (end.0.or_else(|| how_it_ended(client)), end.1.or_else(|| how_it_ended(server)));
        }
        ends.iter().all(|(client, server)| client.is_some() && server.is_some())
    });
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    let reset = |(client, _): &(Option<ErrorKind>, _)| *client == Some(ErrorKind::ConnectionReset);
    assert!(ends.iter().all(reset), "{ends:?}");
    throughout(Duration::from_millis(500), || allowed.iter().all(is_open));
    for (client, server) in &allowed {
        exchange(client, server);
    }
    assert_eq!(
        plain.tcp_connect(at).map(drop).map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionRefused),
        "nor does any come in"
    );
}

#[test]
fn a_mode_that_is_loosened_cuts_nothing_and_lets_plaintext_in() {
    let Some(stage) = Stage::open(&[("mode.yaml", mode(STRICT_BUT_9090))]) else { return };
    let listeners = [8081, 9090].map(|port| listen(&stage.api, port));
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    stage.settle();
    let live = [
        soon_connected(&stage.web, stage.api.addr(8081), &listeners[0]),
        soon_connected(&plain, stage.api.addr(9090), &listeners[1]),
    ];
    stage.world.apply("mode.yaml", &mode("{mode: Permissive}"));
    stage.settle();
    soon(|| plain.tcp_connect(stage.api.addr(8081)).is_ok());
    throughout(Duration::from_secs(1), || live.iter().all(is_open));
    for (client, server) in &live {
        exchange(client, server);
    }
}

#[test]
fn a_callers_port_stays_open_by_a_port_level_mode_while_the_others_are_strict() {
    let Some(stage) = Stage::start(&[("mode.yaml", mode(STRICT_BUT_9090))], |api| {
        vec![api.serve_echo(8080), api.serve_name(9090, "metrics")]
    }) else {
        return;
    };
    stage.wait();
    let scraper = stage.a.pod("monitoring/scraper").enrolled(false).start();
    let outside = stage.a.pod("shop/outside").outsider().start();
    stage.settle();
    for caller in [&scraper, &outside] {
        soon(|| caller.ask(stage.api.addr(9090)).is_ok_and(|name| name == "metrics"));
        soon(|| talks(caller, stage.api.addr(8080)).is_err());
    }
    stage.echoes(API, SECRET).unwrap();
}

#[test]
fn under_strict_the_kubelet_of_the_pods_own_node_probes_it_and_no_other_host_process_comes_in() {
    let Some(stage) = Stage::open(&[("mesh.yaml", manifests::mesh_config("{mtls: {mode: Strict}}"))]) else {
        return;
    };
    let other = stage.b.host_process("sshd");
    let [elsewhere, own] = &stage.kubelets;
    for to in [stage.api.addr(8080), stage.api.addr6(8080)] {
        assert_eq!(talks(own, to), Ok(()), "{to}");
        for refused in [&other, elsewhere] {
            assert!(talks(refused, to).is_err(), "{to}");
        }
    }
    assert!(stage.b.stat("probes") >= 2);
    assert_eq!(stage.a.stat("probes"), 0, "what another node's kubelet says of itself is believed by nobody");
    stage.echoes(API, SECRET).unwrap();
}

fn listen(pod: &Pod, port: u16) -> TcpListener {
    let listener = pod.tcp_listen((std::net::Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
    listener.set_nonblocking(false).unwrap();
    listener
}

/// Both ends of a connection on which a byte went each way.
fn soon_connected(client: &Pod, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut connected = None;
    soon(|| {
        connected = client.tcp_connect(to).ok();
        connected.is_some()
    });
    let client = connected.unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&client, &server);
    (client, server)
}

fn exchange(mut client: &TcpStream, mut server: &TcpStream) {
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"b").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn is_open((client, server): &(TcpStream, TcpStream)) -> bool {
    how_it_ended(client).is_none() && how_it_ended(server).is_none()
}

/// What its reader is told, once.
fn how_it_ended(stream: &TcpStream) -> Option<ErrorKind> {
    stream.set_nonblocking(true).unwrap();
    let told = stream.peek(&mut [0]).map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof);
    stream.set_nonblocking(false).unwrap();
    (told != ErrorKind::WouldBlock).then_some(told)
}

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
