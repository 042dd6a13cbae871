//! Which tokens of a request are looked at, what they prove, and what is left of them.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::{AUTHORIZATION, COOKIE};
use proptest::prelude::*;
use serde_json::json;
use weft_model::TokenHeader;

use super::*;

/// A provider that signs.
struct Signer {
    name: &'static str,
    key: Ed25519KeyPair,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        Self { name, key: Ed25519KeyPair::generate().unwrap() }
    }

    fn issuer(&self) -> String {
        format!("https://{}.example", self.name)
    }

    fn jwks(&self) -> Arc<Jwks> {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        let document = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]});
        Arc::new(Jwks::parse(document.to_string().as_bytes()).unwrap().0)
    }

    fn provider(&self) -> JwtProvider {
        JwtProvider {
            name: self.name.into(),
            issuer: self.issuer().into(),
            audiences: Vec::new(),
            keys: JwksSource::Inline(self.jwks()),
            headers: vec![TokenHeader::default()],
            forward: false,
        }
    }

    /// For `sub`, and whom else it may be for.
    fn token(&self, sub: &str, aud: &[&str]) -> String {
        let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 300;
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": self.issuer(), "sub": sub, "exp": exp, "aud": aud});
        let message = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": "1"})), part(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes())))
    }
}

fn providers(all: &[JwtProvider]) -> Arc<Providers> {
    let pod = ObjectName::new("shop", "web");
    let snapshot = Snapshot { jwt: Arc::new([(pod.clone(), all.into())].into()), ..Snapshot::default() };
    Arc::clone(Tokens::updated(&snapshot, &Tokens::default()).of(&pod).unwrap())
}

fn headers(lines: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::try_from(value.as_str()).unwrap());
    }
    headers
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

#[test]
fn a_good_token_proves_what_it_says_and_the_app_does_not_see_it() {
    let corp = Signer::new("corp");
    let mut seen = headers(&[bearer(&corp.token("ann", &[])), ("cookie", "a=1".into())]);
    let proven = providers(&[corp.provider()]).authenticate(&mut seen).unwrap();
    assert!(proven.has("corp", "sub", "ann"));
    assert!(!seen.contains_key(AUTHORIZATION) && seen.contains_key(COOKIE));

    let shown = JwtProvider { forward: true, ..corp.provider() };
    let mut seen = headers(&[bearer(&corp.token("ann", &[]))]);
    providers(&[shown]).authenticate(&mut seen).unwrap();
    assert!(seen.contains_key(AUTHORIZATION), "where the provider says so");
}

#[test]
fn who_has_no_token_passes_and_proves_nothing() {
    let taken = providers(&[Signer::new("corp").provider()]);
    for lines in [
        &[][..],
        &[("authorization", "Basic YTpi".into())],
        &[("x-token", "a.b.c".into())],
        &[("authorization", "Bearer".into())],
    ] {
        let mut seen = headers(lines);
        assert_eq!(taken.authenticate(&mut seen), Ok(ProvenClaims::default()), "{lines:?}");
        assert_eq!(seen, headers(lines), "and the request stays as it is");
    }
}

#[test]
fn a_token_that_is_not_good_is_refused_for_its_own_reason() {
    let (corp, other) = (Signer::new("corp"), Signer::new("other"));
    let forged = Signer { name: "corp", key: Ed25519KeyPair::generate().unwrap() };
    let taken = providers(&[JwtProvider { audiences: vec!["shop".into()], ..corp.provider() }]);
    let says = |value: String| taken.authenticate(&mut headers(&[("authorization", value)])).unwrap_err();
    assert_eq!(says("Bearer a.b.c".into()).reason(), Reason::TOKEN_MALFORMED);
    assert_eq!(says("Bearer ".into()).reason(), Reason::TOKEN_MALFORMED);
    assert_eq!(says(format!("Bearer  {}", corp.token("ann", &["shop"]))).reason(), Reason::TOKEN_MALFORMED);
    assert_eq!(says(format!("Bearer {}", other.token("ann", &["shop"]))).reason(), Reason::TOKEN_ISSUER);
    assert_eq!(says(format!("Bearer {}", forged.token("ann", &["shop"]))).reason(), Reason::TOKEN_SIGNATURE);
    assert_eq!(says(format!("Bearer {}", corp.token("ann", &["bank"]))).reason(), Reason::TOKEN_AUDIENCE);
    let challenge = says("Bearer a.b.c".into()).challenge().unwrap();
    assert_eq!(challenge, "Bearer error=\"invalid_token\", error_description=\"it is no well-formed JWT\"");
}

