//! What people are shown of connections between nodes, and requests over them.

use weft_tests::wire::{Stream, Wire};
use weft_tests::{manifests, soon};

use crate::path::{SECRET, shown};
use crate::stage::{API, Stage};

#[test]
fn a_connection_is_shown_with_its_path_both_identities_and_how_it_is_secured() {
    let Some(stage) = Stage::open(&[]) else { return };
    stage.echoes(API, SECRET).unwrap();
    for (node, reporter) in [(&stage.a, "source"), (&stage.b, "destination")] {
        soon(|| {
            node.flows(&[]).iter().any(|flow| {
                flow["path"] == "tls"
                    && flow["verdict"] == "FORWARDED"
                    && flow["source"]["identity"] == "spiffe://cluster.local/ns/shop/sa/web"
                    && flow["source"]["pod"] == "web"
                    && flow["destination"]["identity"] == "spiffe://cluster.local/ns/shop/sa/api"
                    && flow["destination"]["pod"] == "api"
                    && flow["bytesSent"] == SECRET.len()
                    && flow["bytesReceived"] == SECRET.len()
            })
        });
        let labels = [
            &format!("reporter=\"{reporter}\"")[..],
            "connection_security_policy=\"mutual_tls\"",
            "path=\"tls\"",
            "source_workload=\"web\"",
            "destination_workload=\"api\"",
        ];
        assert!(node.metric("istio_tcp_connections_opened_total", &labels) >= 1.0);
        assert!(node.metric("istio_tcp_sent_bytes_total", &labels) >= 40.0);
        let in_clear = ["connection_security_policy=\"none\"", "destination_workload=\"api\""];
        assert!(node.metric("istio_tcp_connections_opened_total", &in_clear) < 1.0, "it is counted once");
    }
    assert!(
        stage
            .a
            .flows(&[])
            .iter()
            .any(|flow| flow["path"] == "tls" && flow["destination"]["service"] == "api")
    );
    let told = stage.a.weft_json(&["explain", "--from", "shop/web", "--to", "shop/api:80"]);
    assert_eq!(told["path"], "tls", "{told}");
}

#[test]
fn requests_that_take_a_route_go_by_mutual_tls_too() {
    let route = "{parentRefs: [{group: \"\", kind: Service, name: api, port: 80}], rules: [{backendRefs: [{name: api, \
                 port: 80}]}]}";
    let documents = [("route.yaml", manifests::http_route("shop/api", route))];
    let Some(stage) = Stage::start(&documents, |api| vec![api.serve_http(8080, "api")]) else { return };
    let wire = Wire::new(&stage.api);
    let header = [("x-secret", "the secret that nobody on the wire reads")];
    soon(|| stage.web.get(API, "/", &header).is_ok_and(|answer| answer.status == 200));
    let answer = stage.web.get(API, "/", &header).unwrap();
    assert_eq!(answer.seen().headers["x-secret"], header[0].1);
    let is_clear = |stream: &&Stream| !stream.is_tls13();
    assert_eq!(wire.begun(2).iter().find(is_clear).map(shown), None);
    soon(|| {
        let labels = ["connection_security_policy=\"mutual_tls\"", "destination_workload=\"api\""];
        stage.a.metric("istio_requests_total", &labels) >= 1.0
    });
}
