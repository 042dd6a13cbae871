//! What is refused, and why it says it is.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::wire::Wire;
use weft_tests::{Node, soon, throughout};

use crate::path::SECRET;
use crate::stage::{API, Stage};

#[test]
fn nodes_of_two_authorities_do_not_believe_each_other_and_no_clear_byte_leaves() {
    let Some(stage) = Stage::start_with(["ca", "other"], &[], |api| vec![api.serve_echo(8080)]) else {
        return;
    };
    let wire = Wire::new(&stage.api);
    soon(|| {
        let _ = stage.echoes(API, SECRET);
        says(&stage.a, "CertificateUntrusted") && says(&stage.b, "TlsRefused")
    });
    assert!(wire.streams().iter().all(|stream| !stream.contains(SECRET)));
}

#[test]
fn without_the_clients_proxy_a_connection_is_refused_and_none_goes_in_clear() {
    let Some(stage) = Stage::open(&[]) else { return };
    let wire = Wire::new(&stage.api);
    let proxy = Pid::from_raw(stage.a.proxy_pid());
    // Away, and not dead: it would be started again.
    kill(proxy, Signal::SIGSTOP).unwrap();
    soon(|| {
        stage.web.tcp_connect(API).map(drop).map_err(|error| error.kind())
            == Err(ErrorKind::ConnectionRefused)
    });
    soon(|| says(&stage.a, "ProxyUnavailable"));
    kill(proxy, Signal::SIGCONT).unwrap();
    soon(|| stage.echoes(API, SECRET).is_ok());
    assert!(wire.streams().iter().all(|stream| !stream.contains(SECRET)));
}

#[test]
fn a_node_whose_agent_and_proxy_are_killed_is_reached_by_mutual_tls_or_not_at_all() {
    let Some(mut stage) = Stage::open(&[]) else { return };
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    stage.settle();
    let wire = Wire::new(&stage.api);
    for side in [0, 1] {
        let proxy = Pid::from_raw([&stage.a, &stage.b][side].proxy_pid());
        stage.agents[side].kill();
        kill(proxy, Signal::SIGKILL).unwrap();
        soon(|| stage.echoes(API, SECRET).is_err());
        throughout(Duration::from_secs(1), || stage.echoes(API, SECRET).is_err());
        // The kernel goes on with what needs no proxy: the mode is Permissive.
        let mut stranger = plain.tcp_connect(stage.api.addr(8080)).unwrap();
        stranger.write_all(b"clear").unwrap();
        stranger.read_exact(&mut [0; 5]).unwrap();
        stage.agents[side].start();
        soon(|| stage.echoes(API, SECRET).is_ok());
    }
    assert!(wire.streams().iter().all(|stream| !stream.contains(SECRET)));
}

#[test]
fn garbage_and_half_a_record_are_not_taken_for_mutual_tls() {
    let Some(stage) =
        Stage::open(&[("mesh.yaml", weft_tests::manifests::mesh_config("{mtls: {mode: Strict}}"))])
    else {
        return;
    };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    let to: SocketAddr = stage.api.addr(8080);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 1], &[0; 64]] {
        soon(|| {
            let Ok(mut stream) = stranger.tcp_connect(to) else { return false };
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = stream.write_all(garbage);
            let end = stream.read(&mut [0; 8]).map_err(|error| error.kind());
            end == Err(ErrorKind::ConnectionReset)
        });
    }
    stage.echoes(API, SECRET).unwrap();
}

#[test]
fn a_certificate_that_is_renewed_cuts_no_live_connection_and_serves_new_ones() {
    let Some(stage) =
        Stage::open(&[("mesh.yaml", weft_tests::manifests::mesh_config("{certificates: {ttl: 30s}}"))])
    else {
        return;
    };
    let serials = || [&stage.a, &stage.b].map(serial);
    let live = stage.web.tcp_connect(API).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let exchange = |mut stream: &std::net::TcpStream| {
        stream.write_all(b"still there?").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
    };
    exchange(&live);
    let before = serials();
    // Twice: what the connection began with has ended by then.
    for _ in 0..2 {
        let last = serials();
        soon(|| {
            exchange(&live);
            serials().iter().zip(&last).all(|(now, last)| now.is_some() && now != last)
        });
        stage.echoes(API, SECRET).unwrap();
    }
    assert!(before.iter().all(Option::is_some));
}

#[test]
fn a_new_issuer_and_a_new_root_cut_nothing_between_nodes() {
    let mesh = weft_tests::manifests::mesh_config("{certificates: {ttl: 30s}}");
    let Some(stage) = Stage::open(&[("mesh.yaml", mesh)]) else { return };
    let live = stage.web.tcp_connect(API).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let goes_on = |mut stream: &std::net::TcpStream| {
        stream.write_all(b"still there?").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        stage.echoes(API, SECRET).unwrap();
    };
    let folder = stage.world.dir().join("ca").display().to_string();
    for step in [&["issuer"][..], &["root"], &["root", "--finish", "--overlap", "30s"]] {
        // What certificates of the old root are out has to end first.
        soon(|| {
            goes_on(&live);
            stage.a.weft_alone(&[&["ca", "rotate", "--dir", &folder], step].concat()).status.success()
        });
        let before = [&stage.a, &stage.b].map(serial);
        soon(|| {
            goes_on(&live);
            [&stage.a, &stage.b].map(serial).iter().zip(&before).all(|(now, old)| now.is_some() && now != old)
        });
    }
}

#[test]
fn agents_that_are_killed_again_and_again_fail_nothing_between_nodes() {
    let Some(mut stage) = Stage::open(&[]) else { return };
    let mut live = stage.web.tcp_connect(API).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut exchange = || {
        live.write_all(b"still there?").unwrap();
        live.read_exact(&mut [0; 12]).unwrap();
    };
    let pids = [&stage.a, &stage.b].map(Node::proxy_pid);
    for turn in 0..3 {
        for index in [turn % 2, (turn + 1) % 2] {
            stage.agents[index].kill();
            exchange();
            stage.echoes(API, SECRET).unwrap();
        }
        for index in [0, 1] {
            stage.agents[index].start();
            exchange();
            stage.echoes(API, SECRET).unwrap();
        }
    }
    stage.settle();
    soon(|| stage.a.has_proxy() && stage.b.has_proxy());
    assert_eq!([&stage.a, &stage.b].map(Node::proxy_pid), pids, "each agent takes its proxy over");
}

/// The serial number of the node's one certificate.
fn serial(node: &Node) -> Option<String> {
    let view = node.weft_json(&["get", "certificates"]);
    Some(view["certificates"][0]["serial"].as_str()?.to_owned())
}

/// Whether a flow of the node has been refused for this reason.
fn says(node: &Node, reason: &str) -> bool {
    node.flows(&[]).iter().any(|flow| flow["reason"] == reason)
}
