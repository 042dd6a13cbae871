//! What a rule's filters and matches do to requests and answers on real connections.

use http::{Method, Request, Response};
use weft_model::{
    AppProtocol::Http, Cors, Filter, NameMatch, OriginPattern, PathRewrite, Redirect, Rewrite, ValueMatch,
};

use crate::mesh::{Body, Mesh, empty, full, get, read, routed, rule};
use crate::server::Server;

fn named(mesh: &Mesh, name: &'static str) -> Server {
    Server::http1(mesh, move |_| async move { Response::<Body>::new(full(name)) })
}

#[tokio::test]
async fn a_preflight_is_answered_here_and_the_request_after_it_by_the_server() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    let mut shared = rule("/", &[("web", 1)]);
    shared.filters = vec![Filter::Cors(Cors {
        origins: vec![OriginPattern::Exact("https://app.example".into())],
        credentials: true,
        methods: vec!["PUT".into()],
        headers: vec!["x-token".into()],
        expose: vec!["x-seen".into()],
        max_age: std::time::Duration::from_mins(1),
    })];
    mesh.serve(routed(Http, vec![shared]), &[server.address]);
    let mut client = mesh.http1().await;
    let asks = |method, origin: &str| {
        Request::builder().method(method).uri("/").header("host", "web").header("origin", origin)
    };
    let preflight = asks(Method::OPTIONS, "https://app.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "x-token");
    let answer = client.send_request(preflight.body(empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(answer.headers()["access-control-allow-methods"], "PUT");
    assert_eq!(answer.headers()["access-control-allow-headers"], "x-token");
    assert_eq!(answer.headers()["access-control-max-age"], "60");
    assert_eq!(read(answer).await.2, "");
    assert!(server.heads().is_empty());
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        client.ready().await.unwrap();
        let answer = client.send_request(asks(Method::PUT, origin).body(empty()).unwrap()).await.unwrap();
        let headers = answer.headers();
        assert_eq!(headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(headers.contains_key("access-control-expose-headers"), allowed, "{origin}");
        assert_eq!(read(answer).await.2, "ok");
    }
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn a_redirect_is_answered_here_and_a_rewrite_is_what_the_server_sees() {
    let mesh = Mesh::start().await;
    let server = named(&mesh, "ok");
    let prefix = |matched: &str, replacement: &str| PathRewrite::Prefix {
        matched: matched.into(),
        replacement: replacement.into(),
    };
    let mut moved = rule("/old", &[]);
    moved.filters = vec![Filter::Redirect(Redirect {
        scheme: Some("https".into()),
        hostname: Some("new.example".into()),
        path: Some(prefix("/old", "/new")),
        port: None,
        status: 301,
    })];
    let mut rewritten = rule("/api", &[("web", 1)]);
    let path = Some(prefix("/api", "/v1"));
    rewritten.filters = vec![Filter::Rewrite(Rewrite { hostname: Some("one.example".into()), path })];
    let mut grown = rule("/grown", &[("web", 1)]);
    let path = Some(prefix("/grown", &format!("/{}", "b".repeat(65_530))));
    grown.filters = vec![Filter::Rewrite(Rewrite { hostname: None, path })];
    mesh.serve(routed(Http, vec![moved, rewritten, grown]), &[server.address]);
    let mut client = mesh.http1().await;
    let answer = client.send_request(get("/old/a?b=c")).await.unwrap();
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.headers()["location"], "https://new.example/new/a?b=c");
    read(answer).await;
    client.ready().await.unwrap();
    let (status, reason, _) = read(client.send_request(get("/grown/too/long")).await.unwrap()).await;
    assert_eq!((status, reason.as_str()), (414, "TargetTooLong"));
    assert!(server.heads().is_empty());
    client.ready().await.unwrap();
    assert_eq!(read(client.send_request(get("/api/a?b=c")).await.unwrap()).await.2, "ok");
    let head = server.heads().pop().unwrap();
    assert_eq!(
        (head.uri.to_string(), &head.headers["host"]),
        ("/v1/a?b=c".to_owned(), &"one.example".parse().unwrap())
    );
}

#[tokio::test]
async fn a_rule_is_found_by_a_query_parameter_and_by_a_header() {
    let mesh = Mesh::start().await;
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(|name| (name, named(&mesh, name)));
    let by =
        |name: &str, value: &str| ValueMatch { name: name.into(), value: NameMatch::Exact(value.into()) };
    let (mut query, mut header) = (rule("/", &[("v1", 1)]), rule("/", &[("v2", 1)]));
    query.matches[0].query = vec![by("animal", "whale")];
    header.matches[0].headers = vec![by("x-version", "2")];
    let addresses = [&v1, &v2, &v3].map(|(name, server)| (*name, [server.address]));
    let others: Vec<_> = addresses.iter().map(|(name, at)| (*name, None, &at[..])).collect();
    mesh.serve_all(routed(Http, vec![query, header, rule("/", &[("v3", 1)])]), &[], &others);
    let mut client = mesh.http1().await;
    for (path, version, expected) in [
        ("/?animal=whale", "", "v1"),
        ("/?x=1&animal=whale", "", "v1"),
        ("/?animal=dolphin", "2", "v2"),
        ("/?animal=dolphin", "3", "v3"),
        ("/", "", "v3"),
    ] {
        client.ready().await.unwrap();
        let mut request = get(path);
        request.headers_mut().insert("x-version", version.parse().unwrap());
        assert_eq!(read(client.send_request(request).await.unwrap()).await.2, expected, "{path} {version}");
    }
}
