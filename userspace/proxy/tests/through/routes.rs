//! What routes and policies ask for, as clients, servers and records see it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use tokio::time::timeout;
use weft_model::AppProtocol::Http;
use weft_model::{
    Abort, BackendTarget, Delay, FaultInjection, Filter, Fraction, HashKey, HeaderModifier, HttpLoadBalancer,
    Mirror, ObjectName, OutlierDetection, RateLimitRule, RouteKind, RouteName, SessionCarrier,
    SessionPersistence, TrafficSettings,
};
use weft_proxy::Reason;
use weft_telemetry::records::{Destination, Rule};

use crate::mesh::{Body, Mesh, PATIENCE, full, get, plain, read, routed, rule, with_traffic};
use crate::server::Server;

fn named(mesh: &Mesh, name: &'static str) -> Server {
    Server::http1(mesh, move |_| async move { Response::<Body>::new(full(name)) })
}

#[tokio::test]
async fn headers_are_changed_by_rule_and_backend_in_this_order() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    let set = |name: &str, value: &str| HeaderModifier {
        set: vec![(name.into(), value.into())],
        add: Vec::new(),
        remove: Vec::new(),
    };
    let mut changed = rule("/", &[("a", 1)]);
    changed.filters =
        vec![Filter::RequestHeaders(set("x-by", "rule")), Filter::ResponseHeaders(set("x-by", "rule"))];
    changed.backends[0].filters = vec![
        Filter::RequestHeaders(set("x-by", "backend")),
        Filter::ResponseHeaders(set("x-too", "backend")),
    ];
    mesh.serve_all(routed(Http, vec![changed]), &[], &[("a", None, &[server.address])]);
    let mut client = mesh.http1().await;
    let answer = client.send_request(get("/")).await.unwrap();
    assert_eq!(
        (&answer.headers()["x-by"], &answer.headers()["x-too"]),
        (&"rule".parse().unwrap(), &"backend".parse().unwrap())
    );
    assert_eq!(server.heads()[0].headers["x-by"], "backend");
}

#[tokio::test]
async fn a_mirror_gets_the_body_and_neither_delays_nor_fails_the_request() {
    let mesh = Mesh::start().await;
    let (sender, mut copies) = tokio::sync::mpsc::unbounded_channel();
    let mirror = Server::http1(&mesh, move |request| {
        let sender = sender.clone();
        async move {
            use http_body_util::BodyExt as _;
            let body = request.into_body().collect().await;
            let _ = sender.send(body.map(|body| body.to_bytes().len()).ok());
            // It never answers.
            std::future::pending().await
        }
    });
    let server = named(&mesh, "ok");
    let mut mirrored = rule("/", &[("a", 1)]);
    for name in ["mirror", "gone"] {
        let target = BackendTarget::Service { name: ObjectName::new("shop", name), port: 80 };
        mirrored.filters.push(Filter::Mirror(Mirror { target, share: Fraction::ALL }));
    }
    let others: [(&str, Option<&str>, &[_]); 3] = [
        ("a", None, &[server.address]),
        ("mirror", None, &[mirror.address]),
        ("gone", None, &[mesh.nobody()]),
    ];
    mesh.serve_all(routed(Http, vec![mirrored]), &[], &others);
    let mut client = mesh.http1().await;
    for body in ["", "0123456789"] {
        client.ready().await.unwrap();
        let request = Request::post("/").header("host", "web").body(full(body)).unwrap();
        assert_eq!(read(client.send_request(request).await.unwrap()).await.2, "ok");
        let copy = timeout(PATIENCE, copies.recv()).await.unwrap().unwrap();
        assert_eq!(copy, Some(body.len()));
    }
}

