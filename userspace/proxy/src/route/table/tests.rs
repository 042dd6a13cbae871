//! One test for each sentence of the Gateway API on matching; the names are the sentences, or the conformance suite's.

use std::sync::Arc;

use http::Method;
use proptest::prelude::*;
use weft_model::{NameMatch, PathMatch, Route, RouteMatch, RouteRule, ValueMatch};

use super::{Table, entry, entry::Entry};
use crate::route::{
    Asked,
    fixture::{exact, header, is, method, object, on, prefix, query, regex, request, route, rule},
};

/// The backend that a GET of `uri` goes to; empty for none.
fn takes(table: &Table, uri: &str, headers: &[(&str, &str)]) -> String {
    let parts = request(uri, headers);
    taken(table, &Asked::of(&parts).unwrap())
}

fn taken(table: &Table, asked: &Asked<'_>) -> String {
    let found = table.find(asked).and_then(|rule| rule.backends.draw(0));
    match found.map(|backend| &backend.target) {
        Some(weft_model::BackendTarget::Service { name, .. }) => name.name.to_string(),
        _ => String::new(),
    }
}

fn one_route(rules: Vec<RouteRule>) -> Table {
    Table::compile(&[route("r", rules)]).unwrap()
}

/// A table with a rule for each match, which goes to the backend `0`, `1` ...
fn rules(matches: Vec<RouteMatch>) -> Table {
    let rules = matches.into_iter().enumerate().map(|(index, wanted)| rule(&index.to_string(), vec![wanted]));
    one_route(rules.collect())
}

fn grpc(service: Option<&str>, method: Option<&str>) -> RouteMatch {
    let name = |name: &str| match name.strip_prefix('~') {
        Some(pattern) => NameMatch::Regex(pattern.into()),
        None => NameMatch::Exact(name.into()),
    };
    on(PathMatch::Grpc { service: service.map(name), method: method.map(name) })
}

#[test]
fn mesh_traffic_split() {
    let table = rules(vec![exact("/v1"), exact("/v2")]);
    for (uri, to) in [("/v1", "0"), ("/v2", "1"), ("/v1/", ""), ("/", ""), ("/v1?a=b", "0")] {
        assert_eq!(takes(&table, uri, &[]), to, "{uri}");
    }
}

#[test]
fn mesh_http_route_matching() {
    let table = one_route(vec![
        rule("echo-v1", vec![prefix(""), header(prefix(""), "version", "one")]),
        rule("echo-v2", vec![prefix("/v2"), header(prefix(""), "version", "two")]),
    ]);
    for (uri, headers, to) in [
        ("/", &[][..], "echo-v1"),
        ("/example", &[], "echo-v1"),
        ("/", &[("version", "one")], "echo-v1"),
        ("/v2", &[], "echo-v2"),
        ("/v2/example", &[], "echo-v2"),
        ("/", &[("Version", "two")], "echo-v2"),
        ("/v2/", &[], "echo-v2"),
        ("/v2example", &[], "echo-v1"),
        ("/foo/v2/example", &[], "echo-v1"),
    ] {
        assert_eq!(takes(&table, uri, headers), to, "{uri} {headers:?}");
    }
}

#[test]
fn mesh_http_route_query_param_matching() {
    let table = rules(vec![
        query(prefix(""), "animal", "whale"),
        query(prefix(""), "animal", "dolphin"),
        query(query(prefix(""), "animal", "dolphin"), "color", "blue"),
        query(prefix(""), "ANIMAL", "Whale"),
    ]);
    for (uri, to) in [
        ("/?animal=whale", "0"),
        ("/?animal=dolphin", "1"),
        ("/?animal=dolphin&color=blue", "2"),
        ("/?color=blue&animal=dolphin", "2"),
        ("/?ANIMAL=Whale", "3"),
        ("/?animal=whale&animal=dolphin", "0"),
        ("/?animal=shark", ""),
        ("/?color=blue", ""),
        ("/", ""),
    ] {
        assert_eq!(takes(&table, uri, &[]), to, "{uri}");
    }
}

