//! What holds of whatever is given for a token, or for a provider's keys: asked by the fuzz targets `jwt` and `jwks`, and by
//! bounded tests.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weft_model::{Jwks, JwksSource, JwtKey, JwtProvider, KeyMaterial};

use super::{Token, Verifier};

/// Reads what may be a token: as it stands, and as the three parts of one in three lines, not encoded yet. Nobody has the
/// private keys of [`KEYS`]: what is taken says what one of [`GENUINE`] says.
pub(crate) fn token(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        judge(text);
    }
    let parts: Vec<_> =
        bytes.splitn(3, |byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    judge(&parts.join("."));
}

/// Reads what may be a document of keys. Those that are taken read as themselves once more, and verify no token of others.
pub(crate) fn keys(bytes: &[u8]) {
    let Ok((taken, skipped)) = Jwks::parse(bytes) else { return };
    assert!(taken.keys.len() + skipped.len() <= Jwks::MOST, "{} and {}", taken.keys.len(), skipped.len());
    let document = json!({"keys": taken.keys.iter().map(written).collect::<Vec<_>>()}).to_string();
    let (again, skipped) = Jwks::parse(document.as_bytes()).expect("what was taken is taken");
    assert_eq!((&again, &skipped[..]), (&taken, &[][..]), "{document}");
    let verifier = Verifier::new(&provider("shop"), &taken);
    for token in GENUINE {
        let is_taken = verifier.verify(&Token::read(token).expect("it is well-formed")).is_ok();
        let ours = |key: &JwtKey| OURS.keys.iter().any(|own| own.material == key.material);
        assert!(!is_taken || taken.keys.iter().any(ours), "others' keys verify it: {document}");
    }
}

fn judge(text: &str) {
    let Ok(token) = Token::read(text) else { return };
    let signed = |text: &str| text.rsplit_once('.').map(|(signed, _)| signed.to_owned());
    let is_forged = || GENUINE.iter().all(|genuine| signed(genuine) != signed(text));
    assert!(VERIFIER.verify(&token).is_err() || !is_forged(), "nobody has signed it: {text}");
    assert!(ELSEWHERE.verify(&token).is_err(), "it is for somebody else: {text}");
}

/// For the tokens of `https://idp.example` that are for `audience`.
fn provider(audience: &str) -> JwtProvider {
    JwtProvider {
        name: "corp".into(),
        issuer: "https://idp.example".into(),
        audiences: vec![audience.into()],
        keys: JwksSource::Inline(OURS.clone().into()),
        headers: Vec::new(),
        forward: false,
    }
}

fn written(key: &JwtKey) -> Value {
    let mut document = match &key.material {
        KeyMaterial::Rsa { n, e } => json!({"kty": "RSA", "n": n, "e": e}),
        KeyMaterial::P256 { x, y } => json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
        KeyMaterial::Ed25519 { x } => json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
    };
    if let Some(id) = &key.id {
        document["kid"] = json!(id);
    }
    document
}

static OURS: LazyLock<Jwks> = LazyLock::new(|| Jwks::parse(KEYS.as_bytes()).expect("they are keys").0);
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(&provider("shop"), &OURS));
static ELSEWHERE: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(&provider("bank"), &OURS));

/// One key of each kind; the private ones were thrown away once they had signed [`GENUINE`].
const KEYS: &str = include_str!("property/keys.json");

/// For `shop`, until the year 3000: by RSA, on P-256, and by Ed25519.
const GENUINE: [&str; 3] = [
    "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwiYXVkIjoic2hvcCIsImV4cCI\
        6MzI1MDM2ODAwMDB9.R4BTDxbTmSk5WlOZ25T3RdFuBDlULJWPxFNqSeQQYrozlW1u52deQ6ZlwTwLuwpk4635R-Co0xZBfBckON\
        7ZwLHL7A3jiQyyInW2sShdpPrjl2GfrlGA1zaFcAoKvKAr_3B2GkRhy1Jv_8G_1YScH5JjTtKF6CJJf-520SS45o_db-3W8EyZwF\
        Lgv9MVspqhjiawgFmSKqa7fjDp_rIpIUt8ry9f7Pg-DYY1GVchMIs2j4oXYF1j_vnYpmAusUTHOufPSxxp8LtUe-2LzzC01gukKG\
        q7A9fJMH17elf_M7SZG9wWdhX4HaY5SOl5Jw6-peUAL-31-qj3VVKoBWwaUg",
    "eyJhbGciOiJFUzI1NiIsImtpZCI6ImVjIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwiYXVkIjoic2hvcCIsImV4cCI6\
        MzI1MDM2ODAwMDB9.iJfLf5gcyTmzRRNwILBEguhfDDSzdcKjnmTNDG0DU4AcXHnanotIl6jB8uXy4A3Wxja1DlC_43Gk4XlZ3Fc\
        mxA",
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwiYXVkIjoic2hvcCIsImV4cCI6\
        MzI1MDM2ODAwMDB9.OPLn6Wg9qU3SAfpbMWIIkMfsPbgBa5safju2R4wM4luoEheb71at8wHKxexod8WV6AwhtZYQeZRfZ_MEdpy\
        jCA",
];

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Noise, and what was written with a few bytes changed and the rest cut off.
    fn changed(written: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
        let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
        let near = (prop::sample::select(written), changes, any::<prop::sample::Index>());
        let near = near.prop_map(|(mut bytes, changes, cut)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(3 * bytes.len()));
            bytes
        });
        prop_oneof![1 => vec(any::<u8>(), 0..512), 3 => near]
    }

    fn config() -> ProptestConfig {
        ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }
    }

    /// The parts of a token, decoded, in three lines.
    fn lines(token: &str) -> Vec<u8> {
        let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        parts.join(&b'\n')
    }

    #[test]
    fn what_is_no_token_or_almost_one_is_read_without_a_panic_and_never_taken() {
        for token in GENUINE {
            assert!(VERIFIER.verify(&Token::read(token).unwrap()).is_ok(), "{token}");
        }
        let written = GENUINE.iter().flat_map(|token| [token.as_bytes().to_vec(), lines(token)]).collect();
        proptest!(config(), |(bytes in changed(written))| token(&bytes));
    }

    #[test]
    fn what_are_no_keys_or_almost_some_are_read_without_a_panic_and_verify_nothing_of_others() {
        assert_eq!(OURS.keys.len(), 3);
        proptest!(config(), |(bytes in changed(vec![KEYS.into()]))| keys(&bytes));
    }
}
