//! Mutual TLS between workloads: 1.3 only, a key exchange that a quantum computer does not break, both ends proven.
//!
//! # Resumption
//! There is none: no ticket is sent or kept, and no early data. A resumed session would have to die with the
//! certificate that opened it, be refused once its issuer is not trusted, and pass authorization anew; each of these
//! holds by itself where every connection is a full handshake. What a handshake costs is saved a level higher, by
//! connections that are kept and shared, never by a secret that outlives its certificate: whoever shares one asks
//! [`Endpoint::would_open_the_same`] or [`Endpoint::still_believes`] each time.
//!
//! # What a peer must be
//! See [`Trust::verify`](crate::Trust::verify). A server takes any workload of the mesh, and leaves what it may do to
//! the policies; a client takes exactly the workload that it chose.

mod endpoint;
mod proof;
mod provider;
mod refused;
mod stream;
mod verifier;

pub use endpoint::{ALPN, Endpoint, HANDSHAKE_TIME};
pub use proof::Proof;
pub(crate) use provider::provider;
pub use refused::Refused;
pub use stream::TlsStream;

#[cfg(test)]
mod tests;
