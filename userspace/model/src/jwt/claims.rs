//! What tokens say.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a verified token says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenClaims(pub Map<String, Value>);

/// What is proven of a request's sender: the claims of its tokens, by the provider that vouches for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProvenClaims(pub BTreeMap<Arc<str>, TokenClaims>);

impl ProvenClaims {
    /// Whether there is a token of `provider`.
    pub fn is_of(&self, provider: &str) -> bool {
        self.0.contains_key(provider)
    }

    /// Whether a token of `provider` has the claim `name` as `value`, or in a list with it.
    pub fn has(&self, provider: &str, name: &str, value: &str) -> bool {
        match self.0.get(provider).and_then(|claims| claims.find(name)) {
            Some(Value::Array(several)) => several.iter().any(|one| is(one, value)),
            Some(one) => is(one, value),
            None => false,
        }
    }
}

impl TokenClaims {
    /// The claim of exactly this name (providers use URLs as names, and those have dots); where there is none, dots lead
    /// into objects.
    fn find(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(self.0.get(first)?, |value, part| value.as_object()?.get(part))
    }
}

/// A number or a truth value is compared as JSON spells it; an object or a list within a list is never equal.
fn is(said: &Value, value: &str) -> bool {
    match said {
        Value::String(text) => text == value,
        Value::Number(number) => number.to_string() == value,
        Value::Bool(truth) => value == if *truth { "true" } else { "false" },
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proven(claims: &str) -> ProvenClaims {
        ProvenClaims([("corp".into(), serde_json::from_str(claims).unwrap())].into())
    }

    #[test]
    fn a_claim_is_a_scalar_or_a_list_that_has_it() {
        let proven = proven(r#"{"sub": "ann", "groups": ["readers", "admins"], "level": 3, "staff": true}"#);
        let has = |name, value| proven.has("corp", name, value);
        assert!(has("sub", "ann") && has("groups", "admins") && has("level", "3") && has("staff", "true"));
        assert!(!has("sub", "an") && !has("sub", "Ann") && !has("sub", "ann ") && !has("sub", ""));
        assert!(!has("groups", "readers,admins") && !has("groups", "read") && !has("level", "3.0"));
        assert!(!has("nothing", "") && !has("nothing", "null"));
    }

    #[test]
    fn a_provider_vouches_for_its_own_tokens_alone() {
        let proven = proven(r#"{"sub": "ann"}"#);
        assert!(proven.is_of("corp") && !proven.is_of("partner") && !proven.is_of(""));
        assert!(!proven.has("partner", "sub", "ann"));
        assert!(!ProvenClaims::default().is_of("corp"));
    }

    #[test]
    fn dots_lead_into_objects_unless_a_claim_has_that_very_name() {
        let proven = proven(
            r#"{"realm": {"roles": ["a"], "deep": {"er": "b"}}, "https://idp.example/roles": ["c"],
                "realm.roles": ["exact"], "list": [{"x": "d"}]}"#,
        );
        let has = |name, value| proven.has("corp", name, value);
        assert!(has("realm.deep.er", "b") && has("https://idp.example/roles", "c"));
        assert!(has("realm.roles", "exact") && !has("realm.roles", "a"));
        assert!(!has("realm", "a") && !has("realm.", "a") && !has("list.x", "d") && !has("realm.deep", "b"));
    }
}
