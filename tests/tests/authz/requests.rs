//! Which requests are answered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use weft_tests::{HttpClient, Pod, SocketRequest, Suspended, soon};

use crate::stage::{API, Stage, ask};

/// `web` may read what is below `/items`.
const READ: &str = "action: ALLOW, rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}], \
                    httpAttributes: {methods: [GET, HEAD], paths: [{type: PathPrefix, value: /items}]}}]";
/// Nobody may see `/admin`.
const NO_ADMIN: &str =
    "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}}]";

#[test]
fn requests_are_allowed_by_who_sends_them_what_they_do_and_where() {
    let Some(stage) = Stage::open(READ) else { return };
    stage.gets(|stage| &stage.web, "/items/1", 200);
    let answer = ask(&stage.web, stage.api.addr(8080), ("GET", "/items"), &[]).unwrap();
    assert_eq!(answer.seen().target, "/items", "also by the pod's own address");
    for (pod, request, reason) in [
        (&stage.web, ("GET", "/other"), "NotAllowed"),
        (&stage.web, ("POST", "/items"), "NotAllowed"),
        (&stage.web, ("GET", "/itemsx"), "NotAllowed"),
        (&stage.web, ("GET", "/items/../admin"), "NotAllowed"),
        (&stage.web, ("GET", "/items/..%2fadmin"), "NotAllowed"),
        (&stage.other, ("GET", "/items"), "NotAllowed"),
        (&stage.plain, ("GET", "/items"), "NotAllowed"),
    ] {
        let to = if pod.ip() == stage.plain.ip() { stage.api.addr(8080) } else { API };
        let answer = ask(pod, to, request, &[]).unwrap();
        assert_eq!((answer.status, answer.header("x-weft-reason")), (403, reason), "{request:?}");
    }
    // The same connection serves on.
    let mut client = stage.web.http(API).unwrap();
    assert_eq!(client.ask(("GET", "/x"), &[], &[]).unwrap().status, 403);
    assert_eq!(client.ask(("GET", "/items"), &[], &[]).unwrap().status, 200);
}

#[test]
fn a_client_is_known_that_has_the_port_of_one_that_was_reset_before_it_was_accepted() {
    let Some(stage) = Stage::open(READ) else { return };
    stage.gets(|stage| &stage.web, "/items", 200);
    let from = SocketAddr::new(stage.web.ip().into(), 40_000);
    let request = SocketRequest::tcp(stage.api.addr(8080)).from(from);
    let connect = || stage.web.tcp_to_reset(&request).unwrap();
    for round in 0..10 {
        let suspended = Suspended::new(stage.node.proxy_pid());
        for _ in 0..3 {
            drop(connect());
        }
        let next = connect();
        drop(suspended);
        let answer = HttpClient::over(next).ask(("GET", "/items"), &[], &[]);
        assert_eq!(answer.map(|answer| answer.status).ok(), Some(200), "round {round}");
    }
}

#[test]
fn no_way_to_write_a_path_comes_round_a_deny_rule() {
    let Some(stage) = Stage::open(NO_ADMIN) else { return };
    stage.gets(|stage| &stage.web, "/admin", 403);
    for target in [
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/ADMIN",
        "/x/%2e%2e/admin",
        "/x%2f..%2fadmin",
        "/admin%2fx",
        "/x%5c..%5cadmin",
        "/admin;v=1",
        "/x/..;/admin",
        "/%2561dmin",
        "/admin?x=/public",
    ] {
        let answer = ask(&stage.web, API, ("GET", target), &[]).unwrap();
        assert_eq!((answer.status, answer.header("x-weft-reason")), (403, "PolicyDenied"), "{target}");
    }
    for target in ["/admin%00", "/%zz", "/x\\..\\admin"] {
        assert_eq!(ask(&stage.web, API, ("GET", target), &[]).unwrap().status, 400, "{target}");
    }
    let answer = ask(&stage.web, API, ("GET", "/public/a%2fb;v=1?x=/admin"), &[]).unwrap();
    assert_eq!(answer.seen().target, "/public/a%2Fb;v=1?x=/admin", "what is not denied is passed on");
}

