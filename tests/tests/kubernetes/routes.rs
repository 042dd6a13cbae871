//! What routes do, on the cluster: the features that the Gateway API's suite does not ask of a mesh, and those that it asks
//! until they happen to hold, here from the first request on.

use std::time::{Duration, Instant};

use weft_tests::eventually;

use crate::agents::{self, PATIENCE};
use crate::stage::Stage;

#[test]
fn a_mirrored_request_reaches_both_and_is_answered_by_one() {
    let stage = Stage::two_versions("mirror");
    stage.apply(&route(
        "
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: api-v2, port: 80}}}]
    backendRefs: [{name: api-v1, port: 80}]",
    ));
    known(&stage, "httproutes");
    for answer in stage.answers("web", 20, &["http://api/mirrored", "-H", "x-echo-log:yes"]) {
        assert!(answer.is_of("api-v1"), "{}", answer.text);
    }
    let seen = || stage.ok(&["logs", "deployment/api-v2"]).matches("GET api /mirrored").count();
    eventually(PATIENCE, || seen() >= 20);
    assert_eq!(seen(), 20, "each once");
}

#[test]
fn a_request_has_the_time_that_its_route_gives_it_and_each_try_its_own() {
    let stage = Stage::two_versions("timeouts");
    stage.apply(&route(
        "
  - matches: [{path: {value: /request}}]
    timeouts: {request: 500ms}
    backendRefs: [{name: api-v1, port: 80}]
  - matches: [{path: {value: /try}}]
    timeouts: {request: 5s, backendRequest: 500ms}
    backendRefs: [{name: api-v1, port: 80}]
  - backendRefs: [{name: api-v1, port: 80}]",
    ));
    known(&stage, "httproutes");
    for path in ["http://api/request", "http://api/try"] {
        assert_eq!(stage.answer("web", &[path]).status(), 200);
        let began = Instant::now();
        let late = stage.answer("web", &[path, "-H", "x-echo-delay:3s"]);
        assert_eq!(late.status(), 504, "{}", late.text);
        assert!(began.elapsed() < Duration::from_secs(3), "{path}: {:?}", began.elapsed());
    }
    assert_eq!(stage.answer("web", &["http://api/", "-H", "x-echo-delay:1s"]).status(), 200);
}

#[test]
fn what_a_route_has_tried_again_is_tried_again_and_nothing_else_is() {
    let stage = Stage::two_versions("retry");
    stage.apply(&route(
        "
  - matches: [{path: {value: /again}}]
    retry: {codes: [503], attempts: 2, backoff: 10ms}
    backendRefs: [{name: api-v1, port: 80}]
  - backendRefs: [{name: api-v1, port: 80}]",
    ));
    known(&stage, "httproutes");
    let status = |path: &str, fails: &str| {
        let header = format!("x-echo-fail:{fails}");
        stage.answer("web", &[&format!("http://api{path}"), "-H", &header]).status()
    };
    assert_eq!(status("/again", "2/a"), 200, "two attempts more");
    assert_eq!(status("/again", "3/b"), 503, "and not three");
    assert_eq!(status("/", "1/c"), 503, "none where no route asks for it");
    assert_eq!(stage.answer("web", &["http://api/again", "-H", "x-echo-status:500"]).status(), 500);
}

#[test]
fn a_browser_is_told_who_may_ask_and_the_app_never_sees_the_question() {
    let stage = Stage::two_versions("cors");
    stage.apply(&route(
        "
  - filters:
    - type: CORS
      cors: {allowOrigins: ['https://shop.example'], allowMethods: [GET, PUT], allowHeaders: [x-cart], maxAge: 60}
    backendRefs: [{name: api-v1, port: 80}]",
    ));
    known(&stage, "httproutes");
    let preflight = |origin: &str| {
        let origin = format!("origin:{origin}");
        let method = "access-control-request-method:PUT";
        stage.answer("web", &["http://api/", "--method=OPTIONS", "-H", &origin, "-H", method])
    };
    let allowed = preflight("https://shop.example");
    assert!([200, 204].contains(&allowed.status()) && allowed.pod().is_empty(), "{}", allowed.text);
    assert_eq!(allowed.says("access-control-allow-origin"), Some("https://shop.example"));
    assert_eq!(allowed.says("access-control-max-age"), Some("60"));
    assert!(allowed.says("access-control-allow-methods").is_some_and(|methods| methods.contains("PUT")));
    assert_eq!(preflight("https://elsewhere.example").says("access-control-allow-origin"), None);
    let asked = stage.answer("web", &["http://api/", "-H", "origin:https://shop.example"]);
    assert!(asked.is_of("api-v1"), "{}", asked.text);
    assert_eq!(asked.says("access-control-allow-origin"), Some("https://shop.example"));
}

