//! What is told of policies and tokens to who asks: the same as becomes of a request.

use serde_json::{Value, json};
use weft_tests::{manifests, soon, text};

use crate::{
    provider::Key,
    stage::{READERS, Stage, TARGET},
};

#[test]
fn who_asks_with_a_token_is_told_what_becomes_of_the_request() {
    let Some(stage) = Stage::open(Some(READERS)) else { return };
    let service = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}";
    stage.node.apply_and_wait("service.yaml", &manifests::service("shop/api", service));
    for (token, status, reason) in [
        (Some(stage.key.token(&json!({"realm": {"groups": ["readers"]}}))), 200, ""),
        (Some(stage.key.token(&json!({"realm": {"groups": ["writers"]}}))), 403, "NotAllowed"),
        (None, 403, "NotAllowed"),
        (Some(stage.key.token(&json!({"aud": "bank"}))), 401, "TokenAudience"),
        (Some(Key::new("first").token(&json!({}))), 401, "TokenSignature"),
    ] {
        stage.gets(&stage.web, token.as_deref(), (status, reason));
        let header = token.map(|token| format!("authorization: Bearer {token}"));
        let header: Vec<_> = header.iter().flat_map(|header| ["-H", header]).collect();
        for question in [&["authz", "check"][..], &["explain"]] {
            let ask = [
                "--from",
                "shop/web",
                "--to",
                "shop/api:80",
                "--method",
                "GET",
                "--path",
                "/items",
                "-o",
                "json",
            ];
            let said = stage.node.weft(&[question, &ask, &header].concat());
            let answer: Value =
                serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said)));
            let wanted = if status == 200 { json!(["FORWARDED", null]) } else { json!(["DENIED", reason]) };
            assert_eq!(json!([answer["verdict"], answer["reason"]]), wanted, "{question:?}: {answer}");
            assert_eq!(said.status.code(), Some(i32::from(status != 200)), "{question:?}");
        }
    }
}

#[test]
fn a_provider_that_nobody_declares_is_named_by_status_and_analyze() {
    let Some(stage) = Stage::open(Some(&READERS.replace("provider: corp", "provider: crop"))) else { return };
    let wanted = "no AuthenticationPolicy declares a provider crop";
    let status = text(&stage.node.weft(&["status"]));
    assert!(status.contains(wanted), "{status}");
    let folder = stage.node.manifests_dir().display().to_string();
    let analyzed = text(&stage.node.weft_alone(&["analyze", &folder]));
    assert!(analyzed.contains(wanted) && analyzed.contains("spec.rules[0].jwt.provider"), "{analyzed}");
    stage.node.apply_and_wait(
        "policy.yaml",
        &manifests::authorization_policy("shop/api", &format!("{{{TARGET}, {READERS}}}")),
    );
    soon(|| !text(&stage.node.weft(&["status"])).contains(wanted));
}
