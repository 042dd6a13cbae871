//! Which requests are answered.

use std::io::{Read as _, Write as _};

use serde_json::json;
use weft_tests::soon;

use crate::{
    provider::{Key, now},
    stage::{READERS, Stage},
};

#[test]
fn what_a_verified_token_says_opens_what_policies_ask_for_and_nothing_else_does() {
    let Some(stage) = Stage::open(Some(READERS)) else { return };
    let readers = json!({"realm": {"groups": ["others", "readers"]}});
    let good = stage.key.token(&readers);
    // Whoever the client is: the token says who asks, not the pod.
    for pod in [&stage.web, &stage.plain] {
        let answer = stage.gets(pod, Some(&good), (200, ""));
        let seen = answer.seen();
        assert!(!seen.headers.contains_key("authorization"), "the app does not see the token");
        stage.gets(pod, None, (403, "NotAllowed"));
        stage.gets(
            pod,
            Some(&stage.key.token(&json!({"realm": {"groups": "writers"}}))),
            (403, "NotAllowed"),
        );
    }
    let with = |claims: serde_json::Value| {
        let mut all = readers.clone();
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        stage.key.token(&all)
    };
    for (token, reason) in [
        (Key::new("first").token(&readers), "TokenSignature"),
        (Key::new("other").token(&readers), "TokenKey"),
        (with(json!({"exp": now() - 300})), "TokenExpired"),
        (with(json!({"nbf": now() + 300})), "TokenNotYetValid"),
        (with(json!({"aud": "bank"})), "TokenAudience"),
        (with(json!({"iss": "https://idp.example/"})), "TokenIssuer"),
        ("not.a.token".to_owned(), "TokenMalformed"),
        (unsigned(&good), "TokenUnsupported"),
    ] {
        let answer = stage.gets(&stage.web, Some(&token), (401, reason));
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""), "{reason}");
    }
    let told = |reason: &str| {
        let flows = stage.node.weft(&["observe", "--last", "200", "-o", "json"]);
        String::from_utf8(flows.stdout).unwrap().lines().any(|line| line.contains(&format!("\"{reason}\"")))
    };
    soon(|| told("TokenSignature") && told("TokenExpired"));
}

#[test]
fn without_a_policy_that_asks_no_token_is_needed_and_a_bad_one_refused_all_the_same() {
    let Some(stage) = Stage::open(None) else { return };
    stage.gets(&stage.web, Some(&stage.key.token(&json!({}))), (200, ""));
    stage.gets(&stage.web, None, (200, ""));
    stage.gets(&stage.web, Some("not.a.token"), (401, "TokenMalformed"));
    stage.gets(&stage.plain, Some("not.a.token"), (401, "TokenMalformed"));
    // What is no HTTP has no tokens.
    soon(|| {
        let Ok(mut stream) = stage.web.tcp_connect(stage.api.addr(9000)) else { return false };
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
    });
}

/// The same claims, and `none` for an algorithm.
fn unsigned(token: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).unwrap();
    format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string()))
}
