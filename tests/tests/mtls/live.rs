//! Connections between nodes that go on: how they are listed and counted, and which of them missed the mesh.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use weft_tests::foreign::Foreign;
use weft_tests::{Node, Pod, eventually, manifests, private, soon};

use crate::stage::{API, Stage};

#[test]
fn a_live_connection_between_nodes_is_listed_once_at_each_with_its_path_and_both_identities() {
    let Some(stage) = Stage::open(&[]) else { return };
    let stream = echoing(&stage.web, API);
    exchange(&stream, 1000);
    let [web, api] = ["web", "api"].map(|name| format!("spiffe://cluster.local/ns/shop/sa/{name}"));
    for node in [&stage.a, &stage.b] {
        // The proxy tells who is at the other end a second after the connection began.
        let mut listed = Vec::new();
        eventually(SOON, || {
            listed = connections(node, &[]);
            listed.first().is_some_and(|one| {
                one["source"]["identity"] == web.as_str() && one["destination"]["pod"] == "api"
            })
        });
        assert_eq!(listed.len(), 1, "{listed:?}");
        let one = &listed[0];
        assert_eq!((&one["path"], &one["unprotected"]), (&"tls".into(), &Value::Null), "{one}");
        assert_eq!((&one["source"]["pod"], &one["destination"]["pod"]), (&"web".into(), &"api".into()));
        assert_eq!(one["destination"]["identity"], api, "{one}");
        assert_eq!(one["destination"]["port"], 8080, "{one}");
        assert_eq!(one["source"]["port"], port(&stream), "the client's own: {one}");
    }
    assert_eq!(connections(&stage.a, &[])[0]["bytesSent"], 1001, "the app's bytes, not those of TLS");
    let shown = weft_tests::text(&stage.b.weft(&["get", "connections"]));
    assert!(shown.contains(" tls ") && shown.contains(&web), "{shown}");
}

#[test]
fn where_an_app_sees_its_pods_own_address_its_connections_are_listed_as_their_clients_and_alone() {
    let hidden = "mount -t tmpfs none \"$0\"";
    let wrapper = private(hidden, Path::new("/proc/sys/net"));
    let serve = |api: &Pod| vec![api.serve_echo(8080)];
    let Some(stage) = Stage::start_by(["ca", "ca"], &wrapper, &[], serve) else { return };
    stage.wait();
    let streams = [echoing(&stage.web, API), echoing(&stage.web, API)];
    let mut ports = streams.each_ref().map(port);
    ports.sort_unstable();
    let mut listed = Vec::new();
    // Both come by the connection that the pods share, which is none of theirs.
    let ports_of = |listed: &[Value]| {
        let mut ports: Vec<_> = listed.iter().map(|one| one["source"]["port"].as_u64().unwrap()).collect();
        ports.sort_unstable();
        ports
    };
    eventually(SOON, || {
        listed = connections(&stage.b, &[]);
        ports_of(&listed) == ports.map(u64::from)
    });
    for one in &listed {
        assert_eq!(one["source"]["identity"], "spiffe://cluster.local/ns/shop/sa/web", "{one}");
        assert_eq!((&one["source"]["pod"], &one["path"]), (&"web".into(), &"tls".into()), "{one}");
        assert_eq!((&one["destination"]["pod"], &one["unprotected"]), (&"api".into(), &Value::Null), "{one}");
    }
}

#[test]
fn bytes_of_a_live_mutual_tls_connection_move_within_ten_seconds_at_both_ends() {
    let Some(stage) = Stage::open(&[]) else { return };
    let stream = echoing(&stage.web, API);
    let mut before = 1_u32;
    for more in [5000, 700] {
        exchange(&stream, more);
        before += u32::try_from(more).unwrap();
        for (node, reporter) in [(&stage.a, "source"), (&stage.b, "destination")] {
            let labels = [
                &format!("reporter=\"{reporter}\"")[..],
                "connection_security_policy=\"mutual_tls\"",
                "source_workload=\"web\"",
                "destination_workload=\"api\"",
            ];
            let moved = |name: &str| node.metric(name, &labels);
            // What the stage has asked before is counted beside it.
            let wanted = f64::from(before);
            eventually(TEN_SECONDS, || {
                moved("istio_tcp_sent_bytes_total") >= wanted
                    && moved("istio_tcp_received_bytes_total") >= wanted
            });
            let open =
                moved("istio_tcp_connections_opened_total") - moved("istio_tcp_connections_closed_total");
            assert!((open - 1.0).abs() < 0.5, "{open} are open at the {reporter}");
        }
    }
    let port = stream.local_addr().unwrap().port();
    let is_opened =
        |flow: &Value| flow["kind"] == "opened" && flow["path"] == "tls" && flow["source"]["port"] == port;
    assert!(stage.a.flows(&[]).iter().any(is_opened));
    let kill = nix::sys::signal::kill;
    kill(nix::unistd::Pid::from_raw(stage.a.proxy_pid()), nix::sys::signal::Signal::SIGKILL).unwrap();
    // What a proxy that was killed had open is closed, and only that.
    let of = |name: &str| {
        stage.a.metric(name, &["connection_security_policy=\"mutual_tls\"", "reporter=\"source\""])
    };
    soon(|| {
        (of("istio_tcp_connections_opened_total") - of("istio_tcp_connections_closed_total")).abs() < 0.5
    });
}

