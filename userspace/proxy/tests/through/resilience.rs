//! Endpoints that hang, fail, come and go; retries and their budget; limits by who asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Frame, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use weft_model::AppProtocol::{Http, Http2, Tcp};
use weft_model::{
    HttpLoadBalancer, LimitKey, OutlierDetection, RateLimitRule, Retry, RetryBudget, Timeouts,
    TrafficSettings,
};

use crate::mesh::{
    Body, Mesh, PATIENCE, empty, full, get, plain, read, routed, rule, with_traffic, workload,
};
use crate::server::Server;

const MS: Duration = Duration::from_millis(1);

fn answer(status: u16) -> Response<Body> {
    let mut answer = Response::new(full("body"));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// Answers with these, one after the other, again and again.
fn in_turn(mesh: &Mesh, statuses: &'static [u16]) -> Server {
    let asked = Arc::new(AtomicUsize::new(0));
    Server::http1(mesh, move |_| {
        let status = statuses[asked.fetch_add(1, SeqCst) % statuses.len()];
        async move { answer(status) }
    })
}

fn ejecting(local_failures: u32) -> TrafficSettings {
    TrafficSettings {
        load_balancer: Some(HttpLoadBalancer::RoundRobin),
        outlier_detection: Some(OutlierDetection {
            consecutive_local_failures: local_failures,
            max_ejection_percent: 50,
            ..OutlierDetection::default()
        }),
        ..TrafficSettings::default()
    }
}

fn retry(attempts: u32, codes: &[u16]) -> Retry {
    Retry { attempts, codes: codes.to_vec(), grpc_codes: vec![], backoff: MS }
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_left_out_though_only_the_whole_request_has_a_time() {
    let mesh = Mesh::start().await;
    let good = in_turn(&mesh, &[200]);
    let hangs = Server::http1(&mesh, |_| std::future::pending());
    let timeouts = Timeouts { request: Some(300 * MS), ..Timeouts::default() };
    let traffic = TrafficSettings { timeouts, ..ejecting(3) };
    mesh.serve(with_traffic(Http, traffic), &[good.address, hangs.address]);
    let mut client = mesh.http1().await;
    let mut late = 0;
    for _ in 0..40 {
        client.ready().await.unwrap();
        let (status, reason, _) = read(client.send_request(get("/")).await.unwrap()).await;
        match (status, reason.as_str()) {
            (200, "") => {}
            (504, "RequestTimeout") => late += 1,
            other => panic!("{other:?}"),
        }
    }
    // On a slow machine the other one may be late, too, now and then.
    assert!(hangs.heads().len() <= 3 && (3..15).contains(&late), "{late} of 40 were late");
}

#[tokio::test]
async fn an_endpoint_is_not_to_blame_for_a_client_that_does_not_finish_its_request() {
    let mesh = Mesh::start().await;
    let servers = [(); 2].map(|()| {
        Server::http1(&mesh, |request| async {
            let _ = request.into_body().collect().await;
            answer(200)
        })
    });
    let timeouts = Timeouts { request: Some(500 * MS), ..Timeouts::default() };
    let traffic = TrafficSettings { timeouts, ..ejecting(1) };
    mesh.serve(with_traffic(Http, traffic), &[servers[0].address, servers[1].address]);
    for _ in 0..8 {
        let mut client = mesh.http1().await;
        let first = futures_util::stream::iter([Ok(Frame::data("some".into()))]);
        let rest = futures_util::stream::pending();
        let body = StreamBody::new(futures_util::StreamExt::chain(first, rest)).boxed();
        let request = Request::post("/").header("host", "web").body(body).unwrap();
        let (status, reason, _) = read(client.send_request(request).await.unwrap()).await;
        assert_eq!((status, reason.as_str()), (504, "RequestTimeout"));
    }
    assert!(servers.iter().all(|server| server.heads().len() >= 3), "both are still asked in turn");
}

/// A listener that completes no handshake any more: what comes waits for room that nobody makes.
fn full_listener(mesh: &Mesh) -> (SocketAddr, Vec<std::net::TcpStream>, std::net::TcpListener) {
    mesh.inside(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // Room for one.
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let wait = Duration::from_millis(200);
        let fill = std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, wait).ok());
        let fillers = fill.collect();
        (address, fillers, listener)
    })
}