#[test]
fn a_client_that_has_no_more_to_ask_is_waited_for() {
    let Some(stage) = Stage::open(NO_ADMIN) else { return };
    stage.gets(|stage| &stage.web, "/admin", 403);
    for client in [&stage.web, &stage.plain] {
        let mut stream = client.tcp_connect(stage.api.addr(8080)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /wait/2500 HTTP/1.1\r\nhost: api\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn bytes_that_are_no_request_fail_closed() {
    let Some(stage) = Stage::open(READ) else { return };
    stage.gets(|stage| &stage.web, "/items", 200);
    assert_eq!(
        echo(&stage.web, stage.api.addr(9000)),
        Err(ErrorKind::ConnectionReset),
        "nothing allows bytes"
    );
    stage.apply(NO_ADMIN);
    soon(|| ask(&stage.web, API, ("GET", "/admin"), &[]).is_ok_and(|answer| answer.status == 403));
    soon(|| echo(&stage.web, stage.api.addr(9000)) == Err(ErrorKind::ConnectionReset));
    // Of a port that no rule about requests is for, nobody asks.
    stage.apply(&NO_ADMIN.replace("rules: [{", "rules: [{networkAttributes: {ports: [8080]}, "));
    soon(|| echo(&stage.web, stage.api.addr(9000)) == Ok(()));
    soon(|| ask(&stage.web, API, ("GET", "/admin"), &[]).is_ok_and(|answer| answer.status == 403));
}

#[test]
fn rules_about_connections_stay_in_the_kernel_beside_rules_about_requests() {
    let Some(stage) = Stage::open(
        "action: DENY, rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: other}}]}, \
         {httpAttributes: {paths: [{type: Exact, value: /admin}]}}]",
    ) else {
        return;
    };
    stage.gets(|stage| &stage.web, "/admin", 403);
    stage.gets(|stage| &stage.web, "/x", 200);
    let refused = stage.other.tcp_connect(stage.api.addr(8080)).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::PermissionDenied));
}

#[test]
fn an_audited_policy_is_shown_and_counted_and_decides_nothing() {
    let Some(stage) = Stage::open(&format!("mode: Audit, {NO_ADMIN}")) else { return };
    soon(|| {
        ask(&stage.web, API, ("GET", "/admin"), &[]).is_ok_and(|answer| answer.status == 200)
            && stage.node.metric("weft_audited_total", &[]) > 0.0
    });
    soon(|| {
        let audited = |flow: &serde_json::Value| {
            flow["verdict"] == "AUDIT" && flow["reason"] == "PolicyDenied" && flow["http"]["path"] == "/admin"
        };
        stage.node.flows(&[]).iter().any(audited)
    });
}

#[test]
fn a_refused_request_is_a_flow_with_its_reason() {
    let Some(stage) = Stage::open(READ) else { return };
    stage.gets(|stage| &stage.web, "/items", 200);
    soon(|| {
        let _ = ask(&stage.other, API, ("DELETE", "/items/7"), &[]);
        let denied = |flow: &serde_json::Value| {
            flow["verdict"] == "DENIED"
                && flow["reason"] == "NotAllowed"
                && flow["http"]["method"] == "DELETE"
                && flow["http"]["status"] == 403
                && flow["source"]["pod"] == "other"
                && flow["destination"]["pod"] == "api"
        };
        stage.node.flows(&[]).iter().any(denied)
    });
}

#[test]
fn a_request_is_a_flow_beside_those_of_its_connection_and_none_of_them_is_there_twice() {
    let Some(stage) = Stage::open(NO_ADMIN) else { return };
    stage.gets(|stage| &stage.web, "/admin", 403);
    let mut client = stage.web.http(stage.api.addr(8080)).unwrap();
    let port = client.stream().local_addr().unwrap().port();
    for _ in 0..2 {
        assert_eq!(client.ask(("GET", "/x"), &[], &[]).unwrap().status, 200);
    }
    drop(client);
    let mut kinds = Vec::new();
    soon(|| {
        let is_of_it = |flow: &&serde_json::Value| flow["source"]["port"] == port;
        let flows = stage.node.flows(&[]);
        kinds =
            flows.iter().filter(is_of_it).map(|flow| (flow["kind"].clone(), flow["path"].clone())).collect();
        kinds.sort_unstable_by_key(|(kind, _)| kind.to_string());
        kinds.len() >= 4
    });
    let wanted = [("closed", "kernel"), ("opened", "kernel"), ("request", "http"), ("request", "http")];
    assert_eq!(kinds, wanted.map(|(kind, path)| (kind.into(), path.into())));
}

/// Whether bytes come back.
fn echo(from: &Pod, to: SocketAddr) -> Result<(), ErrorKind> {
    let exchange = || {
        let mut stream = from.tcp_connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"\x00\x01bytes")?;
        stream.read_exact(&mut [0; 7])
    };
    exchange().map_err(|error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionRefused => ErrorKind::ConnectionReset,
        kind => kind,
    })
}