#[test]
fn each_backend_has_headers_of_its_own() {
    let stage = Stage::two_versions("filters");
    stage.apply(&route(
        "
  - backendRefs:
    - name: api-v1
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-to, value: v1}], remove: [x-secret]}}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-from, value: v1}]}}
    - name: api-v2
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-to, value: v2}]}}",
    ));
    known(&stage, "httproutes");
    let answers = stage.answers("web", 60, &["http://api/", "-H", "x-secret:1", "-H", "x-to:me"]);
    for answer in &answers {
        let first = answer.is_of("api-v1");
        assert!(first || answer.is_of("api-v2"), "{}", answer.text);
        assert_eq!(answer.asked_with("x-to"), Some(if first { "v1" } else { "v2" }));
        assert_eq!(answer.asked_with("x-secret").is_none(), first);
        assert_eq!(answer.says("x-from"), first.then_some("v1"));
    }
    assert!(answers.iter().any(|answer| answer.is_of("api-v1")));
    assert!(answers.iter().any(|answer| answer.is_of("api-v2")));
}

#[test]
fn connections_are_split_by_a_tcproute_without_a_proxy() {
    let stage = Stage::two_versions("tcp");
    stage.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: api}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 9090}]
  rules: [{backendRefs: [{name: api-v1, port: 9090, weight: 3}, {name: api-v2, port: 9090, weight: 1}]}]
",
    );
    known(&stage, "tcproutes");
    let answers = stage.answers("web", 200, &["tcp://api:9090", "--fresh"]);
    let first = answers.iter().filter(|answer| answer.is_of("api-v1")).count();
    let second = answers.iter().filter(|answer| answer.is_of("api-v2")).count();
    assert_eq!(first + second, 200);
    // Of 200 with p = 0.75: 5 standard deviations.
    assert!((119..=181).contains(&first), "{first} of 200");
    let client = stage.address("web");
    assert!(
        answers.iter().all(|answer| answer.text.contains(&format!("IP={client} "))),
        "{}",
        answers[0].text
    );
}

#[test]
fn a_grpcroute_leads_each_call_of_a_connection() {
    let stage = Stage::two_versions("grpc");
    stage.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: api}
spec:
  parentRefs: [{group: '', kind: Service, name: api, port: 7070}]
  rules:
  - matches: [{headers: [{name: x-canary, value: 'yes'}]}]
    backendRefs: [{name: api-v2, port: 7070}]
  - backendRefs: [{name: api-v1, port: 7070}]
",
    );
    known(&stage, "grpcroutes");
    for answer in stage.answers("web", 20, &["grpc://api:7070"]) {
        assert!(answer.is_of("api-v1"), "{}", answer.text);
    }
    for answer in stage.answers("web", 20, &["grpc://api:7070", "-H", "x-canary:yes"]) {
        assert!(answer.is_of("api-v2"), "{}", answer.text);
    }
}

#[test]
fn every_statement_of_the_suite_holds_from_the_first_request_on() {
    let stage = Stage::two_versions("strictly");
    stage.apply(&route(
        "
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: api-v1, port: 80}]
  - matches:
    - {path: {value: /v2}}
    - {headers: [{name: version, value: two}]}
    - {queryParams: [{name: version, value: two}]}
    backendRefs: [{name: api-v2, port: 80}]
  - matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301}}]
  - matches: [{path: {value: /rewritten}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
    backendRefs: [{name: api-v1, port: 80}]
  - matches: [{path: {value: /set}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: 'new'}]}}]
    backendRefs: [{name: api-v1, port: 80}]",
    ));
    known(&stage, "httproutes");
    let ask = |args: &[&str]| stage.answer("web", args);
    assert!(ask(&["http://api/exact"]).is_of("api-v1"));
    assert_eq!(ask(&["http://api/exact/not"]).status(), 404);
    assert!(ask(&["http://api/v2/more"]).is_of("api-v2"));
    assert_eq!(ask(&["http://api/v2example"]).status(), 404, "a prefix is of whole segments");
    assert!(ask(&["http://api/?version=two"]).is_of("api-v2"));
    assert!(ask(&["http://api/", "-H", "version:two"]).is_of("api-v2"));
    let moved = ask(&["http://api/old"]);
    assert_eq!((moved.status(), moved.says("location")), (301, Some("http://example.org/old")));
    assert_eq!(ask(&["http://api/rewritten/x"]).field("URL"), Some("/new/x"));
    assert_eq!(ask(&["http://api/set", "-H", "X-Set:old"]).asked_with("x-set"), Some("new"));
    // By the Service's address, whatever the request calls its host; and by a pod's address none of it.
    assert_eq!(ask(&["http://api/none", "-H", "Host:api-v2"]).status(), 404);
    assert!(ask(&["http://api-v2/none", "-H", "Host:api"]).is_of("api-v2"));
    let address = stage.address("api");
    assert_eq!(ask(&[&format!("http://{address}:8080/none")]).status(), 200);
}

fn route(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: api}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: api, port: 80}}]\n  rules:{rules}\n"
    )
}

fn known(stage: &Stage, kind: &str) {
    agents::enforced(kind, &stage.namespace, "api", |_| true);
}