#[tokio::test]
async fn calls_that_wait_for_one_connection_share_that_it_did_not_come_about() {
    let mesh = Mesh::start().await;
    let (address, _fillers, _listener) = full_listener(&mesh);
    let timeouts = Timeouts { connect: Some(300 * MS), ..Timeouts::default() };
    mesh.serve(with_traffic(Http2, TrafficSettings { timeouts, ..TrafficSettings::default() }), &[address]);
    let client = mesh.http2().await;
    let began = Instant::now();
    let calls = (0..30).map(|_| {
        let mut client = client.clone();
        async move {
            let request = Request::get("http://web/").body(empty()).unwrap();
            read(client.send_request(request).await.unwrap()).await.1
        }
    });
    let reasons = timeout(PATIENCE, futures_util::future::join_all(calls)).await.unwrap();
    assert_eq!(reasons, vec!["ConnectTimeout"; 30]);
    // One after the other they would take 9 s.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_to_is_left_by_its_timeout() {
    let mesh = Mesh::start().await;
    let good = in_turn(&mesh, &[200]);
    let (address, _fillers, _listener) = full_listener(&mesh);
    let timeouts = Timeouts { connect: Some(300 * MS), ..Timeouts::default() };
    let traffic = TrafficSettings { timeouts, ..ejecting(2) };
    mesh.serve(with_traffic(Http, traffic.clone()), &[good.address, address]);
    let mut client = mesh.http1().await;
    let began = Instant::now();
    for _ in 0..100 {
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
    }
    // Asked every other time it would take 15 s.
    assert!(began.elapsed() < Duration::from_secs(8), "it is left out after two: {:?}", began.elapsed());
    mesh.serve(with_traffic(Http, traffic), &[address]);
    client.ready().await.unwrap();
    let (status, reason, _) = read(client.send_request(get("/")).await.unwrap()).await;
    assert_eq!((status, reason.as_str()), (503, "ConnectTimeout"));
}

#[tokio::test]
async fn a_relay_that_cannot_connect_tells_outlier_detection() {
    let mesh = Mesh::start().await;
    let (there, gone) = (mesh.listen(), mesh.nobody());
    mesh.serve(with_traffic(Tcp, ejecting(1)), &[there.local_addr().unwrap(), gone]);
    let relayed = async |n: usize| {
        let mut client = mesh.dial().await;
        client.write_all(b"?").await.unwrap();
        let (mut server, _) =
            timeout(PATIENCE, there.accept()).await.expect("the other one is left out").unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'?', "connection {n}");
    };
    for n in 0..2 {
        relayed(n).await;
    }
    // Nobody asks it, though it is there again.
    let _back = mesh.inside(|| std::net::TcpListener::bind(gone).unwrap());
    for n in 2..10 {
        relayed(n).await;
    }
}

#[tokio::test]
async fn the_budget_of_the_service_that_was_asked_holds_where_its_route_leads_elsewhere() {
    let mesh = Mesh::start().await;
    let server = in_turn(&mesh, &[503, 200]);
    let retry_budget = Some(RetryBudget { percent: 100, min_retries: 0, ..RetryBudget::default() });
    let traffic = Arc::new(TrafficSettings { retry_budget, ..TrafficSettings::default() });
    let mut retried = rule("/", &[("a", 1)]);
    (retried.retry, retried.traffic) = (Some(retry(1, &[503])), Arc::clone(&traffic));
    let mut routing = routed(Http, vec![retried]);
    routing.traffic = traffic;
    mesh.serve_all(routing, &[], &[("a", None, &[server.address])]);
    let mut client = mesh.http1().await;
    // More than the default of 10 a second and 20 %.
    for n in 0..60 {
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200, "request {n}");
    }
}

#[tokio::test]
async fn over_the_retry_budget_the_client_is_told_so() {
    let mesh = Mesh::start().await;
    let server = in_turn(&mesh, &[500]);
    let hour = Duration::from_hours(1);
    let retry_budget =
        Some(RetryBudget { percent: 0, min_retries: 1, min_interval: hour, ..RetryBudget::default() });
    let traffic =
        TrafficSettings { retry_budget, retry: Some(retry(1, &[500])), ..TrafficSettings::default() };
    mesh.serve(with_traffic(Http, traffic), &[server.address]);
    let mut client = mesh.http1().await;
    for (expected, tries) in [((500, ""), 2), ((503, "RetryBudget"), 3)] {
        client.ready().await.unwrap();
        let (status, reason, _) = read(client.send_request(get("/")).await.unwrap()).await;
        assert_eq!(((status, reason.as_str()), server.heads().len()), (expected, tries));
    }
}