#[test]
fn a_prefix_is_by_path_element_and_a_trailing_slash_is_ignored() {
    for written in ["/abc", "/abc/"] {
        let table = rules(vec![prefix(written)]);
        for (uri, to) in [
            ("/abc", "0"),
            ("/abc/", "0"),
            ("/abc/def", "0"),
            ("/abcd", ""),
            ("/ABC", ""),
            ("/", ""),
            ("/x/abc", ""),
        ] {
            assert_eq!(takes(&table, uri, &[]), to, "{written} {uri}");
        }
    }
}

#[test]
fn the_empty_prefix_is_every_path() {
    let table = rules(vec![prefix("")]);
    for uri in ["/", "/a/b", "*", "http://echo/a", "http://echo"] {
        assert_eq!(takes(&table, uri, &[]), "0", "{uri}");
    }
}

#[test]
fn an_exact_path_takes_precedence_over_the_longest_prefix() {
    let table = rules(vec![prefix("/a/b"), exact("/a/b"), prefix("/a")]);
    for (uri, to) in [("/a/b", "1"), ("/a/b/", "0"), ("/a/b/c", "0"), ("/a/c", "2")] {
        assert_eq!(takes(&table, uri, &[]), to, "{uri}");
    }
}

#[test]
fn an_exact_path_whose_headers_differ_falls_back_to_the_prefix() {
    let table = rules(vec![header(exact("/a"), "x", "1"), prefix("/a"), prefix("")]);
    assert_eq!(takes(&table, "/a", &[("x", "1")]), "0");
    assert_eq!(takes(&table, "/a", &[]), "1");
}

#[test]
fn the_longest_prefix_takes_precedence_over_a_method_and_headers() {
    let table = rules(vec![header(method(prefix("/a"), "GET"), "x", "1"), prefix("/a/b")]);
    assert_eq!(takes(&table, "/a/b/c", &[("x", "1")]), "1");
}

#[test]
fn a_method_takes_precedence_over_headers_headers_over_query_parameters() {
    let two = header(header(prefix("/a"), "x", "1"), "y", "2");
    let table = rules(vec![
        prefix("/a"),
        query(query(prefix("/a"), "q", "1"), "r", "2"),
        header(prefix("/a"), "x", "1"),
        two,
        method(prefix("/a"), "GET"),
    ]);
    let mut parts = request("/a?q=1&r=2", &[("x", "1"), ("y", "2")]);
    assert_eq!(taken(&table, &Asked::of(&parts).unwrap()), "4");
    parts.method = Method::POST;
    assert_eq!(taken(&table, &Asked::of(&parts).unwrap()), "3");
    parts.headers.remove("y");
    assert_eq!(taken(&table, &Asked::of(&parts).unwrap()), "2");
    parts.headers.remove("x");
    assert_eq!(taken(&table, &Asked::of(&parts).unwrap()), "1");
}

#[test]
fn a_regular_expression_goes_between_exact_paths_and_prefixes() {
    let table = rules(vec![prefix("/items"), regex("/items/[0-9]+"), exact("/items/7"), regex("/items/.*x")]);
    for (uri, to) in
        [("/items/7", "2"), ("/items/8", "1"), ("/items/8/x", "3"), ("/items/8/y", "0"), ("/x/items/8", "")]
    {
        assert_eq!(takes(&table, uri, &[]), to, "{uri}");
    }
}

#[test]
fn ties_across_routes_go_to_the_first_of_the_set() {
    let older = route("older", vec![rule("older", vec![prefix("/a")])]);
    let newer = route("newer", vec![rule("newer", vec![prefix("/a"), prefix("/b")])]);
    let table = Table::compile(&[older, newer]).unwrap();
    assert_eq!(takes(&table, "/a", &[]), "older");
    assert_eq!(takes(&table, "/b", &[]), "newer");
}

