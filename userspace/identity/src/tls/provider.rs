//! Which cryptography: named here, not left to a library's defaults.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{
    CryptoProvider,
    aws_lc_rs::{
        self,
        cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
        kx_group::{SECP256R1, X25519, X25519MLKEM768},
    },
};

/// X25519MLKEM768 first: what is recorded today stays closed to a quantum computer of tomorrow. The others are for
/// peers that are not weft's own. AES-128 first: it has the fewest rounds. Of both ends' lists
/// the client's order decides.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                TLS13_AES_128_GCM_SHA256,
                TLS13_AES_256_GCM_SHA384,
                TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![X25519MLKEM768, X25519, SECP256R1],
            ..aws_lc_rs::default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}
