//! Tokens that are good, and each way in which one is not.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair, RsaPublicKeyComponents,
    },
};
use proptest::prelude::*;
use serde_json::json;
use weft_model::{JwksSource, TokenHeader};

use super::*;

/// One signer of each kind. Making RSA keys takes its time, so they are made once.
struct Signers {
    rsa: RsaKeyPair,
    other_rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

static SIGNERS: LazyLock<Signers> = LazyLock::new(|| Signers {
    rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    other_rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
    ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
    ed: Ed25519KeyPair::generate().unwrap(),
});

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa_jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let parts = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
    json!({"kty": "RSA", "kid": kid, "n": base64(parts.n), "e": base64(parts.e)})
}

fn ec_jwk(kid: &str) -> Value {
    let point = SIGNERS.ec.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": base64(&point[1..33]), "y": base64(&point[33..])})
}

fn ed_jwk(kid: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(SIGNERS.ed.public_key())})
}

fn all() -> Vec<Value> {
    vec![rsa_jwk(&SIGNERS.rsa, "rsa"), ec_jwk("ec"), ed_jwk("ed")]
}

fn verifier(keys: &[Value], audiences: &[&str]) -> Verifier {
    let (jwks, skipped) = Jwks::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap();
    assert_eq!(skipped, []);
    let provider = JwtProvider {
        name: "corp".into(),
        issuer: "https://idp.example".into(),
        audiences: audiences.iter().map(|audience| (*audience).into()).collect(),
        keys: JwksSource::Inline(jwks.clone().into()),
        headers: vec![TokenHeader::default()],
        forward: false,
    };
    Verifier::new(&provider, &jwks)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are good for `shop`, with others beside or in their place; a null takes one away.
fn claims(others: &Value) -> Value {
    let mut claims = json!({"iss": "https://idp.example", "aud": "shop", "exp": now() + 300, "sub": "ann"});
    for (name, value) in others.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// Signs as the header says, whatever key that is: `alg` and key need not agree.
fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    format!("{message}.{}", base64(sign(message.as_bytes())))
}

fn by_rsa(key: &RsaKeyPair) -> impl Fn(&[u8]) -> Vec<u8> {
    |message| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }
}

fn by_ec(message: &[u8]) -> Vec<u8> {
    SIGNERS.ec.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

fn by_ed(message: &[u8]) -> Vec<u8> {
    SIGNERS.ed.sign(message).as_ref().to_vec()
}

/// Of `ann`, by Ed25519, with these claims beside or in place of the good ones.
fn token(others: &Value) -> String {
    signed(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(others), by_ed)
}

fn verify(verifier: &Verifier, token: &str) -> Result<TokenClaims, TokenRefused> {
    verifier.verify(&Token::read(token)?)
}

/// Why a token of the good form is refused for `shop`.
fn refused(token: &str) -> TokenRefused {
    verify(&verifier(&all(), &["shop"]), token).unwrap_err()
}

#[test]
fn a_good_token_of_each_algorithm_says_what_it_says() {
    let verifier = verifier(&all(), &["shop"]);
    let claims = claims(&json!({"groups": ["readers"]}));
    let tokens = [
        signed(&json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}), &claims, by_rsa(&SIGNERS.rsa)),
        signed(&json!({"alg": "ES256", "kid": "ec"}), &claims, by_ec),
        signed(&json!({"alg": "EdDSA", "kid": "ed"}), &claims, by_ed),
    ];
    for token in tokens {
        let proven = verify(&verifier, &token).unwrap();
        assert_eq!((&proven.0["sub"], &proven.0["groups"]), (&json!("ann"), &json!(["readers"])), "{token}");
    }
}

