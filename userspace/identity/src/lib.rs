//! Who is who between nodes: SPIFFE identities, their certificates, and mutual TLS with them.
//!
//! Owns: the certificate authority in a directory and its rotation, issuing and renewal, what a peer's certificate has
//! to be, handshakes over any byte stream. The only crate that names rustls. Must not know: whose sockets are whose, pods, policies;
//! what is decided about an identity is decided by others.
//!
//! ```text
//! ca (directory) ─┐                                                    agent │ proxy
//! controller ─────┴► Issuer ──► Certificates (renewed at half life) ──► wire ──► Endpoint ──► accept, connect
//!                                     └► status, expiry                            └► Peer, or Refused with its Reason
//! ```
#![forbid(unsafe_code)]

pub mod ca;
mod certificates;
mod clock;
pub mod controller;
mod exchange;
mod issuer;
mod jwks;
mod jwt;
mod leaf;
mod request;
mod svid;
mod tls;
mod trust;
mod unacceptable;
mod wire;

pub use self::ca::encode as chain_pem;
pub use certificates::{CertificateStatus, Certificates, Failure, Held, Status, Wanted};
pub use clock::Clock;
pub use exchange::Broken;
pub use issuer::{Authority, IssueError, Issuer, Order, Signer};
pub use jwks::{JwksOptions, JwksPlace, JwksWanted, KeySetStatus, KeySets, REFRESH};
pub use jwt::{LONGEST_TOKEN, Token, TokenRefused, Verifier};
pub use request::Request;
/// The DER of a certificate, so that who issues need not name rustls.
pub use rustls::pki_types::CertificateDer;
pub use svid::{PrivateKey, Svid, SvidError};
pub use tls::{ALPN, Endpoint, HANDSHAKE_TIME, Proof, Refused, TlsStream};
pub use trust::{Peer, Trust, TrustDomains, TrustError, Usage};
pub use unacceptable::Unacceptable;
pub use wire::WireError;

/// What holds of any input, for the fuzz targets.
#[cfg(feature = "fuzz")]
pub mod fuzz {
    /// Reads what may be a workload's certificate.
    ///
    /// # Panics
    /// Where it is read otherwise than it should be.
    pub fn certificate(bytes: &[u8]) {
        crate::leaf::property::certificate(bytes);
    }

    /// Reads what may be a token.
    ///
    /// # Panics
    /// Where one is taken that nobody has signed.
    pub fn token(bytes: &[u8]) {
        crate::jwt::property::token(bytes);
    }

    /// Reads what may be the keys of a tokens' provider.
    ///
    /// # Panics
    /// Where they are taken for others than they are.
    pub fn keys(bytes: &[u8]) {
        crate::jwt::property::keys(bytes);
    }
}

#[cfg(test)]
mod testing;