#[test]
fn the_case_of_a_prefix_lets_no_token_by_unseen() {
    let corp = Signer::new("corp");
    let taken = providers(&[corp.provider()]);
    for prefix in ["bearer ", "BEARER ", "bEaReR "] {
        let mut seen = headers(&[("authorization", format!("{prefix}{}", corp.token("ann", &[])))]);
        assert!(taken.authenticate(&mut seen).unwrap().has("corp", "sub", "ann"));
        assert!(!seen.contains_key(AUTHORIZATION));
        let refused = taken.authenticate(&mut headers(&[("authorization", format!("{prefix}x.y.z"))]));
        assert_eq!(refused.unwrap_err().reason(), Reason::TOKEN_MALFORMED);
    }
}

#[test]
fn of_several_tokens_in_one_header_none_is_taken() {
    let corp = Signer::new("corp");
    let taken = providers(&[corp.provider()]);
    let (ann, bob) = (bearer(&corp.token("ann", &[])), bearer(&corp.token("bob", &[])));
    assert_eq!(taken.authenticate(&mut headers(&[ann.clone(), bob])), Err(Refusal::Several));
    let joined = ("authorization", format!("{}, {}", ann.1, ann.1));
    assert_eq!(taken.authenticate(&mut headers(&[joined])).unwrap_err().reason(), Reason::TOKEN_MALFORMED);
    // A line that has no token is nobody's business, and stays.
    let mut seen = headers(&[("authorization", "Basic YTpi".into()), ann]);
    assert!(taken.authenticate(&mut seen).unwrap().has("corp", "sub", "ann"));
    assert_eq!(seen, headers(&[("authorization", "Basic YTpi".into())]));
}

#[test]
fn each_header_has_its_own_providers_and_the_longer_prefix_is_meant() {
    let (corp, partner) = (Signer::new("corp"), Signer::new("partner"));
    let at = |name: &str, prefix: &str| TokenHeader { name: name.into(), prefix: prefix.into() };
    let taken = providers(&[
        JwtProvider { headers: vec![at("x-token", "")], ..corp.provider() },
        JwtProvider { headers: vec![at("x-token", "JWT "), at("x-partner", "")], ..partner.provider() },
    ]);
    let says = |name, value: String| taken.authenticate(&mut headers(&[(name, value)]));
    assert!(says("x-token", corp.token("ann", &[])).unwrap().is_of("corp"));
    assert!(says("x-token", format!("JWT {}", partner.token("ann", &[]))).unwrap().is_of("partner"));
    let misplaced = says("x-token", partner.token("ann", &[])).unwrap_err();
    assert_eq!(misplaced.reason(), Reason::TOKEN_ISSUER, "not from there");
    let both = [("x-token", corp.token("ann", &[])), ("x-partner", partner.token("bob", &[]))];
    let proven = taken.authenticate(&mut headers(&both)).unwrap();
    assert!(proven.has("corp", "sub", "ann") && proven.has("partner", "sub", "bob"));
    let one_bad = [("x-token", corp.token("ann", &[])), ("x-partner", "x".into())];
    assert!(taken.authenticate(&mut headers(&one_bad)).is_err());
    let twice =
        [("x-token", format!("JWT {}", partner.token("ann", &[]))), ("x-partner", partner.token("bob", &[]))];
    assert_eq!(taken.authenticate(&mut headers(&twice)), Err(Refusal::Several), "two of one provider");
}