#[test]
fn ties_within_a_route_go_to_the_first_rule() {
    let table = rules(vec![header(prefix("/a"), "x", "1"), header(prefix("/a"), "y", "2")]);
    assert_eq!(takes(&table, "/a", &[("y", "2"), ("x", "1")]), "0");
    assert_eq!(takes(&table, "/a", &[("y", "2")]), "1");
}

#[test]
fn a_call_that_headers_match_goes_before_a_rule_of_a_grpcroute_that_has_no_matches() {
    let table = rules(vec![prefix(""), header(grpc(None, None), "x", "1"), grpc(None, Some("Get"))]);
    assert_eq!(takes(&table, "/shop.Cart/Add", &[("x", "1")]), "1");
    assert_eq!(takes(&table, "/shop.Cart/Add", &[]), "0");
    assert_eq!(takes(&table, "/shop.Cart/Get", &[("x", "1")]), "2");
}

#[test]
fn a_request_that_no_rule_matches_has_none() {
    assert_eq!(takes(&rules(Vec::new()), "/", &[]), "");
    assert_eq!(takes(&rules(vec![method(prefix(""), "POST")]), "/", &[]), "");
}

#[test]
fn header_lines_of_one_name_are_compared_as_one_value() {
    let table = rules(vec![header(prefix(""), "x", "a,b"), header(prefix(""), "x", "a")]);
    assert_eq!(takes(&table, "/", &[("X", "a"), ("x", "b")]), "0");
    assert_eq!(takes(&table, "/", &[("x", "a")]), "1");
    assert_eq!(takes(&table, "/", &[("x", "A")]), "");
}

#[test]
fn a_header_may_be_matched_by_an_expression_for_its_whole_value() {
    let mut wanted = prefix("");
    wanted.headers.push(ValueMatch { name: "x".into(), value: NameMatch::Regex("v[12]".into()) });
    let table = rules(vec![wanted]);
    assert_eq!(takes(&table, "/", &[("x", "v2")]), "0");
    assert_eq!(takes(&table, "/", &[("x", "v22")]), "");
}

#[test]
fn a_host_match_sees_the_authority_of_http2() {
    let table = rules(vec![header(prefix(""), "host", "echo")]);
    assert_eq!(takes(&table, "http://echo/", &[]), "0");
    assert_eq!(takes(&table, "/", &[("host", "echo")]), "0");
    assert_eq!(takes(&table, "http://other/", &[("host", "echo")]), "");
}

#[test]
fn paths_are_compared_in_their_normal_form_on_both_sides() {
    let table = rules(vec![prefix("/admin"), exact("/%7euser/é"), prefix("/a%2fb")]);
    for (uri, to) in [
        ("/%61dmin/x", "0"),
        ("/public/../admin", "0"),
        ("/public/%2e%2e/admin", "0"),
        ("//admin", "0"),
        ("/admin/../public", ""),
        ("/~user/%c3%a9", "1"),
        ("/a%2Fb/c", "2"),
        ("/a/b/c", ""),
    ] {
        assert_eq!(takes(&table, uri, &[]), to, "{uri}");
    }
}

#[test]
fn a_grpc_match_is_by_service_and_method() {
    let table = rules(vec![
        grpc(None, None),
        grpc(None, Some("Ping")),
        grpc(Some("pkg.Echo"), None),
        grpc(Some("pkg.Echo"), Some("~Get.*")),
        grpc(Some("pkg.Echo"), Some("Get")),
        grpc(Some("~pkg\\..*"), None),
    ]);
    for (uri, to) in [
        ("/pkg.Echo/Get", "4"),
        ("/pkg.Echo/GetAll", "3"),
        ("/pkg.Echo/Ping", "2"),
        ("/pkg.Other/Ping", "5"),
        ("/other/Ping", "1"),
        ("/other/Pong", "0"),
        ("/pkg.Echo/Get/x", ""),
        ("/pkg.Echo", ""),
        ("/", ""),
    ] {
        assert_eq!(takes(&table, uri, &[]), to, "{uri}");
    }
}

