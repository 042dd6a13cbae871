//! One test for each sentence of the Gateway API on filters; the names are the sentences, or the conformance suite's.

use std::{ops::ControlFlow, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Response, header::ORIGIN, request};
use weft_model::{
    BackendTarget, Cors, Filter, Fraction, HeaderModifier, Mirror, OriginPattern, PathRewrite, Redirect,
    Rewrite,
};

use super::{Ended, Filters};
use crate::{
    Reason,
    route::{
        fixture::{backend, invalid_backend, modifier, request},
        path,
    },
};

fn compile(filters: &[Filter]) -> Filters {
    Filters::compile(filters).unwrap()
}

fn changed(filter: Filter, mut parts: request::Parts) -> request::Parts {
    assert!(compile(&[filter]).on_request(&mut parts, 80).is_continue());
    parts
}

fn answered(filter: Filter, mut parts: request::Parts, port: u16) -> Response<()> {
    match compile(&[filter]).on_request(&mut parts, port) {
        ControlFlow::Break(Ended::Answered(answer)) => answer,
        _ => panic!("not answered"),
    }
}

/// Headers as `name: value` lines, sorted.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (_, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let mut lines: Vec<_> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn mesh_http_route_request_header_modifier() {
    let all = modifier(&[("x-set", "new")], &[("x-add", "bar,baz")], &["x-remove", "x-gone"]);
    let sent =
        [("X-Set", "a"), ("x-set", "b"), ("X-Add", "foo"), ("X-Remove", "a"), ("x-remove", "b"), ("x", "1")];
    let parts = changed(Filter::RequestHeaders(all), request("/", &sent));
    assert_eq!(lines(&parts.headers), ["x-add: foo,bar,baz", "x-set: new", "x: 1"]);
}

#[test]
fn set_and_add_make_a_header_that_is_not_there() {
    let both = modifier(&[("x-set", "1")], &[("x-add", "2")], &[]);
    let parts = changed(Filter::RequestHeaders(both), request("/", &[]));
    assert_eq!(lines(&parts.headers), ["x-add: 2", "x-set: 1"]);
}

#[test]
fn added_values_join_all_lines_but_cookies_keep_their_own_separators() {
    let add = modifier(&[], &[("x", "3"), ("cookie", "c=3"), ("set-cookie", "s=2")], &[]);
    let sent = [("x", "1"), ("x", "2"), ("cookie", "a=1"), ("set-cookie", "s=1")];
    let parts = changed(Filter::RequestHeaders(add), request("/", &sent));
    assert_eq!(lines(&parts.headers), ["cookie: a=1; c=3", "set-cookie: s=1", "set-cookie: s=2", "x: 1,2,3"]);
}

#[test]
fn framing_headers_are_not_a_filters_to_change() {
    let sent = [("content-length", "5"), ("connection", "keep-alive"), ("transfer-encoding", "chunked")];
    let evil = modifier(
        &[("Content-Length", "0"), ("upgrade", "x")],
        &[("transfer-encoding", "identity"), ("te", "trailers")],
        &["connection", "content-length", "transfer-encoding"],
    );
    let mut answer = request("/", &sent).headers;
    compile(&[Filter::ResponseHeaders(evil.clone())]).on_response(&mut answer, None);
    let parts = changed(Filter::RequestHeaders(evil), request("/", &sent));
    assert_eq!(parts.headers, request("/", &sent).headers);
    assert_eq!(answer, request("/", &sent).headers);
}

#[test]
fn setting_the_host_changes_it_wherever_the_request_has_it() {
    let set = Filter::RequestHeaders(modifier(&[("host", "b.example:81")], &[("host", "c")], &[]));
    let http1 = changed(set.clone(), request("/a", &[("host", "a")]));
    assert_eq!(
        (lines(&http1.headers), http1.uri.to_string()),
        (vec!["host: b.example:81".into()], "/a".into())
    );
    let http2 = changed(set, request("http://a/a?q", &[]));
    assert_eq!((lines(&http2.headers), http2.uri.to_string()), (vec![], "http://b.example:81/a?q".into()));
    let remove = Filter::RequestHeaders(modifier(&[], &[], &["host"]));
    assert_eq!(lines(&changed(remove, request("/", &[("host", "a")])).headers), ["host: a"]);
}