#[tokio::test]
async fn a_session_stays_with_its_endpoint_and_the_client_is_told_once() {
    let mesh = Mesh::start().await;
    let (a, b) = (named(&mesh, "a"), named(&mesh, "b"));
    let mut sticky = rule("/", &[("web", 1)]);
    sticky.session = Some(SessionPersistence {
        name: "x-session".into(),
        carrier: SessionCarrier::Header,
        absolute_timeout: None,
    });
    mesh.serve(routed(Http, vec![sticky]), &[a.address, b.address]);
    let mut client = mesh.http1().await;
    let first = client.send_request(get("/")).await.unwrap();
    let token = first.headers()["x-session"].clone();
    let stays = read(first).await.2;
    for _ in 0..20 {
        client.ready().await.unwrap();
        let mut request = get("/");
        request.headers_mut().insert("x-session", token.clone());
        let answer = client.send_request(request).await.unwrap();
        assert!(!answer.headers().contains_key("x-session"));
        assert_eq!(read(answer).await.2, stays);
    }
}

#[tokio::test]
async fn a_client_without_a_hash_cookie_is_given_one_that_keeps_it_where_it_is() {
    let mesh = Mesh::start().await;
    let servers = [named(&mesh, "a"), named(&mesh, "b"), named(&mesh, "c")];
    let key = HashKey::Cookie { name: "user".into(), path: None, ttl: None };
    let balancer = HttpLoadBalancer::ConsistentHash { key, table_size: 1021 };
    let traffic = TrafficSettings { load_balancer: Some(balancer), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &servers.map(|server| server.address));
    let mut client = mesh.http1().await;
    let first = client.send_request(get("/")).await.unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let stays = read(first).await.2;
    for _ in 0..20 {
        client.ready().await.unwrap();
        let mut request = get("/");
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        assert_eq!(read(client.send_request(request).await.unwrap()).await.2, stays);
    }
}

#[tokio::test]
async fn a_rate_limit_is_answered_with_when_to_come_again_and_outlives_an_update() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    let limit = RateLimitRule { requests: 1, per: Duration::from_hours(1), burst: 2, keys: Vec::new() };
    let traffic = TrafficSettings { rate_limit: Some(vec![limit]), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic.clone()), &[server.address]);
    let mut client = mesh.http1().await;
    for n in 0..4 {
        mesh.serve(with_traffic(Http, traffic.clone()), &[server.address]);
        client.ready().await.unwrap();
        let answer = client.send_request(get("/")).await.unwrap();
        let later = answer.headers().get("retry-after").cloned();
        let (status, reason, _) = read(answer).await;
        if n < 2 {
            assert_eq!(status, 200);
        } else {
            assert_eq!((status, reason.as_str()), (429, "RateLimited"));
            assert!((3500..=3600).contains(&later.unwrap().to_str().unwrap().parse().unwrap()));
        }
    }
}

#[tokio::test]
async fn a_fault_is_injected_without_asking_the_server() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    let time = Duration::from_millis(30);
    let faults = FaultInjection {
        delay: Some(Delay { time, share: Fraction::ALL }),
        abort: Some(Abort { status: Ok(418), share: Fraction::ALL }),
    };
    let traffic = TrafficSettings { faults: Some(faults), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &[server.address]);
    let began = tokio::time::Instant::now();
    let mut client = mesh.http1().await;
    let (status, reason, _) = read(client.send_request(get("/")).await.unwrap()).await;
    assert_eq!((status, reason.as_str()), (418, "FaultInjected"));
    assert!(began.elapsed() >= time && server.heads().is_empty());
}

#[tokio::test]
async fn a_fault_with_a_grpc_status_is_a_failure_to_every_client() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    let faults = FaultInjection { delay: None, abort: Some(Abort { status: Err(14), share: Fraction::ALL }) };
    let traffic = TrafficSettings { faults: Some(faults), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &[server.address]);
    let mut client = mesh.http1().await;
    let (status, reason, _) = read(client.send_request(get("/")).await.unwrap()).await;
    assert_eq!((status, reason.as_str()), (503, "FaultInjected"));
    let call = Request::post("http://web/a.B/C").header("content-type", "application/grpc");
    let answer = mesh.http2().await.send_request(call.body(full("")).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &HeaderValue::from(14)));
    assert!(server.heads().is_empty());
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_left_out() {
    let mesh = Mesh::start().await;
    let good = named(&mesh, "ok");
    let bad = Server::http1(&mesh, |_| async {
        let mut answer = Response::<Body>::new(full("bad"));
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    });
    let outliers =
        OutlierDetection { consecutive_5xx: 2, max_ejection_percent: 50, ..OutlierDetection::default() };
    let traffic = TrafficSettings { outlier_detection: Some(outliers), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &[good.address, bad.address]);
    let mut client = mesh.http1().await;
    for _ in 0..50 {
        client.ready().await.unwrap();
        read(client.send_request(get("/")).await.unwrap()).await;
    }
    assert_eq!((bad.heads().len(), good.heads().len()), (2, 48));
}

