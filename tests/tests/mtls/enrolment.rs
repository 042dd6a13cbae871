//! A pod whose enrolment one node has heard of and the other has not.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use weft_tests::wire::Wire;
use weft_tests::{Node, Suspended, manifests, soon};

use crate::path::SECRET;
use crate::stage::{Stage, talks};

#[test]
fn a_server_that_only_its_clients_node_has_enrolled_is_refused_until_its_own_has_heard_of_it() {
    let Some(stage) = Stage::open(&[]) else { return };
    let late = stage.b.pod("shop/late").service_account("late").enrolled(false).start();
    late.update(|manifest| manifest.enrol_as("disabled"));
    let _echo = late.serve_echo(8080);
    let silent = late.tcp_listen(late.addr(8081)).unwrap();
    stage.settle();
    assert_eq!(talks(&stage.web, late.addr(8080)), Ok(()), "in clear, as it is not enrolled");

    let agent = stage.agents[1].pid().expect("it runs");
    let deaf = Suspended::new(agent.try_into().expect("as the kernel has it"));
    let wire = Wire::new(&late);
    late.update(|manifest| manifest.enrol_as("enabled"));
    stage.a.wait();
    // Nobody takes the handshake out: the app hears it, and answers what is none.
    for _ in 0..3 {
        let end = talks(&stage.web, late.addr(8080));
        assert!(is_cut(end), "{end:?}");
    }
    soon(|| says(&stage.a, "TlsMalformed"));
    soon(|| stage.a.metric("weft_proxy_rejected_total", &["reason=\"TlsMalformed\""]) >= 3.0);
    // One that says nothing is waited for as long as a handshake may take.
    let mut unanswered = stage.web.tcp_connect(late.addr(8081)).unwrap();
    unanswered.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    unanswered.write_all(SECRET).unwrap();
    let (_hears, _) = silent.accept().unwrap();
    let end = unanswered.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    soon(|| says(&stage.a, "TlsTimeout"));
    let none_in_clear = || wire.streams().iter().all(|stream| !stream.contains(SECRET));
    assert!(none_in_clear(), "what is refused is not tried again in clear");

    drop(deaf);
    stage.b.wait();
    soon(|| talks(&stage.web, late.addr(8080)).is_ok());
    assert!(none_in_clear());
}

#[test]
fn a_server_that_only_its_own_node_has_enrolled_follows_its_mode() {
    for (mode, takes_plaintext) in [("Permissive", true), ("Strict", false)] {
        let mesh = manifests::mesh_config(&format!("{{mtls: {{mode: {mode}}}}}"));
        let Some(stage) = Stage::open(&[("mesh.yaml", mesh)]) else { return };
        let late = stage.b.pod("shop/late").service_account("late").start();
        late.update(|manifest| manifest.enrol_as("disabled"));
        let _echo = late.serve_echo(8080);
        stage.settle();
        let agent = stage.agents[0].pid().expect("it runs");
        let deaf = Suspended::new(agent.try_into().expect("as the kernel has it"));
        late.update(|manifest| manifest.enrol_as("enabled"));
        stage.b.wait();
        // Its node waits for a client of the mesh to speak TLS: this one is, and does not know that it could.
        soon(|| {
            let end = talks(&stage.web, late.addr(8080));
            if takes_plaintext { end == Ok(()) } else { is_cut(end) && says(&stage.b, "Plaintext") }
        });
        drop(deaf);
        stage.a.wait();
        soon(|| talks(&stage.web, late.addr(8080)).is_ok());
    }
}

/// A reset, before or after what was sent.
fn is_cut(end: Result<(), ErrorKind>) -> bool {
    matches!(end, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// Whether a flow of the node has been refused for this reason.
fn says(node: &Node, reason: &str) -> bool {
    node.flows(&[]).iter().any(|flow| flow["reason"] == reason)
}
