//! Whether a JSON Web Token is good: its provider's signature, its times, whom it is from and for.
//!
//! The algorithm is the key's own, one for each kind of key. A token may name it, and is refused where it names another:
//! neither `none` nor a public key taken for a secret gets anywhere. A token that has no end is refused, too.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod property;
mod refused;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_model::{Jwks, JwtKey, JwtProvider, KeyMaterial, TokenClaims};

pub use refused::TokenRefused;

/// The longest token that is looked at, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;

/// How far the clocks of a provider and of this node may be apart, in seconds.
const SKEW: u64 = 60;

/// A token, taken apart. Nothing in it is proven.
#[derive(Debug)]
pub struct Token<'t> {
    text: &'t str,
    algorithm: Algorithm,
    key: Option<String>,
    issuer: String,
}

/// The keys of a provider, ready to verify what it issues. Immutable: new keys make another one.
pub struct Verifier {
    keys: Vec<Key>,
    /// What a token of each algorithm has to be.
    rules: [Validation; 3],
}

struct Key {
    id: Option<std::sync::Arc<str>>,
    algorithm: Algorithm,
    public: DecodingKey,
}

/// In the order of [`Verifier::rules`].
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

impl<'t> Token<'t> {
    /// Takes a token apart, without verifying anything.
    pub fn read(text: &'t str) -> Result<Self, TokenRefused> {
        if text.len() > LONGEST_TOKEN {
            return Err(TokenRefused::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(head), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenRefused::Malformed);
        };
        let head: Map<String, Value> = part(head)?;
        // What must be understood (RFC 7515 4.1.11): there is nothing that is.
        if head.contains_key("crit") {
            return Err(TokenRefused::Critical);
        }
        let text_of = |name| match head.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(TokenRefused::Malformed),
        };
        let named = text_of("alg")?.ok_or(TokenRefused::Malformed)?;
        let algorithm = ALGORITHMS.into_iter().find(|ours| format!("{ours:?}") == *named);
        let algorithm = algorithm.ok_or(TokenRefused::Algorithm)?;
        let Said { iss } = part(claims)?;
        Ok(Self { text, algorithm, key: text_of("kid")?.cloned(), issuer: iss.ok_or(TokenRefused::Issuer)? })
    }

    /// Who is said to have issued it: whose keys to ask.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

impl Verifier {
    /// For the tokens of `provider`, which has these keys now.
    pub fn new(provider: &JwtProvider, jwks: &Jwks) -> Self {
        let keys = jwks.keys.iter().filter_map(Key::new).collect();
        Self { keys, rules: ALGORITHMS.map(|algorithm| rules(provider, algorithm)) }
    }

    /// What a token says, once it is proven.
    pub fn verify(&self, token: &Token<'_>) -> Result<TokenClaims, TokenRefused> {
        // A key without a name may be any.
        let named =
            |key: &&Key| key.id.is_none() || token.key.is_none() || key.id.as_deref() == token.key.as_deref();
        let mut keys = self.keys.iter().filter(named).peekable();
        keys.peek().ok_or(TokenRefused::Key)?;
        let rules = ALGORITHMS.iter().zip(&self.rules).find(|(algorithm, _)| **algorithm == token.algorithm);
        let (_, rules) = rules.ok_or(TokenRefused::Algorithm)?;
        let mut refused = TokenRefused::Algorithm;
        for key in keys.filter(|key| key.algorithm == token.algorithm) {
            match decode::<Map<String, Value>>(token.text, &key.public, rules) {
                Ok(decoded) => return Ok(TokenClaims(decoded.claims)),
                Err(error) => refused = TokenRefused::of(error.kind()),
            }
            // Another key may have signed it; one that has says all the rest.
            if refused != TokenRefused::Signature {
                break;
            }
        }
        Err(refused)
    }
}

impl Key {
    /// `None` is what the model has let through and the library does not take; such a key verifies nothing.
    fn new(key: &JwtKey) -> Option<Self> {
        let (algorithm, read) = match &key.material {
            KeyMaterial::Rsa { n, e } => (Algorithm::RS256, DecodingKey::from_rsa_components(n, e)),
            KeyMaterial::P256 { x, y } => (Algorithm::ES256, DecodingKey::from_ec_components(x, y)),
            KeyMaterial::Ed25519 { x } => (Algorithm::EdDSA, DecodingKey::from_ed_components(x)),
        };
        Some(Self { id: key.id.clone(), algorithm, public: read.ok()? })
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

fn rules(provider: &JwtProvider, algorithm: Algorithm) -> Validation {
    let mut rules = Validation::new(algorithm);
    rules.leeway = SKEW;
    rules.validate_nbf = true;
    rules.set_issuer(&[&provider.issuer]);
    rules.validate_aud = !provider.audiences.is_empty();
    if rules.validate_aud {
        rules.set_audience(&provider.audiences);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
    } else {
        rules.set_required_spec_claims(&["exp", "iss"]);
    }
    rules
}

#[derive(Deserialize)]
struct Said {
    iss: Option<String>,
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TokenRefused> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenRefused::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenRefused::Malformed)
}

impl TokenRefused {
    fn of(error: &ErrorKind) -> Self {
        match error {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => Self::Endless,
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat => Self::Signature,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