#[tokio::test]
async fn a_retry_passes_by_who_is_left_out_but_not_by_who_is_there() {
    let mesh = Mesh::start().await;
    // The second one is left out soon; its answers are not worth another try.
    let (first, out, other) = (in_turn(&mesh, &[503, 200]), in_turn(&mesh, &[500]), in_turn(&mesh, &[200]));
    let outliers =
        OutlierDetection { consecutive_5xx: 2, max_ejection_percent: 50, ..OutlierDetection::default() };
    let budget = RetryBudget { min_retries: 1000, ..RetryBudget::default() };
    let traffic = Arc::new(TrafficSettings {
        load_balancer: Some(HttpLoadBalancer::RoundRobin),
        outlier_detection: Some(outliers),
        retry_budget: Some(budget),
        ..TrafficSettings::default()
    });
    let mut alone = rule("/alone", &[("web", 1)]);
    let mut beside = rule("/beside", &[("web", 1_000_000), ("other", 1)]);
    for rule in [&mut alone, &mut beside] {
        (rule.retry, rule.traffic) = (Some(retry(2, &[503])), Arc::clone(&traffic));
    }
    let mut routing = routed(Http, vec![alone, beside]);
    routing.traffic = traffic;
    let endpoints = [first.address, out.address];
    mesh.serve_all(routing, &endpoints, &[("other", None, &[other.address])]);
    let mut client = mesh.http1().await;
    let mut ask = async |path: &str| {
        client.ready().await.unwrap();
        read(client.send_request(get(path)).await.unwrap()).await.0
    };
    while out.heads().len() < 2 {
        ask("/alone").await;
    }
    for n in 0..10 {
        assert_eq!(ask("/alone").await, 200, "request {n}: the one that is there is asked again");
    }
    assert!(other.heads().is_empty());
    let mut elsewhere = 0;
    for n in 0..10 {
        assert_eq!(ask("/beside").await, 200, "request {n}");
        elsewhere = other.heads().len();
    }
    assert!(elsewhere > 0, "another backend that was not tried is asked first");
    assert_eq!(out.heads().len(), 2);
}