/// RFC 7515, A.2 and A.3: that they have expired is known only of what is verified.
#[test]
fn the_examples_of_the_standard_are_verified() {
    let rsa = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-\
        Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSX\
        ndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoud\
        F8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let ec = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let claims =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let by_rsa = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb\
        F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d\
        O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_I\
        oypGlUPQGe77Rw";
    let by_ec = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    for (alg, signature) in [("RS256", by_rsa), ("ES256", by_ec)] {
        let head = base64(format!(r#"{{"alg":"{alg}"}}"#));
        let says = |signature: &str| {
            verify(&verifier(&[rsa.clone(), ec.clone()], &[]), &format!("{head}.{claims}.{signature}"))
                .map(drop)
        };
        assert_eq!(says(signature), Err(TokenRefused::Expired), "{alg}");
        assert_eq!(says(&signature.replace('D', "E")), Err(TokenRefused::Signature), "{alg}");
    }
}

#[test]
fn an_unsigned_token_is_refused_however_it_says_so() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let token = signed(&json!({"alg": alg, "kid": "ed"}), &claims(&json!({})), |_| Vec::new());
        assert_eq!(refused(&token), TokenRefused::Algorithm, "{alg}");
    }
    let token = signed(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(&json!({})), |_| Vec::new());
    assert_eq!(refused(&token), TokenRefused::Signature);
    assert_eq!(refused(&signed(&json!({"kid": "ed"}), &claims(&json!({})), by_ed)), TokenRefused::Malformed);
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let der = SIGNERS.rsa.public_key().as_der().unwrap().as_ref().to_vec();
    let n = RsaPublicKeyComponents::<Vec<u8>>::from(SIGNERS.rsa.public_key()).n;
    let x = SIGNERS.ed.public_key().as_ref().to_vec();
    for (kid, secret) in [("rsa", der), ("rsa", n), ("ed", x)] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let by = |message: &[u8]| aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec();
        let token = signed(&json!({"alg": "HS256", "kid": kid}), &claims(&json!({})), by);
        assert_eq!(refused(&token), TokenRefused::Algorithm, "{kid}");
    }
}

#[test]
fn the_algorithm_is_the_keys_own_and_no_other() {
    for (alg, kid) in [("RS256", "ed"), ("ES256", "ed"), ("EdDSA", "rsa"), ("EdDSA", "ec"), ("ES256", "rsa")]
    {
        let token = signed(&json!({"alg": alg, "kid": kid}), &claims(&json!({})), by_ed);
        assert_eq!(refused(&token), TokenRefused::Algorithm, "{alg} {kid}");
    }
    for alg in ["RS384", "RS512", "PS256", "ES384", "ES512", "ES256K", "HS512", "Ed25519"] {
        let token = signed(&json!({"alg": alg, "kid": "rsa"}), &claims(&json!({})), by_rsa(&SIGNERS.rsa));
        assert_eq!(refused(&token), TokenRefused::Algorithm, "{alg}");
    }
}

#[test]
fn a_token_that_names_its_key_is_verified_with_that_one() {
    let keys = [rsa_jwk(&SIGNERS.rsa, "old"), rsa_jwk(&SIGNERS.other_rsa, "new")];
    let verifier = verifier(&keys, &[]);
    let by = |kid: Value, key| {
        let token = signed(&json!({"alg": "RS256", "kid": kid}), &claims(&json!({})), by_rsa(key));
        verify(&verifier, &token).map(drop)
    };
    assert_eq!(by(json!("old"), &SIGNERS.rsa), Ok(()));
    assert_eq!(by(json!("new"), &SIGNERS.other_rsa), Ok(()));
    assert_eq!(
        by(json!("old"), &SIGNERS.other_rsa),
        Err(TokenRefused::Signature),
        "though another key would"
    );
    assert_eq!(by(json!("older"), &SIGNERS.rsa), Err(TokenRefused::Key));
    assert_eq!(by(json!(["old"]), &SIGNERS.rsa), Err(TokenRefused::Malformed));
    let nameless = signed(&json!({"alg": "RS256"}), &claims(&json!({})), by_rsa(&SIGNERS.other_rsa));
    assert!(verify(&verifier, &nameless).is_ok(), "each key of its kind is tried");
    let nobodys = signed(&json!({"alg": "EdDSA"}), &claims(&json!({})), by_ed);
    assert_eq!(verify(&verifier, &nobodys), Err(TokenRefused::Algorithm), "and there is none");
}

#[test]
fn a_key_without_a_name_may_be_any() {
    let mut key = ed_jwk("");
    key.as_object_mut().unwrap().remove("kid");
    let verifier = verifier(&[key, ec_jwk("ec")], &[]);
    assert!(verify(&verifier, &token(&json!({}))).is_ok());
}

#[test]
fn clocks_may_be_a_minute_apart_and_not_more() {
    let verifier = verifier(&all(), &["shop"]);
    let says = |others| verify(&verifier, &token(&others)).map(drop);
    assert_eq!(says(json!({"exp": now() - 50})), Ok(()));
    assert_eq!(says(json!({"exp": now() - 61})), Err(TokenRefused::Expired));
    assert_eq!(says(json!({"nbf": now() + 50})), Ok(()));
    assert_eq!(says(json!({"nbf": now() + 70})), Err(TokenRefused::NotYetValid));
    assert_eq!(says(json!({"exp": null})), Err(TokenRefused::Endless));
    for exp in [json!("never"), json!([1]), json!(-1), json!(1e300)] {
        assert!(says(json!({"exp": exp})).is_err(), "{exp}");
    }
    assert_eq!(says(json!({"nbf": "soon"})), Err(TokenRefused::Malformed));
}

