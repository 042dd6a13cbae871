//! Connections of mutual TLS that are used again.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use weft_tests::wire::{Stream, Wire};
use weft_tests::{Node, Pod, manifests, soon, text};

use crate::path::{SECRET, shown};
use crate::stage::{API, Stage, talks};

#[test]
fn connections_between_the_same_pods_share_the_handshakes_of_a_few() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_echo(8080)]) else { return };
    let wire = Wire::new(&stage.api);
    stage.wait();
    for _ in 0..MANY {
        stage.echoes(API, SECRET).unwrap();
    }
    let labels = ["namespace=\"shop\"", "pod=\"web\""];
    soon(|| stage.a.metric("weft_proxy_connections_total", &labels) >= f64::from(MANY));
    // One for each worker, however many connections there are, and both ends count it.
    let workers = u32::try_from(thread::available_parallelism().unwrap().get()).unwrap();
    let most = f64::from(workers);
    let handshakes = |node: &Node, pod: &str| node.metric("weft_proxy_tls_handshakes_total", &[pod]);
    soon(|| handshakes(&stage.b, "pod=\"api\"") >= 1.0);
    for (node, pod) in [(&stage.a, "pod=\"web\""), (&stage.b, "pod=\"api\"")] {
        let shaken = handshakes(node, pod);
        assert!((1.0..=most).contains(&shaken), "{pod}: {shaken} handshakes, {most} workers");
    }
    let streams = wire.begun(2);
    assert!(streams.iter().all(Stream::is_tls13), "{}", shown(&streams[0]));
}

#[test]
fn no_identity_uses_the_connection_of_another_even_of_the_same_node() {
    let Some(stage) = Stage::open(&[]) else { return };
    let wire = Wire::new(&stage.api);
    let other = stage.a.pod("shop/other").service_account("other").start();
    let twin = stage.a.pod("shop/twin").service_account("web").start();
    stage.settle();
    for pod in [&other, &twin] {
        soon(|| talks(pod, API).is_ok());
        stage.echoes(API, SECRET).unwrap();
    }
    let is_from = |pod: &Pod| wire.streams().iter().any(|stream| stream.from.ip() == pod.ip());
    for pod in [&other, &twin] {
        soon(|| is_from(pod));
        let name = if pod.ip() == other.ip() { "pod=\"other\"" } else { "pod=\"twin\"" };
        soon(|| stage.a.metric("weft_proxy_tls_handshakes_total", &[name]) >= 1.0);
    }
    let identity = "spiffe://cluster.local/ns/shop/sa/other";
    soon(|| stage.b.flows(&[]).iter().any(|flow| flow["source"]["identity"] == identity));
}

#[test]
fn a_connection_that_nobody_reads_stops_no_other() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_echo(8081)]) else { return };
    soon(|| stage.echoes(stage.api.addr(8081), b"there?").is_ok());
    let listener = stage.api.tcp_listen(stage.api.addr(8080)).unwrap();
    let mut stalled = connect(&stage);
    let (_unread, _) = listener.accept().unwrap();
    stalled.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let block = vec![0; 1 << 16];
    let mut held = 0;
    let end = loop {
        match stalled.write(&block) {
            Ok(bytes) => held += bytes,
            Err(error) => break error.kind(),
        }
        assert!(held < 64 << 20, "nothing holds the writer");
    };
    assert_eq!(end, ErrorKind::WouldBlock);
    // As many as surely share its connection, whichever worker takes them.
    for _ in 0..16 {
        let mut client = connect(&stage);
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent = vec![7; 1 << 20];
        let mut back = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| client.write_all(&sent).unwrap());
            server.read_exact(&mut back).unwrap();
        });
        assert!(back == sent);
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_renewal_retires_what_was_opened_before_it_and_cuts_nothing() {
    let mesh = manifests::mesh_config("{certificates: {ttl: 30s}}");
    let Some(stage) = Stage::open(&[("mesh.yaml", mesh)]) else { return };
    let mut live = connect(&stage);
    talk(&mut live);
    let handshakes = || stage.a.metric("weft_proxy_tls_handshakes_total", &["pod=\"web\""]);
    soon(|| handshakes() >= 1.0);
    let workers = thread::available_parallelism().unwrap().get();
    let serial = || {
        let all = stage.a.weft_json(&["get", "certificates"]);
        all.to_string()
    };
    // Two renewals: more than one connection of every worker.
    let mut seen = Vec::from([serial()]);
    let before = handshakes();
    soon(|| {
        stage.echoes(API, SECRET).unwrap();
        let now = serial();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        seen.len() > workers + 1 && handshakes() > before
    });
    talk(&mut live);
}

#[test]
fn an_upgraded_proxy_is_asked_for_no_more_streams_and_cuts_none() {
    let Some(stage) = Stage::open(&[]) else { return };
    let mut live = connect(&stage);
    talk(&mut live);
    for node in [&stage.b, &stage.a] {
        let old = node.proxy_pid();
        let upgraded = node.weft(&["proxy", "upgrade"]);
        assert!(upgraded.status.success(), "{}", text(&upgraded));
        for _ in 0..16 {
            stage.echoes(API, SECRET).unwrap();
        }
        soon(|| node.proxy_pid() != old);
        talk(&mut live);
    }
}

#[test]
fn hundreds_at_once_are_carried() {
    let Some(stage) = Stage::open(&[]) else { return };
    let mut all: Vec<_> = (0..700).map(|_| connect(&stage)).collect();
    for stream in &mut all {
        talk(stream);
    }
    // Half of them go, the others are not touched.
    all.truncate(350);
    for stream in &mut all {
        talk(stream);
    }
}

fn connect(stage: &Stage) -> TcpStream {
    let stream = stage.web.tcp_connect(API).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A byte there and back.
fn talk(stream: &mut TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

const MANY: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(20);