#[test]
fn a_longer_grpc_service_precedes_a_longer_method_and_that_more_headers() {
    let table = rules(vec![
        header(grpc(None, Some("Get")), "x", "1"),
        grpc(Some("a.B"), None),
        header(grpc(Some("a.B"), None), "x", "1"),
        grpc(Some("a.B"), Some("Get")),
    ]);
    assert_eq!(takes(&table, "/a.B/Get", &[("x", "1")]), "3");
    assert_eq!(takes(&table, "/a.B/Put", &[("x", "1")]), "2");
    assert_eq!(takes(&table, "/a.B/Put", &[]), "1");
    assert_eq!(takes(&table, "/c.D/Get", &[("x", "1")]), "0");
}

#[test]
fn a_rule_that_does_not_compile_is_named() {
    let mut bad_header = prefix("");
    bad_header.headers.push(is("x y", "1"));
    for (wanted, what) in [
        (regex("("), "expression `(`"),
        (exact("/%zz"), "path `/%zz`"),
        (bad_header, "header `x y`"),
        (method(prefix(""), "G T"), "method `G T`"),
    ] {
        let routes = [route("bad", vec![rule("a", vec![prefix("/")]), rule("b", vec![wanted])])];
        let error = Table::compile(&routes).unwrap_err();
        assert_eq!((&error.route, error.rule), (&object("bad"), 1));
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// What the index has to agree with: every match, in order of precedence.
fn by_scan(routes: &[Arc<Route>], asked: &Asked<'_>) -> Option<usize> {
    let rules = routes.iter().flat_map(|route| &route.rules).enumerate();
    let mut matches: Vec<_> =
        rules.flat_map(|(number, rule)| rule.matches.iter().map(move |wanted| (number, wanted))).collect();
    matches.sort_by_key(|(_, wanted)| entry::precedence(wanted));
    let holds = |wanted: &RouteMatch| {
        let path = match &wanted.path {
            PathMatch::Exact(path) => **path == *asked.path,
            PathMatch::Prefix(prefix) => {
                let rest = asked.path.strip_prefix(&**prefix);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            _ => true, // the entry itself looks at the whole path
        };
        path && Entry::compile(0, wanted).unwrap().0.holds(asked)
    };
    matches.into_iter().find(|(_, wanted)| holds(wanted)).map(|(number, _)| number)
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let path = "(/[ab]{1,2}){0,3}";
    let path = prop_oneof![
        path.prop_map(|path| PathMatch::Prefix(path.into())),
        "(/[ab]{1,2}){1,3}/?".prop_map(|path| PathMatch::Exact(path.into())),
        "/[ab]\\.\\*".prop_map(|path| PathMatch::Regex(path.into())),
    ];
    (path, prop::option::of("GET|PUT"), prop::collection::vec("[xy]", 0..2)).prop_map(
        |(path, method, headers)| {
            let headers = headers.iter().map(|name| is(name, "1")).collect();
            RouteMatch { path, method: method.map(Into::into), headers, query: Vec::new() }
        },
    )
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_in_order_of_precedence_finds(
        matches in prop::collection::vec(prop::collection::vec(any_match(), 1..3), 0..12),
        uri in "(/[ab]{1,2}){1,4}/?",
        x in prop::option::of(Just("1")),
    ) {
        let rules = matches.into_iter().map(|matches| rule("b", matches)).collect();
        let routes = [route("r", rules)];
        let table = Table::compile(&routes).unwrap();
        let headers: Vec<_> = x.into_iter().map(|x| ("x", x)).collect();
        let parts = request(&uri, &headers);
        let asked = Asked::of(&parts).unwrap();
        prop_assert_eq!(table.find(&asked).map(|rule| rule.index), by_scan(&routes, &asked));
    }
}