#[tokio::test]
async fn no_request_goes_to_an_endpoint_50_ms_after_it_is_gone_and_those_under_way_finish() {
    let mesh = Arc::new(Mesh::start().await);
    let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, waiting) = (Arc::clone(&entered), Arc::clone(&finish));
    let leaves = Server::http1(&mesh, move |request| {
        let (telling, waiting) = (Arc::clone(&telling), Arc::clone(&waiting));
        async move {
            if request.uri().path() == "/slow" {
                telling.notify_one();
                waiting.notified().await;
            }
            answer(200)
        }
    });
    let stays = in_turn(&mesh, &[200]);
    mesh.serve(plain(Http), &[leaves.address]);
    let mut slow = mesh.http1().await;
    let under_way =
        tokio::task::spawn(async move { read(slow.send_request(get("/slow")).await.unwrap()).await });
    timeout(PATIENCE, entered.notified()).await.unwrap();
    mesh.serve(plain(Http), &[leaves.address, stays.address]);
    // Each request says when its client began it, in milliseconds of the test.
    let (epoch, gone) = (Instant::now(), Arc::new(AtomicUsize::new(usize::MAX)));
    let since = move || usize::try_from(epoch.elapsed().as_millis()).unwrap();
    let clients = (0..8).map(|_| {
        let (mesh, gone) = (Arc::clone(&mesh), Arc::clone(&gone));
        tokio::task::spawn(async move {
            let mut client = mesh.http1().await;
            loop {
                client.ready().await.unwrap();
                let (now, mut request) = (since(), get("/"));
                request.headers_mut().insert("x-began", now.into());
                assert_eq!(read(client.send_request(request).await.unwrap()).await.0, 200);
                if now > gone.load(SeqCst).saturating_add(300) {
                    return;
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let both = async {
        while leaves.heads().len() < 100 || stays.heads().len() < 100 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, both).await.expect("both are asked");
    mesh.serve(plain(Http), &[stays.address]);
    gone.store(since(), SeqCst);
    for client in clients {
        timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    let began = |parts: &http::request::Parts| -> Option<usize> {
        parts.headers.get("x-began")?.to_str().unwrap().parse().ok()
    };
    let last = leaves.heads().iter().filter_map(began).max().unwrap();
    assert!(last <= gone.load(SeqCst) + 50, "begun at {last}, gone at {}", gone.load(SeqCst));
    assert!(stays.heads().iter().filter_map(began).max().unwrap() > gone.load(SeqCst) + 300);
    finish.notify_one();
    assert_eq!(timeout(PATIENCE, under_way).await.unwrap().unwrap().0, 200, "it was under way");
}

#[tokio::test]
async fn a_new_endpoint_starts_slowly() {
    let mesh = Mesh::start().await;
    let (old, new) = (in_turn(&mesh, &[200]), in_turn(&mesh, &[200]));
    let traffic = TrafficSettings {
        load_balancer: Some(HttpLoadBalancer::RoundRobin),
        slow_start: Some(Duration::from_hours(1)),
        ..TrafficSettings::default()
    };
    mesh.serve(with_traffic(Http, traffic.clone()), &[old.address]);
    mesh.serve(with_traffic(Http, traffic), &[old.address, new.address]);
    let mut client = mesh.http1().await;
    for _ in 0..400 {
        client.ready().await.unwrap();
        assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, 200);
    }
    // A tenth of the old one's share: 36. Outside of this once in 10^6 runs.
    let share = new.heads().len();
    assert!((8..80).contains(&share), "{share} of 400");
}

#[tokio::test]
async fn a_rate_limit_tells_clients_apart_by_a_header_and_by_their_identity() {
    let mesh = Mesh::start().await;
    let other = mesh.other_pod().await;
    let server = in_turn(&mesh, &[200]);
    let limited = |key| {
        let rule = RateLimitRule { requests: 1, per: Duration::from_hours(1), burst: 1, keys: vec![key] };
        with_traffic(Http, TrafficSettings { rate_limit: Some(vec![rule]), ..TrafficSettings::default() })
    };
    mesh.serve(limited(LimitKey::Header("x-user".into())), &[server.address]);
    let mut client = mesh.http1().await;
    for (user, expected) in [("a", 200), ("b", 200), ("a", 429), ("b", 429), ("c", 200)] {
        client.ready().await.unwrap();
        let request = Request::get("/").header("host", "web").header("x-user", user).body(empty()).unwrap();
        assert_eq!(read(client.send_request(request).await.unwrap()).await.0, expected, "{user}");
    }
    let mut snapshot = mesh.snapshot(limited(LimitKey::SourceIdentity), &[server.address]);
    snapshot.workloads = Arc::new(["client", "other"].map(workload).into());
    mesh.handle.apply(&snapshot).unwrap();
    for expected in [200, 429] {
        for mut client in [mesh.http1().await, other.http1().await] {
            assert_eq!(read(client.send_request(get("/")).await.unwrap()).await.0, expected);
        }
    }
}

#[tokio::test]
async fn a_connection_that_nothing_moves_on_ends_by_the_idle_timeout_of_its_service() {
    let mesh = Mesh::start().await;
    let timeouts = Timeouts { idle: Some(2000 * MS), ..Timeouts::default() };
    let traffic = TrafficSettings { timeouts, ..TrafficSettings::default() };
    let listener: TcpListener = mesh.listen();
    mesh.serve(with_traffic(Http, traffic), &[listener.local_addr().unwrap()]);
    let mut one = mesh.dial().await;
    one.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let (mut upstream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_ne!(upstream.read(&mut [0; 4096]).await.unwrap(), 0);
    upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    let mut got = Vec::new();
    timeout(PATIENCE, one.read_to_end(&mut got))
        .await
        .expect("the client's connection ends")
        .expect("in order");
    assert!(got.ends_with(b"ok"));
    let end = timeout(PATIENCE, upstream.read(&mut [0])).await.expect("the server's connection ends");
    assert!(matches!(end, Ok(0)), "{end:?}");
    // HTTP/2 is told to go, and loses nothing.
    let server = Server::http1(&mesh, |_| async { answer(200) });
    mesh.serve(
        with_traffic(Http, TrafficSettings { timeouts, ..TrafficSettings::default() }),
        &[server.address],
    );
    let io = TokioIo::new(mesh.dial().await);
    let (mut two, connection) = conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let ends = tokio::task::spawn(connection);
    let request = Request::get("http://web/").body(empty()).unwrap();
    assert_eq!(read(two.send_request(request).await.unwrap()).await.0, 200);
    timeout(PATIENCE, ends).await.expect("the connection ends").unwrap().expect("in order");
}
