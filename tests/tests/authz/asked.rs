//! `weft authz check` and `weft explain` say of a request what becomes of it.

use serde_json::Value;
use weft_tests::{Node, Pod, manifests, soon, text};

use crate::stage::{API, Stage, ask};

/// `web` may read what is below `/items`, but for the secret ones.
const READ: &str = "action: ALLOW, rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}], \
                    httpAttributes: {methods: [GET, HEAD], paths: [{type: PathPrefix, value: /items}]}}]";
const NO_SECRETS: &str =
    "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /items/secret}]}}]";
const WATCHED: &str =
    "action: DENY, mode: Audit, rules: [{httpAttributes: {paths: [{type: Exact, value: /items/watched}]}}]";
const TARGET: &str = "targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}]";

#[test]
fn who_asks_is_told_what_becomes_of_the_request() {
    let Some(stage) = Stage::open(READ) else { return };
    let policy = |name: &str, spec: &str| {
        manifests::authorization_policy(&format!("shop/{name}"), &format!("{{{TARGET}, {spec}}}"))
    };
    stage.node.apply_and_wait("secrets.yaml", &policy("secrets", NO_SECRETS));
    stage.node.apply_and_wait("watched.yaml", &policy("watched", WATCHED));
    // The account that may, and nothing that proves it.
    let unproven =
        stage.node.pod("shop/unproven").service_account("web").label("weft.dev/mesh", "disabled").start();
    stage.node.wait();
    stage.gets(|stage| &stage.web, "/items/secret", 403);
    stage.gets(|stage| &stage.web, "/items/1", 200);
    for (pod, name, method, path, verdict, reason) in [
        (&stage.web, "web", "GET", "/items/1", "FORWARDED", ""),
        (&stage.web, "web", "POST", "/items/1", "DENIED", "NotAllowed"),
        (&stage.web, "web", "GET", "/other", "DENIED", "NotAllowed"),
        (&stage.web, "web", "GET", "/items/../other", "DENIED", "NotAllowed"),
        (&stage.web, "web", "GET", "/items/..%2fother", "DENIED", "NotAllowed"),
        (&stage.web, "web", "GET", "/items/secret/1", "DENIED", "PolicyDenied"),
        (&stage.web, "web", "GET", "/items/%73ecret", "DENIED", "PolicyDenied"),
        (&stage.web, "web", "GET", "/items/x%2f..%2fsecret", "DENIED", "PolicyDenied"),
        (&stage.web, "web", "GET", "/items/SECRET", "DENIED", "PolicyDenied"),
        (&stage.web, "web", "GET", "/items/%00", "DENIED", "PathInvalid"),
        (&stage.web, "web", "GET", "/items/watched", "AUDIT", "PolicyDenied"),
        (&stage.other, "other", "GET", "/items/1", "DENIED", "NotAllowed"),
        (&unproven, "unproven", "GET", "/items/1", "DENIED", "IdentityUnproven"),
    ] {
        let case = format!("{name} {method} {path}");
        assert_eq!(becomes(&stage, pod, (method, path)), (verdict, reason.to_owned()), "{case}");
        let account = if name == "unproven" { "web" } else { name };
        let name = format!("shop/{name}");
        let request = ["--to", "shop/api:80", "--method", method, "--path", path, "-o", "json"];
        let checked = told(
            &stage.node,
            &[&["authz", "check", "--from", &format!("shop/{account}")], &request[..]].concat(),
        );
        assert_eq!(of_pod(&checked, &name), (verdict, reason), "authz check: {case}: {checked}");
        let explained = told(&stage.node, &[&["explain", "--from", &name], &request[..]].concat());
        let says = (text_of(&explained["verdict"]), text_of(&explained["reason"]));
        assert_eq!(says, (verdict, reason), "explain: {case}: {explained}");
    }
}

/// What becomes of the request: the verdict of its flow, and the reason that the client or, of audited policies, the flow has.
fn becomes(stage: &Stage, pod: &Pod, request: (&str, &str)) -> (&'static str, String) {
    let to =
        if pod.ip() == stage.web.ip() || pod.ip() == stage.other.ip() { API } else { stage.api.addr(8080) };
    let answer = ask(pod, to, request, &[]).unwrap();
    let reason = answer.header("x-weft-reason").to_owned();
    if answer.status != 200 {
        return ("DENIED", reason);
    }
    let mut verdict = Value::Null;
    soon(|| {
        let flow = stage.node.flows(&[]).into_iter().rfind(|flow| flow["http"]["path"] == request.1);
        verdict = flow.unwrap_or_default();
        !verdict.is_null()
    });
    if verdict["verdict"] == "AUDIT" {
        return ("AUDIT", text_of(&verdict["reason"]).to_owned());
    }
    ("FORWARDED", reason)
}

/// What is printed, whatever the exit code.
pub(crate) fn told(node: &Node, question: &[&str]) -> Value {
    let said = node.weft(question);
    serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&said)))
}

/// What is said of this client; of a path that is refused before any pod is asked, of all.
pub(crate) fn of_pod<'a>(checked: &'a Value, client: &str) -> (&'a str, &'a str) {
    let mut pods = checked["pods"].as_array().into_iter().flatten();
    let of = pods.find(|pod| pod["client"] == client).unwrap_or(checked);
    (text_of(&of["verdict"]), text_of(&of["reason"]))
}

pub(crate) fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