#[test]
fn plaintext_that_is_older_than_its_mode_or_comes_from_outside_is_listed_as_unprotected() {
    let disabled = manifests::mesh_config("{mtls: {mode: Disabled}}");
    let Some(stage) = Stage::open(&[("mesh.yaml", disabled)]) else { return };
    let older = echoing(&stage.web, API);
    assert!(listed(&stage.a).is_empty() && listed(&stage.b).is_empty(), "it is as it was asked for");
    stage.world.apply("mesh.yaml", &manifests::mesh_config("{mtls: {mode: Permissive}}"));
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    stage.settle();
    soon(|| stage.echoes(API, b"by mutual TLS").is_ok());
    // The one comes to the app by the kernel, the other by the proxy, which had to look.
    let outside = [&plain, &stranger].map(|client| echoing(client, stage.api.addr(8080)));
    let is_older = |node: &Node| listed(node).contains(&("OlderThanMutualTls".to_owned(), port(&older)));
    assert!(is_older(&stage.a) && is_older(&stage.b), "{:?} {:?}", listed(&stage.a), listed(&stage.b));
    for stream in &outside {
        soon(|| listed(&stage.b).contains(&("ClientOutside".to_owned(), port(stream))));
    }
    assert_eq!((listed(&stage.a).len(), listed(&stage.b).len()), (1, 3));
    for (why, count) in [("OlderThanMutualTls", 1.0), ("ClientOutside", 2.0)] {
        let counted = || stage.b.metric("weft_unprotected_connections", &[&format!("reason=\"{why}\"")]);
        eventually(SOON, || (counted() - count).abs() < 0.5);
    }
}

#[test]
fn a_connection_that_a_foreign_lookup_program_takes_from_the_proxy_is_listed_as_unprotected() {
    let Some(stage) = Stage::open(&[]) else { return };
    let listener = stage.api.tcp_listen(stage.api.addr(9090)).unwrap();
    let _foreign = Foreign::replacing_lookup(&stage.api, &listener).unwrap();
    eventually(SOON, || stage.b.degradations().iter().any(|line| line.contains("foreign (id")));
    // Whom nobody knows the proxy has to look at.
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    let taken = stranger.tcp_connect(stage.api.addr(8080)).unwrap();
    let (_accepted, from) = listener.accept().unwrap();
    assert_eq!(from, taken.local_addr().unwrap(), "it came by no proxy");
    // The proxy is given 10 s to tell of it.
    eventually(SOON, || listed(&stage.b).contains(&("ForeignHook".to_owned(), port(&taken))));
    let counted = || stage.b.metric("weft_unprotected_connections", &["reason=\"ForeignHook\""]);
    eventually(SOON, || (counted() - 1.0).abs() < 0.5);
}

/// The unprotected connections of a node: why, and the client's port.
fn listed(node: &Node) -> Vec<(String, u16)> {
    let port = |view: &Value| u16::try_from(view["source"]["port"].as_u64().unwrap()).unwrap();
    let why = |view: &Value| view["unprotected"].as_str().unwrap().to_owned();
    connections(node, &["--unprotected"]).iter().map(|view| (why(view), port(view))).collect()
}

/// Those that are established: one that has ended may be seen once more on its way out.
fn connections(node: &Node, arguments: &[&str]) -> Vec<Value> {
    let all = node.weft_json(&[&["get", "connections"], arguments].concat());
    all.as_array().unwrap().iter().filter(|one| one["state"] == "ESTAB").cloned().collect()
}

fn echoing(client: &Pod, to: SocketAddr) -> TcpStream {
    let stream = client.tcp_connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    exchange(&stream, 1);
    stream
}

fn exchange(mut stream: &TcpStream, bytes: usize) {
    stream.write_all(&vec![7; bytes]).unwrap();
    stream.read_exact(&mut vec![0; bytes]).unwrap();
}

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().unwrap().port()
}

/// contract: byte counters of live connections move at least every 10 s.
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Nobody promises it: what is looked at every 5 or 10 s, on a busy machine.
const SOON: Duration = Duration::from_mins(1);
