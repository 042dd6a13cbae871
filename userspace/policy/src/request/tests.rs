use std::collections::BTreeMap;

use weft_model::{PathRule, TokenClaims};

use super::*;

struct Tokens(BTreeMap<(&'static str, &'static str), Vec<&'static str>>);

impl Claims for Tokens {
    fn is_of(&self, provider: &str) -> bool {
        self.0.keys().any(|(own, _)| *own == provider)
    }

    fn has(&self, provider: &str, claim: &str, value: &str) -> bool {
        let of = |((own, name), values): (&(&str, &str), &Vec<&str>)| {
            *own == provider && *name == claim && values.contains(&value)
        };
        self.0.iter().any(of)
    }
}

/// Whether a request surely is, and may be, what `rule` asks for.
fn asks(rule: &Rule, method: &str, path: &str, host: &str, headers: &[(&str, &str)]) -> (bool, bool) {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let path = Readings::of(path).unwrap();
    let request = HttpRequest { method, path: &path, host: Some(host), headers: &headers, claims: None };
    (surely(rule, Some(&request)), possibly(rule, Some(&request)))
}

fn rule(http: HttpAttributes) -> Rule {
    Rule { l7: true, http: Some(http), ..Rule::default() }
}

const YES: (bool, bool) = (true, true);
const NO: (bool, bool) = (false, false);
const MAYBE: (bool, bool) = (false, true);

#[test]
fn any_of_each_list_and_all_lists() {
    let rule = rule(HttpAttributes {
        methods: vec!["GET".into(), "HEAD".into()],
        paths: vec![PathRule::Prefix("/a".into()), PathRule::Exact("/b".into())],
        ..HttpAttributes::default()
    });
    assert_eq!(asks(&rule, "GET", "/a/x", "h", &[]), YES);
    assert_eq!(asks(&rule, "HEAD", "/b", "h", &[]), YES);
    assert_eq!(asks(&rule, "POST", "/a", "h", &[]), NO);
    assert_eq!(asks(&rule, "GET", "/c", "h", &[]), NO);
    assert_eq!(asks(&rule, "get", "/a", "h", &[]), MAYBE, "some servers take it");
}

#[test]
fn hosts_are_compared_without_port_case_and_last_dot() {
    let rule = rule(HttpAttributes {
        hosts: vec!["api.shop".into(), "*.example.com".into(), "10.0.0.1".into()],
        ..HttpAttributes::default()
    });
    for host in
        ["api.shop", "API.shop:80", "api.shop.", "a.example.com", "a.B.example.com:8080", "10.0.0.1:1"]
    {
        assert_eq!(asks(&rule, "GET", "/", host, &[]), YES, "{host}");
    }
    for host in ["shop", "xapi.shop", "example.com", "aexample.com", "api.shop.evil", "[::1]:80"] {
        assert_eq!(asks(&rule, "GET", "/", host, &[]), NO, "{host}");
    }
}

#[test]
fn a_header_that_says_more_than_the_value_is_not_enough_to_allow() {
    let header = HeaderRule { name: "x-env".into(), value: "prod".into() };
    let rule = rule(HttpAttributes { headers: vec![header], ..HttpAttributes::default() });
    assert_eq!(asks(&rule, "GET", "/", "h", &[("x-env", "prod")]), YES);
    assert_eq!(asks(&rule, "GET", "/", "h", &[("x-env", "test")]), NO);
    assert_eq!(asks(&rule, "GET", "/", "h", &[]), NO);
    assert_eq!(asks(&rule, "GET", "/", "h", &[("x-env", "prod"), ("x-env", "test")]), MAYBE);
    assert_eq!(asks(&rule, "GET", "/", "h", &[("x-env", "test, prod")]), MAYBE);
}

#[test]
fn what_nobody_can_see_fails_closed() {
    let unknown = Rule { l7: true, ..Rule::default() };
    assert_eq!(asks(&unknown, "GET", "/", "h", &[]), MAYBE, "an attribute of another version");
    assert_eq!((surely(&unknown, None), possibly(&unknown, None)), MAYBE);
    let get = rule(HttpAttributes { methods: vec!["GET".into()], ..HttpAttributes::default() });
    assert_eq!((surely(&get, None), possibly(&get, None)), MAYBE, "bytes that are no request");
    let token = TokenRule { provider: "corp".into(), claims: Vec::new() };
    let token = Rule { l7: true, token: Some(token), ..Rule::default() };
    assert_eq!(asks(&token, "GET", "/", "h", &[]), MAYBE, "nobody verifies tokens here");
}

#[test]
fn a_token_has_to_say_one_of_the_claims() {
    let claim = ClaimRule { name: "realm.roles".into(), values: vec!["admin".into(), "root".into()] };
    let of = |claims| {
        let token = TokenRule { provider: "corp".into(), claims };
        Rule { l7: true, token: Some(token), ..Rule::default() }
    };
    let (any, roles) = (of(Vec::new()), of(vec![claim]));
    let path = Readings::of("/").unwrap();
    let says = |rule: &Rule, tokens: &[(&'static str, &'static str, &'static str)]| {
        let tokens = tokens.iter().map(|(provider, name, value)| ((*provider, *name), vec![*value]));
        let tokens = Tokens(tokens.collect());
        let none: Vec<(String, String)> = Vec::new();
        let request =
            HttpRequest { method: "GET", path: &path, host: None, headers: &none, claims: Some(&tokens) };
        (surely(rule, Some(&request)), possibly(rule, Some(&request)))
    };
    assert_eq!(says(&any, &[]), NO, "no token");
    assert_eq!(says(&any, &[("corp", "sub", "me")]), YES);
    assert_eq!(says(&roles, &[("corp", "realm.roles", "admin")]), YES);
    assert_eq!(says(&roles, &[("corp", "realm.roles", "guest")]), NO);
    assert_eq!(says(&roles, &[("other", "realm.roles", "admin")]), NO, "another provider's");
}

#[test]
fn what_is_proven_by_tokens_is_what_rules_ask() {
    let said = [("role".to_owned(), "admin".into())].into_iter().collect();
    let proven = ProvenClaims([("idp".into(), TokenClaims(said))].into());
    let claims: &dyn Claims = &proven;
    assert!(claims.is_of("idp") && !claims.is_of("other"));
    assert!(claims.has("idp", "role", "admin") && !claims.has("idp", "role", "user"));
}
