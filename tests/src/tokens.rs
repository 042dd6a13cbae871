//! Keys that sign tokens, and the documents that verify them.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A key that signs, and its name.
pub struct TokenKey {
    id: String,
    pair: Ed25519KeyPair,
}

impl TokenKey {
    /// One that nobody has yet.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Ed25519KeyPair::generate().expect("there is randomness") }
    }

    /// The one of this name, always the same: what verifies it may stand in a file.
    pub fn known(id: &str) -> Self {
        let seed = digest(&SHA256, format!("weft tests: {id}").as_bytes());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).expect("32 bytes are a seed");
        Self { id: id.to_owned(), pair }
    }

    /// The JSON Web Key Set that has it alone.
    pub fn document(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x}]}).to_string()
    }

    /// A token that is good for five minutes, with these claims beside or in place of that; a null takes one away.
    pub fn sign(&self, claims: &Value) -> String {
        let mut all = json!({"exp": now() + 300});
        for (name, value) in claims.as_object().expect("claims are an object") {
            all[name] = value.clone();
        }
        all.as_object_mut().expect("it is one").retain(|_, value| !value.is_null());
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": self.id})), part(&all));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes())))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}
