//! A change of policy, while something goes on.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use weft_tests::{Pod, manifests, soon};

use crate::stage::{API, Stage, ask};

const OPEN: &str = "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /nothing}]}}]";
const NO_LONG: &str = "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /long}]}}]";
const PORT: u16 = 8081;
/// The Service in front of [`PORT`], where there is one.
const LONG: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 2)), 80);

#[test]
fn a_change_ends_exactly_the_answers_that_it_forbids_within_a_second() {
    let Some(stage) = Stage::open(OPEN) else { return };
    endless(&stage);
    let to = stage.api.addr(PORT);
    soon(|| ask(&stage.web, stage.api.addr(8080), ("GET", "/nothing"), &[]).is_ok_and(|a| a.status == 403));
    let (mut forbidden, mut allowed) = (begin(&stage.web, to, "/long"), begin(&stage.web, to, "/other"));
    stage.apply(NO_LONG);
    is_cut(&mut forbidden);
    goes_on(&mut allowed);
}

#[test]
fn the_first_policy_of_a_pod_ends_what_it_forbids_and_nothing_on_other_ports() {
    let Some(stage) = Stage::start(&[]) else { return };
    endless(&stage);
    let _other = stage.api.serve_echo(8082);
    let mut answer = begin(&stage.web, stage.api.addr(PORT), "/long");
    let mut other = stage.web.tcp_connect(stage.api.addr(8082)).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    stage.apply(&NO_LONG.replace("rules: [{", "rules: [{networkAttributes: {ports: [8081]}, "));
    is_cut(&mut answer);
    echoes(&mut other);
}

#[test]
fn the_first_policy_of_a_route_ends_exactly_the_requests_that_it_forbids() {
    let Some(stage) = routed() else { return };
    let (mut forbidden, mut allowed) = (begin(&stage.web, LONG, "/long"), begin(&stage.web, LONG, "/other"));
    let mut unanswered = ask_for(&stage.web, LONG, "/long/silent");
    by_route(&stage, NO_LONG);
    let enforced = Instant::now();
    is_cut(&mut forbidden);
    let mut refusal = [0; 12];
    unanswered.read_exact(&mut refusal).unwrap();
    assert_eq!(&refusal, b"HTTP/1.1 403", "it can be told");
    assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
    goes_on(&mut allowed);
}

#[test]
fn a_tunnel_that_is_forbidden_is_cut_within_a_second_and_another_goes_on() {
    let Some(stage) = Stage::open(OPEN) else { return };
    let to = stage.api.addr(8080);
    soon(|| ask(&stage.web, to, ("GET", "/nothing"), &[]).is_ok_and(|answer| answer.status == 403));
    let (mut forbidden, mut allowed) = (tunnel(&stage.web, to, "/long"), tunnel(&stage.web, to, "/other"));
    stage.apply(NO_LONG);
    is_cut(&mut forbidden);
    echoes(&mut allowed);
}

#[test]
fn a_tunnel_by_a_route_is_cut_by_the_first_policy_that_forbids_it() {
    let Some(stage) = routed() else { return };
    let (mut forbidden, mut allowed) = (tunnel(&stage.web, API, "/long"), tunnel(&stage.web, API, "/other"));
    by_route(&stage, NO_LONG);
    is_cut(&mut forbidden);
    echoes(&mut allowed);
}

#[test]
fn a_connection_from_before_is_judged_as_bytes_once_policies_read_requests() {
    let elsewhere = OPEN.replace("rules: [{", "rules: [{networkAttributes: {ports: [8080]}, ");
    let Some(stage) = Stage::open(&elsewhere) else { return };
    let mut live = stage.web.tcp_connect(stage.api.addr(9000)).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    live.write_all(b"x").unwrap();
    live.read_exact(&mut [0]).unwrap();
    stage.apply(OPEN);
    let enforced = Instant::now();
    let end = live.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "nobody can tell what is asked on it");
    assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
}

/// With routes for [`API`] and [`LONG`], and no policy.
fn routed() -> Option<Stage> {
    let long =
        "{clusterIP: 10.96.0.2, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8081}]}";
    let route = |service: &str| {
        let spec = format!(
            "{{parentRefs: [{{group: \"\", kind: Service, name: {service}, port: 80}}], rules: [{{backendRefs: \
             [{{name: {service}, port: 80}}]}}]}}"
        );
        manifests::http_route(&format!("shop/{service}"), &spec)
    };
    let documents = [
        ("long.yaml", manifests::service("shop/long", long)),
        ("route.yaml", route("api")),
        ("long-route.yaml", route("long")),
    ];
    let stage = Stage::start(&documents)?;
    endless(&stage);
    soon(|| stage.node.has_proxy());
    stage.node.wait();
    // By the proxy, which names each request.
    soon(|| {
        ask(&stage.web, API, ("GET", "/"), &[])
            .is_ok_and(|answer| answer.seen().headers.contains_key("x-request-id"))
    });
    Some(stage)
}

/// Puts a policy for both routes in force.
fn by_route(stage: &Stage, spec: &str) {
    let target = |name| format!("{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}}}");
    let policy = format!("{{targetRefs: [{}, {}], {spec}}}", target("api"), target("long"));
    stage.node.apply_and_wait("by-route.yaml", &manifests::authorization_policy("shop/by-route", &policy));
}

fn ask_for(from: &Pod, to: SocketAddr, path: &str) -> TcpStream {
    let mut stream = from.tcp_connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: api\r\n\r\n").unwrap();
    stream
}

/// An answer that has begun.
fn begin(from: &Pod, to: SocketAddr, path: &str) -> TcpStream {
    let mut stream = ask_for(from, to, path);
    let mut first = [0; 64];
    stream.read_exact(&mut first).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
    stream
}

/// A WebSocket whose server says what it hears.
pub(crate) fn tunnel(from: &Pod, to: SocketAddr, path: &str) -> TcpStream {
    let mut client = from.http(to).unwrap();
    let headers = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    assert_eq!(client.ask(("GET", path), &headers, &[]).unwrap().status, 101);
    let mut stream = client.stream().try_clone().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echoes(&mut stream);
    stream
}

pub(crate) fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"heard?").unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"heard?");
}

/// It ends by a reset within a second: what is cut does not look complete.
#[track_caller]
pub(crate) fn is_cut(stream: &mut TcpStream) {
    let enforced = Instant::now();
    let end = loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => break ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(end, ErrorKind::ConnectionReset);
    assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
}

fn goes_on(stream: &mut TcpStream) {
    for _ in 0..20 {
        stream.read_exact(&mut [0; 16]).unwrap();
    }
}

/// Has `api` answer every request on [`PORT`] without end, but those for what is silent.
fn endless(stage: &Stage) {
    let listener = stage.api.tcp_listen((Ipv6Addr::UNSPECIFIED, PORT).into()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    let mut stream = stream;
    if head.first().is_none_or(|line| line.contains("silent")) {
        // Until its client has gone.
        let _ = stream.read(&mut [0]);
        return;
    }
    let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    while sent.is_ok() {
        sent = stream.write_all(b"10\r\n0123456789abcdef\r\n");
        // A stream that goes on, not a flood.
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);
