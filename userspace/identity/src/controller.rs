//! A mesh's controllers, as agents ask them: over HTTPS, with a token that says which node's agent asks.
//!
//! ```text
//! agent: Controllers ── TLS 1.3, a host that the trusted roots vouch for ──► Serving: controller
//!        ControllerIssuer ── whose certificate, and a request signed by its key ──► what is issued
//! ```
//!
//! An agent dials controllers by their pods' addresses: neither DNS nor kube-proxy has to work for it. What they speak
//! stands in [`wire`](self): JSON over HTTP/1.1, with a version in each path, so that both ends may be a version apart.

mod ask;
mod client;
mod issuer;
mod roots;
mod serving;
mod wire;

pub use ask::ControllerError;
pub use client::Controllers;
pub use issuer::ControllerIssuer;
pub use roots::Roots;
pub use serving::Serving;
pub use wire::{
    AUDIENCE, AUTHORITY, AuthorityAnswer, BUNDLE, BUNDLE_KEY, CERTIFICATES, CertificateAnswer,
    CertificateOrder, Refusal, SECRET, SERVICE, SERVICE_PORT, host,
};

#[cfg(test)]
mod tests;