#[test]
fn mesh_frontend_response_header_modifier() {
    let filters =
        compile(&[Filter::ResponseHeaders(modifier(&[("x-set", "1")], &[("x-add", "2")], &["server"]))]);
    let mut headers = request("/", &[("server", "x"), ("x-add", "1"), ("x-set", "0")]).headers;
    filters.on_response(&mut headers, None);
    assert_eq!(lines(&headers), ["x-add: 1,2", "x-set: 1"]);
    let mut parts = request("/", &[("server", "x")]);
    assert!(filters.on_request(&mut parts, 80).is_continue());
    assert_eq!(lines(&parts.headers), ["server: x"]);
}

#[test]
fn mesh_http_route_backend_request_header_modifier() {
    let rule = compile(&[Filter::RequestHeaders(modifier(&[("x", "rule")], &[("y", "rule")], &[]))]);
    let backend = compile(&[Filter::RequestHeaders(modifier(&[("x", "backend")], &[("y", "backend")], &[]))]);
    let mut parts = request("/", &[]);
    assert!(
        rule.on_request(&mut parts, 80).is_continue() && backend.on_request(&mut parts, 80).is_continue()
    );
    assert_eq!(lines(&parts.headers), ["x: backend", "y: rule,backend"]);
}

#[test]
fn filters_run_in_their_order() {
    let modifiers: Vec<HeaderModifier> = vec![
        modifier(&[("x", "1")], &[], &[]),
        modifier(&[], &[("x", "2")], &[]),
        modifier(&[], &[("x", "3")], &[]),
    ];
    let filters = compile(&modifiers.into_iter().map(Filter::RequestHeaders).collect::<Vec<_>>());
    let mut parts = request("/", &[]);
    assert!(filters.on_request(&mut parts, 80).is_continue());
    assert_eq!(lines(&parts.headers), ["x: 1,2,3"]);
}

fn rewrite(hostname: Option<&str>, path: Option<PathRewrite>) -> Filter {
    Filter::Rewrite(Rewrite { hostname: hostname.map(Into::into), path })
}

fn to_prefix(matched: &str, replacement: &str) -> PathRewrite {
    PathRewrite::Prefix { matched: matched.into(), replacement: replacement.into() }
}

#[test]
fn mesh_http_route_rewrite_path() {
    // The Gateway API's own table, then what it leaves open.
    for (asked, matched, replacement, forwarded) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo/bar?a=b&c", "/foo", "/xyz", "/xyz/bar?a=b&c"),
        ("/one", "", "/xyz", "/xyz/one"),
        ("/", "", "/xyz", "/xyz/"),
        ("//foo//bar", "/foo", "/xyz", "/xyz//bar"),
        ("/%66oo/../foo/b%2fc", "/foo", "/xyz", "/xyz/b%2Fc"),
        ("/foobar", "/foo", "/xyz", "/foobar"),
        ("/foobar", "/foo/bar", "/xyz", "/foobar"),
        ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/x//y", "/x//y/bar"),
        ("*", "", "/xyz", "*"),
    ] {
        let parts = changed(rewrite(None, Some(to_prefix(matched, replacement))), request(asked, &[]));
        assert_eq!(parts.uri.to_string(), forwarded, "{asked}: {matched} -> {replacement}");
    }
}

#[test]
fn replacing_the_full_path_keeps_the_query() {
    for (asked, full, forwarded) in [
        ("/a/b?x=1", "/one", "/one?x=1"),
        ("/a", "", "/"),
        ("/a", "one", "/one"),
        ("/a", "/one?two", "/one%3Ftwo"),
        ("http://echo/a?x", "/one", "http://echo/one?x"),
    ] {
        let parts = changed(rewrite(None, Some(PathRewrite::Full(full.into()))), request(asked, &[]));
        assert_eq!(parts.uri.to_string(), forwarded, "{asked} -> {full}");
    }
}

#[test]
fn the_host_is_rewritten_without_a_port() {
    let parts = changed(rewrite(Some("one.example"), None), request("/a", &[("host", "echo:80")]));
    assert_eq!(lines(&parts.headers), ["host: one.example"]);
    let parts = changed(rewrite(Some("one.example"), None), request("http://echo:80/a", &[]));
    assert_eq!((parts.uri.to_string(), parts.headers.len()), ("http://one.example/a".into(), 0));
}