#[test]
fn two_providers_of_one_issuer_each_ask_for_their_own_audience() {
    let corp = Signer::new("corp");
    let of = |name: &str, audience: &str| JwtProvider {
        name: name.into(),
        audiences: vec![audience.into()],
        ..corp.provider()
    };
    let taken = providers(&[of("shop", "shop"), of("till", "till")]);
    let proven = |aud: &[&str]| taken.authenticate(&mut headers(&[bearer(&corp.token("ann", aud))]));
    let is = |proven: ProvenClaims| (proven.is_of("shop"), proven.is_of("till"));
    assert_eq!(is(proven(&["shop"]).unwrap()), (true, false));
    assert_eq!(is(proven(&["till"]).unwrap()), (false, true));
    assert_eq!(is(proven(&["till", "shop"]).unwrap()), (true, true));
    assert_eq!(proven(&["bank"]).unwrap_err().reason(), Reason::TOKEN_AUDIENCE);
}

#[test]
fn keys_that_come_go_and_change_are_followed_and_last_ones_stay() {
    let (old, new) = (Signer::new("corp"), Signer::new("corp"));
    let pod = ObjectName::new("shop", "web");
    let uri: Arc<str> = "https://idp.example/jwks".into();
    let provider = JwtProvider { keys: JwksSource::Uri(Arc::clone(&uri)), ..old.provider() };
    let with = |keys: Option<&Signer>| Snapshot {
        jwt: Arc::new([(pod.clone(), [provider.clone()].into())].into()),
        jwks: Arc::new(keys.map(|signer| (Arc::clone(&uri), signer.jwks())).into_iter().collect()),
        ..Snapshot::default()
    };
    let says = |tokens: &Tokens, signer: &Signer| {
        let taken = tokens.of(&pod).unwrap();
        taken.authenticate(&mut headers(&[bearer(&signer.token("ann", &[]))])).map(drop)
    };
    let none = Tokens::updated(&with(None), &Tokens::default());
    assert_eq!(says(&none, &old), Err(Refusal::NoKeys));
    assert_eq!((Refusal::NoKeys.reason().status(), Refusal::NoKeys.challenge()), (Some(503), None));
    assert_eq!(none.of(&pod).unwrap().authenticate(&mut HeaderMap::new()), Ok(ProvenClaims::default()));
    let first = Tokens::updated(&with(Some(&old)), &none);
    assert_eq!(says(&first, &old), Ok(()));
    let same = Tokens::updated(&with(Some(&old)), &first);
    assert!(Arc::ptr_eq(first.of(&pod).unwrap(), same.of(&pod).unwrap()), "nothing is made anew");
    let restarted = Tokens::updated(&with(None), &same);
    assert_eq!(says(&restarted, &old), Ok(()), "an agent without keys takes none away");
    let rotated = Tokens::updated(&with(Some(&new)), &restarted);
    assert_eq!(says(&rotated, &new), Ok(()));
    assert_eq!(says(&rotated, &old).unwrap_err().reason(), Reason::TOKEN_SIGNATURE);
    let gone = Tokens::updated(&Snapshot::default(), &rotated);
    assert!(gone.of(&pod).is_none() && gone.keys.is_empty());
}

proptest! {
    #[test]
    fn whatever_the_headers_are_nothing_is_proven_by_chance(
        values in proptest::collection::vec("(Bearer |bearer|JWT )?[ -~]{0,60}", 0..4),
    ) {
        let taken = providers(&[Signer::new("corp").provider()]);
        let lines: Vec<_> = values.into_iter().map(|value| ("authorization", value)).collect();
        if let Ok(proven) = taken.authenticate(&mut headers(&lines)) {
            prop_assert_eq!(proven, ProvenClaims::default());
        }
    }
}
