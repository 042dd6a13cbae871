//! What the CRDs say that Rust's types do not: bounds, and rules that name the remedy.
//!
//! Rules are CEL, run by the API server, and say what the `check` beside each type says. Every list and text under a rule has
//! a bound: from it the server computes what a rule may cost, and it refuses a CRD whose rules cost too much.

mod text;

use serde_json::{Value, json};

pub(super) use text::{
    AccountName, Cidr, Claim, CookiePath, Duration, HeaderName, HeaderPrefix, HeaderValue, Host, JwksPath,
    JwksUri, Label, LabelKey, Labels, LifeTime, Method, MtlsMode, Name, Path, ServiceName, SpiffeId,
    TrustDomain,
};

/// An entry of `x-kubernetes-validations`: what must hold, and what to do where it does not.
pub(super) fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// A rule over a whole object, which is about the field at `path` below it.
pub(super) fn rule_at(path: &str, rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message, "fieldPath": path})
}

/// The member of a union: there exactly when `type` is `word`.
pub(super) fn member(word: &str, member: &str) -> Value {
    let message = format!("type {word} and {member} go together: add the one, or remove the other");
    rule_at(&format!(".{member}"), &format!("(self.type == '{word}') == has(self.{member})"), &message)
}

/// The rules of `targetRefs`, which may be of these kinds.
pub(super) fn targets(kinds: &[&str]) -> Vec<Value> {
    let of_kind = format!("self.all(r, r.kind in ['{}'])", kinds.join("', '"));
    let message = format!("this policy cannot be for that kind: write one of {}", kinds.join(", "));
    // Not by `?`: behind it the server forgets how long a name may be.
    let unique = "self.all(r, r.kind == 'Pod' || self.exists_one(o, o.kind == r.kind \
                  && (has(o.name) ? o.name : '') == (has(r.name) ? r.name : '') \
                  && (has(o.sectionName) ? o.sectionName : '') == (has(r.sectionName) ? r.sectionName : '')))";
    let mut rules = vec![
        rule(&of_kind, &message),
        rule("self.all(r, r.kind == self[0].kind)", "a policy is for one kind: write a policy for each kind"),
        rule(unique, "the same target twice: remove one of the two"),
    ];
    if kinds.contains(&"Pod") {
        let message = "a policy for pods has one target: use matchExpressions in its selector, or write a second policy";
        rules.push(rule("self.size() <= 1 || self[0].kind != 'Pod'", message));
    }
    rules
}

/// `percent` and `fraction` both say how often.
pub(super) fn share() -> Value {
    rule(
        "!(has(self.percent) && has(self.fraction))",
        "percent and fraction both say how often: keep one of the two",
    )
}

/// A numerator that is not above its denominator.
pub(super) fn fraction() -> Value {
    rule_at(
        ".numerator",
        "self.numerator <= self.?denominator.orValue(100)",
        "more than the whole: write numerator <= denominator, which is 100 where it is left out",
    )
}