#[test]
fn a_path_that_grows_too_long_is_refused() {
    let long = format!("/foo/{}", "a".repeat(65_000));
    let grow = rewrite(None, Some(to_prefix("/foo", &format!("/{}", "b".repeat(1000)))));
    let ended = compile(&[grow]).on_request(&mut request(&long, &[]), 80);
    assert!(matches!(ended, ControlFlow::Break(Ended::Refused(Reason::TARGET_TOO_LONG))));
}

#[test]
fn a_rewritten_path_is_normal() {
    let parts = changed(rewrite(None, Some(to_prefix("/a", "/x/../y%2e"))), request("/a/b", &[]));
    assert_eq!(path::normalise(parts.uri.path()).unwrap(), "/y./b");
    assert_eq!(parts.uri.path(), "/y./b");
}

fn redirect() -> Redirect {
    Redirect { scheme: None, hostname: None, port: None, path: None, status: 302 }
}

#[track_caller]
fn leads(redirect: Redirect, uri: &str, service_port: u16, location: &str) {
    let status = redirect.status;
    let answer = answered(Filter::Redirect(redirect), request(uri, &[("host", "echo:1234")]), service_port);
    assert_eq!(answer.headers()["location"], location);
    assert_eq!(answer.status(), status);
}

#[test]
fn mesh_http_route_redirect_host_and_status() {
    let host = Redirect { hostname: Some("example.org".into()), ..redirect() };
    leads(host.clone(), "/a?b=c", 80, "http://example.org/a?b=c");
    leads(Redirect { status: 301, ..host }, "/", 80, "http://example.org/");
}

#[test]
fn mesh_http_route_303_307_and_308_redirect() {
    for status in [303, 307, 308] {
        leads(Redirect { status, ..redirect() }, "/a", 80, "http://echo/a");
    }
    assert!(Filters::compile(&[Filter::Redirect(Redirect { status: 304, ..redirect() })]).is_err());
}

#[test]
fn mesh_http_route_redirect_path() {
    let path = |path| Redirect { path: Some(path), ..redirect() };
    leads(
        path(to_prefix("/original-prefix", "/replacement-prefix")),
        "/original-prefix/lemon",
        80,
        "http://echo/replacement-prefix/lemon",
    );
    leads(path(PathRewrite::Full("/full".into())), "/a/b?c=d", 80, "http://echo/full?c=d");
    leads(path(to_prefix("/a", "/")), "/a", 80, "http://echo/");
}

#[test]
fn mesh_http_route_redirect_port() {
    let port = |port| Redirect { port: Some(port), ..redirect() };
    leads(port(8083), "/", 80, "http://echo:8083/");
    leads(port(80), "/", 8080, "http://echo/");
    leads(port(443), "/", 80, "http://echo:443/");
}

#[test]
fn mesh_http_route_scheme_redirect() {
    let scheme = |scheme: &str| Redirect { scheme: Some(scheme.into()), ..redirect() };
    leads(scheme("https"), "/", 8080, "https://echo/");
    leads(scheme("http"), "/", 8080, "http://echo/");
    leads(Redirect { port: Some(8443), ..scheme("https") }, "/", 80, "https://echo:8443/");
    leads(Redirect { port: Some(443), ..scheme("https") }, "/", 80, "https://echo/");
    leads(Redirect { port: Some(80), ..scheme("https") }, "/", 80, "https://echo:80/");
}

#[test]
fn without_scheme_and_port_a_redirect_names_the_services_port() {
    leads(redirect(), "/", 8080, "http://echo:8080/");
    leads(redirect(), "/", 80, "http://echo/");
}

#[test]
fn a_redirect_names_the_host_that_was_asked_for() {
    for (uri, headers, location) in [
        ("http://a.example:1/x", &[("host", "b")][..], "http://a.example/x"),
        ("/x", &[("host", "[fd00::1]:80")], "http://[fd00::1]/x"),
        ("/x", &[("host", "user@b")], "http://b/x"),
        ("/x", &[("host", "b/evil")], "/x"),
        ("//evil.example/x", &[], "/evil.example/x"),
    ] {
        let answer = answered(Filter::Redirect(redirect()), request(uri, headers), 80);
        assert_eq!(answer.headers()["location"], location, "{uri} {headers:?}");
    }
}