#[tokio::test]
async fn each_request_leaves_a_record_with_its_route_its_endpoint_and_its_reason() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "hello");
    mesh.serve_all(routed(Http, vec![rule("/a", &[("a", 1)])]), &[], &[("a", None, &[server.address])]);
    let mut client = mesh.http1().await;
    let request = Request::post("/a/b?c").header("host", "web").body(full("12345678")).unwrap();
    read(client.send_request(request).await.unwrap()).await;
    let record = mesh.request().await;
    let name = RouteName { kind: RouteKind::Http, name: ObjectName::new("shop", "web") };
    assert_eq!(record.rule, Some(Rule(name, 0)));
    assert_eq!(record.backend, Some(Destination(ObjectName::new("shop", "a"), 80)));
    assert_eq!((record.endpoint, record.tries), (Some(server.address), 1));
    assert_eq!((record.status, &*record.path, &*record.authority), (200, "/a/b", "web"));
    assert_eq!((record.received, record.sent, record.reason), (8, 5, None));
    assert!(record.upstream <= record.lasted && !record.id.is_empty());
    assert!(record.upstream > 0 && !record.grpc);
    client.ready().await.unwrap();
    read(client.send_request(get("/c")).await.unwrap()).await;
    let record = mesh.request().await;
    assert_eq!((record.status, record.reason, record.endpoint), (404, Some(Reason::NO_RULE), None));
    assert_eq!(record.id.len(), 36, "also of what is refused");
    drop(client);
    let record = mesh.connection().await;
    assert_eq!((record.reason, record.pod), (None, ObjectName::new("shop", "client")));
    let usage = mesh.handle.report().pods[0].1;
    assert_eq!((usage.requests, usage.requests_total, usage.connections_total), (0, 2, 1));
    assert!(usage.busy_ns > 0 && usage.received > 0 && usage.sent > 0);
}

#[tokio::test]
async fn a_service_that_is_gone_is_not_found_on_a_connection_from_before() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    mesh.serve(plain(Http), &[server.address]);
    let mut client = mesh.http1().await;
    assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
    mesh.handle.apply(&Arc::default()).unwrap();
    client.ready().await.unwrap();
    let (status, reason, _) = read(client.send_request(get("/")).await.unwrap()).await;
    assert_eq!((status, reason.as_str()), (503, "NoService"));
    assert!(client.ready().await.is_err(), "and it ends: who dials again is told by the kernel");
}

#[tokio::test]
async fn a_service_that_lost_its_routes_is_a_plain_one_to_connections_from_before() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    mesh.serve(routed(Http, vec![rule("/routed", &[("web", 1)])]), &[server.address]);
    let (mut first, mut second) = (mesh.http1().await, mesh.http2().await);
    assert_eq!(read(first.send_request(get("/other")).await.unwrap()).await.0, 404);
    assert_eq!(read(second.send_request(get("/other")).await.unwrap()).await.0, 404);
    mesh.serve_plainly(&[server.address]);
    first.ready().await.unwrap();
    assert_eq!(read(first.send_request(get("/other")).await.unwrap()).await.0, 200);
    assert_eq!(read(second.send_request(get("/other")).await.unwrap()).await.0, 200);
    let mut late = mesh.http1().await;
    assert_eq!(read(late.send_request(get("/")).await.unwrap()).await.0, 200, "it was on its way");
}
