//! Which keys are taken, and which are left out.

use proptest::prelude::*;

use super::*;

const X: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn modulus(bytes: usize, first: u8) -> String {
    let mut n = vec![0x55; bytes];
    n[0] = first;
    URL_SAFE_NO_PAD.encode(n)
}

fn one(key: &str) -> Result<(Jwks, Vec<SkippedKey>), JwksError> {
    Jwks::parse(format!("{{\"keys\": [{key}]}}").as_bytes())
}

fn unusable(key: &str) -> Unusable {
    match one(key) {
        Err(JwksError::NoKey { there: 1, why: Some(why) }) => why,
        other => panic!("{key}: {other:?}"),
    }
}

#[test]
fn three_kinds_of_keys_are_taken_each_for_its_own_algorithm() {
    let rsa = format!(r#"{{"kty": "RSA", "kid": "a", "n": "{}", "e": "AQAB"}}"#, modulus(256, 0x80));
    let (jwks, skipped) = one(&rsa).unwrap();
    assert_eq!((jwks.keys[0].id.as_deref(), skipped.len()), (Some("a"), 0));
    assert!(matches!(jwks.keys[0].material, KeyMaterial::Rsa { .. }));
    let ec =
        format!(r#"{{"kty": "EC", "crv": "P-256", "x": "{X}", "y": "{X}", "alg": "ES256", "use": "sig"}}"#);
    assert!(matches!(one(&ec).unwrap().0.keys[0].material, KeyMaterial::P256 { .. }));
    for alg in ["EdDSA", "Ed25519"] {
        let ed = format!(
            r#"{{"kty": "OKP", "crv": "Ed25519", "x": "{X}", "alg": "{alg}", "key_ops": ["verify"]}}"#
        );
        assert!(matches!(one(&ed).unwrap().0.keys[0].material, KeyMaterial::Ed25519 { .. }));
    }
}

#[test]
fn a_key_for_something_else_or_of_another_kind_is_left_out_and_named() {
    let n = modulus(256, 0x80);
    let rsa = |more: &str| format!(r#"{{"kty": "RSA", "n": "{n}", "e": "AQAB"{more}}}"#);
    assert_eq!(unusable(r#"{"kty": "oct", "k": "c2VjcmV0"}"#), Unusable::Kind);
    assert_eq!(
        unusable(&format!(r#"{{"kty": "EC", "crv": "P-384", "x": "{X}", "y": "{X}"}}"#)),
        Unusable::Kind
    );
    assert_eq!(unusable(&format!(r#"{{"kty": "OKP", "crv": "X25519", "x": "{X}"}}"#)), Unusable::Kind);
    assert_eq!(unusable(&rsa(r#", "use": "enc""#)), Unusable::Use);
    assert_eq!(unusable(&rsa(r#", "key_ops": ["encrypt"]"#)), Unusable::Use);
    for alg in ["PS256", "RS512", "HS256", "none", "ES256"] {
        assert_eq!(unusable(&rsa(&format!(r#", "alg": "{alg}""#))), Unusable::Algorithm, "{alg}");
    }
    assert_eq!(unusable(&rsa(r#", "d": "AQAB""#)), Unusable::Private);
    assert_eq!(unusable(r#"{"kty": 3}"#), Unusable::Malformed);
}

#[test]
fn a_key_of_a_wrong_size_is_left_out() {
    let rsa = |n: &str, e: &str| format!(r#"{{"kty": "RSA", "n": "{n}", "e": "{e}"}}"#);
    assert_eq!(unusable(&rsa(&modulus(256, 0x7f), "AQAB")), Unusable::Bits, "2047 bits");
    assert_eq!(unusable(&rsa(&modulus(128, 0x80), "AQAB")), Unusable::Bits);
    assert_eq!(unusable(&rsa(&modulus(1025, 0x80), "AQAB")), Unusable::Bits);
    for e in ["AQ", "Ag", "AA", "", "AQAB AQAB", "AQEBAQEBAQ"] {
        assert_eq!(unusable(&rsa(&modulus(256, 0x80), e)), Unusable::Malformed, "{e}");
    }
    for x in [&X[..42], &format!("{X}AA"), "=", &X.replace('A', "+")] {
        let ed = format!(r#"{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}"#);
        assert_eq!(unusable(&ed), Unusable::Malformed, "{x}");
    }
}

#[test]
fn zeros_before_a_modulus_are_none_of_it() {
    let mut n = vec![0, 0];
    n.extend(URL_SAFE_NO_PAD.decode(modulus(256, 0x80)).unwrap());
    let (jwks, _) =
        one(&format!(r#"{{"kty": "RSA", "n": "{}", "e": "AAEAAQ"}}"#, URL_SAFE_NO_PAD.encode(n))).unwrap();
    let KeyMaterial::Rsa { n, e } = &jwks.keys[0].material else { panic!("{jwks:?}") };
    assert_eq!((&**n, &**e), (&*modulus(256, 0x80), "AQAB"));
}

#[test]
fn one_useless_key_does_not_take_the_others_with_it() {
    let (jwks, skipped) =
        one(&format!(r#"{{"kty": "oct"}}, {{"kty": "OKP", "crv": "Ed25519", "x": "{X}"}}"#)).unwrap();
    assert_eq!(jwks.keys.len(), 1);
    assert_eq!(skipped, [SkippedKey { index: 0, why: Unusable::Kind }]);
    assert_eq!(skipped[0].to_string(), "keys[0] is no RSA key, no P-256 and no Ed25519 key");
}

#[test]
fn a_document_without_keys_or_with_too_many_is_refused_in_words() {
    let says = |text: &str| Jwks::parse(text.as_bytes()).unwrap_err().to_string();
    assert!(says("<html>").starts_with("it is no JSON Web Key Set: "), "{}", says("<html>"));
    assert!(says("[]").starts_with("it is no JSON Web Key Set: "));
    assert!(says(r#"{"keys": []}"#).starts_with("none of its 0 keys can verify tokens; RS256"));
    let many = vec![r#"{"kty": "oct"}"#; Jwks::MOST + 1].join(",");
    assert_eq!(says(&format!("{{\"keys\": [{many}]}}")), "it has 33 keys; there may be 32");
}

proptest! {
    #[test]
    fn whatever_a_server_sends_is_a_key_set_or_an_error(text in ".{0,200}") {
        let _ = Jwks::parse(text.as_bytes());
    }

    #[test]
    fn what_is_read_is_read_the_same_again(parts in prop::collection::vec(any::<[u8; 32]>(), 1..8)) {
        let key = |x: &[u8; 32]| format!(
            r#"{{"kty": "OKP", "crv": "Ed25519", "x": "{}"}}"#, URL_SAFE_NO_PAD.encode(x)
        );
        let (jwks, _) = one(&parts.iter().map(key).collect::<Vec<_>>().join(",")).unwrap();
        prop_assert_eq!(jwks.keys.len(), parts.len());
        let sent = serde_json::to_vec(&jwks).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Jwks>(&sent).unwrap(), jwks);
    }
}