#[test]
fn mirrors_are_drawn_one_by_one_and_lead_somewhere() {
    let mirror = |target, numerator| {
        Filter::Mirror(Mirror { target, share: Fraction { numerator, denominator: 100 } })
    };
    let filters = compile(&[
        mirror(backend("all", 1).target, 100),
        mirror(invalid_backend(1).target, 100),
        mirror(backend("half", 1).target, 50),
        mirror(backend("none", 1).target, 0),
    ]);
    let names = |random: u32| {
        let mirrors = filters.mirrors(move || random).map(|target| match target {
            BackendTarget::Service { name, .. } => name.name.to_string(),
            BackendTarget::Invalid { .. } => "invalid".to_owned(),
        });
        mirrors.collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["all", "half"]);
    assert_eq!(names(u32::MAX), ["all"]);
    let mut draws = [0, u32::MAX, 0].into_iter();
    assert_eq!(filters.mirrors(|| draws.next().unwrap()).count(), 1);
}

fn cors(origins: Vec<OriginPattern>, credentials: bool, lists: [&[&str]; 3]) -> Cors {
    let [methods, headers, expose] = lists.map(|list| list.iter().map(|name| (*name).into()).collect());
    Cors { origins, credentials, methods, headers, expose, max_age: Duration::from_mins(1) }
}

fn listed() -> Cors {
    let origins = vec![OriginPattern::Exact("https://app.example".into())];
    cors(origins, false, [&["GET", "PUT"], &["x-a", "x-b"], &["x-c"]])
}

fn preflight(cors: Cors, origin: &str) -> Vec<String> {
    let asks = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-a, authorization"),
    ];
    let mut parts = request("/", &asks);
    parts.method = Method::OPTIONS;
    let answer = answered(Filter::Cors(cors), parts, 80);
    assert_eq!(answer.status(), 204);
    lines(answer.headers())
}

#[test]
fn a_preflight_is_answered_with_exactly_the_policy() {
    assert_eq!(
        preflight(listed(), "https://app.example"),
        [
            "access-control-allow-headers: x-a, x-b",
            "access-control-allow-methods: GET, PUT",
            "access-control-allow-origin: https://app.example",
            "access-control-max-age: 60",
            "vary: origin",
        ]
    );
}

#[test]
fn a_preflight_of_another_origin_is_answered_without_cors_headers() {
    assert_eq!(preflight(listed(), "https://evil.example"), ["vary: origin"]);
    assert_eq!(
        preflight(cors(Vec::new(), true, [&["*"], &["*"], &["*"]]), "https://a.example"),
        ["vary: origin"]
    );
}

#[test]
fn any_origin_without_credentials_is_a_star() {
    assert_eq!(
        preflight(cors(vec![OriginPattern::Any], false, [&["*"], &["*"], &[]]), "null"),
        [
            "access-control-allow-headers: x-a, authorization",
            "access-control-allow-methods: *",
            "access-control-allow-origin: *",
            "access-control-max-age: 60",
            "vary: access-control-request-headers",
        ]
    );
}

#[test]
fn with_credentials_nothing_is_a_star() {
    let any = cors(vec![OriginPattern::Any], true, [&["*"], &["*"], &["*"]]);
    assert_eq!(
        preflight(any.clone(), "https://a.example"),
        [
            "access-control-allow-credentials: true",
            "access-control-allow-headers: x-a, authorization",
            "access-control-allow-methods: PUT",
            "access-control-allow-origin: https://a.example",
            "access-control-max-age: 60",
            "vary: origin,access-control-request-headers,access-control-request-method",
        ]
    );
    let mut answer = request("/", &[("x-c", "1"), ("content-type", "a/b"), ("set-cookie", "a=b")]).headers;
    compile(&[Filter::Cors(any)])
        .on_response(&mut answer, Some(&HeaderValue::from_static("https://a.example")));
    assert_eq!(answer["access-control-expose-headers"], "x-c");
}

#[test]
fn a_request_that_is_no_preflight_goes_on() {
    for (method, headers) in [
        (Method::OPTIONS, &[("origin", "https://app.example")][..]),
        (Method::OPTIONS, &[("access-control-request-method", "PUT")]),
        (Method::GET, &[("origin", "https://app.example"), ("access-control-request-method", "PUT")]),
        (Method::PUT, &[("origin", "https://evil.example")]),
    ] {
        let mut parts = request("/", headers);
        parts.method = method;
        assert!(compile(&[Filter::Cors(listed())]).on_request(&mut parts, 80).is_continue());
    }
}

