//! JSON Web Key Sets (RFC 7517): the public keys of whoever signs tokens.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The keys of a provider that can verify tokens: at least one, of the kinds that are taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Jwks {
    /// In the order of the document.
    pub keys: Vec<JwtKey>,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JwtKey {
    /// Its `kid`.
    pub id: Option<Arc<str>>,
    /// The key itself, which says with which algorithm it verifies.
    pub material: KeyMaterial,
}

/// What a key is made of, in base64url as in the document. There is one algorithm for each kind: a token cannot choose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KeyMaterial {
    /// RS256: RSA of 2048 to 8192 bits.
    Rsa {
        /// The modulus.
        n: Arc<str>,
        /// The exponent.
        e: Arc<str>,
    },
    /// ES256: a point on P-256.
    P256 {
        /// Its one coordinate, 32 bytes.
        x: Arc<str>,
        /// Its other, 32 bytes.
        y: Arc<str>,
    },
    /// EdDSA: Ed25519.
    Ed25519 {
        /// The public key, 32 bytes.
        x: Arc<str>,
    },
}

/// Why a text is no key set that tokens can be verified with.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// No JSON, or not of the form.
    #[error("it is no JSON Web Key Set: {source}; it should be like {{\"keys\": [...]}}")]
    Form {
        /// The cause.
        source: serde_json::Error,
    },
    /// No key of it is of use.
    #[error("none of its {there} keys can verify tokens{}; RS256, ES256 and EdDSA are taken", first(*.why))]
    NoKey {
        /// How many there are.
        there: usize,
        /// What is wrong with the first.
        why: Option<Unusable>,
    },
    /// Too many.
    #[error("it has {there} keys; there may be {}", Jwks::MOST)]
    TooMany {
        /// How many there are.
        there: usize,
    },
}

/// A key that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place, from 0.
    pub index: usize,
    /// Why.
    pub why: Unusable,
}

/// Why a key is of no use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Another kind of key, or no key at all.
    #[error("is no RSA key, no P-256 and no Ed25519 key")]
    Kind,
    /// For something else than signatures.
    #[error("is not for verifying signatures (use, key_ops)")]
    Use,
    /// For another algorithm than RS256, ES256 or EdDSA, each with its own kind of key.
    #[error("is for another algorithm (alg) than RS256, ES256 or EdDSA, whichever its kind has")]
    Algorithm,
    /// Parts are missing, no base64url or of a wrong length.
    #[error("has parts that are missing, no base64url, or of a wrong length")]
    Malformed,
    /// An RSA key that is too short to trust, or too long to afford.
    #[error("is an RSA key of less than 2048 or more than 8192 bits")]
    Bits,
    /// It can sign: whoever reads it can be the provider.
    #[error("is a private key; publish only its public part, and replace it")]
    Private,
}

impl Jwks {
    /// How many keys a document may have. A token that names none has all of its kind tried.
    pub const MOST: usize = 32;

    /// Reads a document, and which of its keys are left out: a provider may have keys for others, too.
    pub fn parse(text: &[u8]) -> Result<(Self, Vec<SkippedKey>), JwksError> {
        let document: Document = serde_json::from_slice(text).map_err(|source| JwksError::Form { source })?;
        let there = document.keys.len();
        if there > Self::MOST {
            return Err(JwksError::TooMany { there });
        }
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, key) in document.keys.into_iter().enumerate() {
            // One that has another form is none of those that are taken.
            let key = serde_json::from_value::<Jwk>(key).map_err(|_| Unusable::Malformed);
            match key.and_then(Jwk::check) {
                Ok(key) => keys.push(key),
                Err(why) => skipped.push(SkippedKey { index, why }),
            }
        }
        if keys.is_empty() {
            return Err(JwksError::NoKey { there, why: skipped.first().map(|skipped| skipped.why) });
        }
        Ok((Self { keys }, skipped))
    }
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys[{}] {}", self.index, self.why)
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// A key as the document has it (RFC 7517 4, RFC 7518 6, RFC 8037 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<Arc<str>>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    fn check(self) -> Result<JwtKey, Unusable> {
        let algorithms: &[&str] = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => &["RS256"],
            ("EC", Some("P-256")) => &["ES256"],
            ("OKP", Some("Ed25519")) => &["EdDSA", "Ed25519"],
            _ => return Err(Unusable::Kind),
        };
        if self.d.is_some() {
            return Err(Unusable::Private);
        }
        let for_signatures = self.r#use.as_deref().is_none_or(|what| what == "sig");
        if !for_signatures || self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err(Unusable::Use);
        }
        if self.alg.as_deref().is_some_and(|alg| !algorithms.contains(&alg)) {
            return Err(Unusable::Algorithm);
        }
        let material = match self.kty.as_str() {
            "RSA" => rsa(self.n.as_deref(), self.e.as_deref())?,
            "EC" => KeyMaterial::P256 { x: coordinate(self.x)?, y: coordinate(self.y)? },
            _ => KeyMaterial::Ed25519 { x: coordinate(self.x)? },
        };
        Ok(JwtKey { id: self.kid, material })
    }
}

/// Numbers may come with zeros in front, which verifiers refuse: they are taken away.
fn rsa(n: Option<&str>, e: Option<&str>) -> Result<KeyMaterial, Unusable> {
    let number = |text: Option<&str>| {
        let bytes = URL_SAFE_NO_PAD.decode(text.ok_or(Unusable::Malformed)?);
        let bytes = bytes.map_err(|_| Unusable::Malformed)?;
        let first = bytes.iter().position(|byte| *byte != 0).ok_or(Unusable::Malformed)?;
        Ok(bytes[first..].to_vec())
    };
    let (n, e) = (number(n)?, number(e)?);
    let bits = n.len() * 8 - n[0].leading_zeros() as usize;
    if !(2048..=8192).contains(&bits) {
        return Err(Unusable::Bits);
    }
    // 3 to 2^33 and odd, as verifiers want it.
    if e.len() > 5 || e.last().is_some_and(|last| last % 2 == 0) || e == [1] {
        return Err(Unusable::Malformed);
    }
    Ok(KeyMaterial::Rsa { n: URL_SAFE_NO_PAD.encode(n).into(), e: URL_SAFE_NO_PAD.encode(e).into() })
}

/// 32 bytes, as P-256 and Ed25519 have them.
fn coordinate(text: Option<String>) -> Result<Arc<str>, Unusable> {
    let text = text.ok_or(Unusable::Malformed)?;
    let bytes = URL_SAFE_NO_PAD.decode(&text).map_err(|_| Unusable::Malformed)?;
    if bytes.len() == 32 { Ok(text.into()) } else { Err(Unusable::Malformed) }
}

fn first(why: Option<Unusable>) -> String {
    why.map(|why| format!(" (the first {why})")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