#[test]
fn a_token_is_of_its_issuer_word_for_word() {
    for issuer in ["https://idp.example/", "https://idp.exampl", "HTTPS://idp.example", ""] {
        assert_eq!(refused(&token(&json!({"iss": issuer}))), TokenRefused::Issuer, "{issuer}");
    }
    assert_eq!(refused(&token(&json!({"iss": null}))), TokenRefused::Issuer);
    assert_eq!(refused(&token(&json!({"iss": ["https://idp.example"]}))), TokenRefused::Malformed);
    assert_eq!(Token::read(&token(&json!({}))).unwrap().issuer(), "https://idp.example");
}

#[test]
fn one_audience_of_several_is_enough_and_none_is_too_few() {
    let several = verifier(&all(), &["shop", "till"]);
    let says = |others| verify(&several, &token(&others)).map(drop);
    assert_eq!(says(json!({"aud": "till"})), Ok(()));
    assert_eq!(says(json!({"aud": ["bank", "shop"]})), Ok(()));
    assert_eq!(says(json!({"aud": ["bank"]})), Err(TokenRefused::Audience));
    assert_eq!(says(json!({"aud": []})), Err(TokenRefused::Audience));
    assert_eq!(says(json!({"aud": "shop "})), Err(TokenRefused::Audience));
    assert_eq!(says(json!({"aud": null})), Err(TokenRefused::Audience));
    let any = verifier(&all(), &[]);
    for aud in [json!("bank"), json!(null)] {
        assert!(verify(&any, &token(&json!({"aud": aud}))).is_ok(), "where nobody is asked for");
    }
}

#[test]
fn what_must_be_understood_is_not() {
    for crit in [json!(["exp"]), json!([]), json!(null), json!("b64")] {
        let token = signed(&json!({"alg": "EdDSA", "kid": "ed", "crit": crit}), &claims(&json!({})), by_ed);
        assert_eq!(refused(&token), TokenRefused::Critical, "{crit}");
    }
}

#[test]
fn a_bit_that_is_changed_anywhere_is_noticed() {
    let (good, verifier) = (token(&json!({})), verifier(&all(), &["shop"]));
    let parts: Vec<_> = good.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    for part in 0..3 {
        for byte in 0..parts[part].len() {
            let mut parts = parts.clone();
            parts[part][byte] ^= 1;
            let changed = parts.iter().map(base64).collect::<Vec<_>>().join(".");
            assert!(verify(&verifier, &changed).is_err(), "byte {byte} of part {part}");
        }
    }
}

#[test]
fn a_token_is_three_parts_and_not_too_long() {
    let good = token(&json!({}));
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        &good[1..],
        &format!("{good}.e"),
        &format!(" {good}"),
        &good.replace('.', ""),
    ] {
        assert_eq!(refused(text), TokenRefused::Malformed, "{text}");
    }
    assert_eq!(refused(&token(&json!({"more": "x".repeat(LONGEST_TOKEN)}))), TokenRefused::TooLong);
    let deep = format!("{}.{}.", base64(r#"{"alg": "EdDSA"}"#), base64("[".repeat(5000)));
    assert_eq!(refused(&deep), TokenRefused::Malformed);
}

#[test]
fn each_way_of_being_no_good_has_a_reason_of_its_own_kind() {
    use weft_abi::Reason;
    let status = |why: TokenRefused| why.reason().status();
    for why in [TokenRefused::TooLong, TokenRefused::Critical, TokenRefused::Issuer, TokenRefused::Signature]
    {
        assert_eq!(status(why), Some(401), "{why:?}");
    }
    assert_eq!(TokenRefused::Expired.reason(), Reason::TOKEN_EXPIRED);
    assert_eq!(TokenRefused::Key.reason().word(), "TokenKey");
}

proptest! {
    #[test]
    fn whatever_stands_in_a_header_is_refused_without_a_panic(text in "[ -~]{0,300}") {
        prop_assert!(verify(&verifier(&[ed_jwk("ed")], &[]), &text).is_err());
    }

    #[test]
    fn what_looks_like_a_token_and_is_not_signed_is_refused(
        alg in "(RS256|ES256|EdDSA|none|HS256)",
        kid in proptest::option::of("(rsa|ec|ed|x)"),
        claims in "\\{(\"iss\": ?\"https://idp.example\")?(, ?\"exp\": ?[0-9]{1,12})?\\}",
        signature in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let head = json!({"alg": alg, "kid": kid}).to_string();
        let text = format!("{}.{}.{}", base64(head), base64(claims), base64(signature));
        prop_assert!(verify(&verifier(&all(), &[]), &text).is_err());
    }
}