#[test]
fn an_answer_says_whose_scripts_may_read_it() {
    let filters = compile(&[Filter::Cors(listed())]);
    let answer = |origin: Option<&'static str>| {
        let sent = [("vary", "accept"), ("access-control-allow-origin", "*")];
        let mut headers = request("/", &sent).headers;
        filters.on_response(&mut headers, origin.map(HeaderValue::from_static).as_ref());
        lines(&headers)
    };
    assert_eq!(
        answer(Some("https://app.example")),
        [
            "access-control-allow-origin: https://app.example",
            "access-control-expose-headers: x-c",
            "vary: accept,origin",
        ]
    );
    assert_eq!(answer(Some("https://evil.example")), ["vary: accept,origin"]);
    assert_eq!(answer(None), ["vary: accept,origin"]);
}

#[test]
fn an_origin_is_its_scheme_host_and_port() {
    let wildcard = |scheme: &str, suffix: &str, port: Option<&str>| OriginPattern::Wildcard {
        scheme: scheme.into(),
        suffix: suffix.into(),
        port: port.map(Into::into),
    };
    let exact = |origin: &str| OriginPattern::Exact(origin.into());
    for (pattern, origin, allowed) in [
        (exact("https://a.example"), "https://a.example", true),
        (exact("https://a.example:443"), "https://a.example", true),
        (exact("http://a.example"), "http://a.example:80", true),
        (exact("https://a.example"), "https://A.Example", true),
        (exact("https://a.example"), "http://a.example", false),
        (exact("https://a.example"), "https://a.example:8443", false),
        (exact("https://a.example"), "https://b.a.example", false),
        (exact("https://a.example"), "null", false),
        (wildcard("https", ".example.com", None), "https://a.b.example.com", true),
        (wildcard("https", ".example.com", None), "https://a.example.com:443", true),
        (wildcard("https", ".example.com", None), "https://example.com", false),
        (wildcard("https", ".example.com", None), "https://.example.com", false),
        (wildcard("https", ".example.com", None), "https://a.example.com:8443", false),
        (wildcard("https", ".example.com", None), "http://a.example.com", false),
        (wildcard("https", ".example.com", None), "https://evil.test/.example.com", false),
        (wildcard("https", ".example.com", None), "https://evil.com?.example.com", false),
        (wildcard("https", ".example.com", Some("*")), "https://a.example.com:9", true),
        (wildcard("http", "", Some("8080")), "http://anything:8080", true),
        (wildcard("http", "", None), "http://[fd00::1]", true),
    ] {
        let filters = compile(&[Filter::Cors(cors(vec![pattern.clone()], false, [&[], &[], &[]]))]);
        let mut headers = HeaderMap::new();
        filters.on_response(&mut headers, Some(&HeaderValue::from_str(origin).unwrap()));
        assert_eq!(headers.contains_key("access-control-allow-origin"), allowed, "{pattern:?} {origin}");
    }
}

#[test]
fn a_redirect_carries_the_headers_of_the_rules_other_filters() {
    let filters = [
        Filter::Cors(listed()),
        Filter::ResponseHeaders(modifier(&[("x", "1")], &[], &[])),
        Filter::Redirect(redirect()),
    ];
    let mut parts = request("/", &[("host", "echo"), (ORIGIN.as_str(), "https://app.example")]);
    let ControlFlow::Break(Ended::Answered(answer)) = compile(&filters).on_request(&mut parts, 80) else {
        panic!("not answered")
    };
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(answer.headers()["x"], "1");
}

#[test]
fn a_filter_that_cannot_be_applied_is_named() {
    let bad_path = Redirect { path: Some(PathRewrite::Full("/%zz".into())), ..redirect() };
    for (filter, what) in [
        (Filter::RequestHeaders(modifier(&[("x", "a\nb")], &[], &[])), "header `x`"),
        (Filter::ResponseHeaders(modifier(&[], &[], &["a b"])), "header `a b`"),
        (rewrite(Some("a b"), None), "host `a b`"),
        (Filter::RequestHeaders(modifier(&[("host", "a b")], &[], &[])), "host `a b`"),
        (Filter::Redirect(bad_path), "path `/%zz`"),
        (Filter::Cors(cors(Vec::new(), false, [&["GET\n"], &[], &[]])), "GET"),
    ] {
        let error = Filters::compile(&[filter]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}
