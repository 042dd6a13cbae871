//! What a connection was opened with, asked again before it is used for something new.

use std::{sync::Arc, time::SystemTime};

use rustls::pki_types::CertificateDer;

use crate::{Peer, Trust, Usage};

/// What both ends of a connection have shown, and who was believed then.
#[derive(Clone, Debug)]
pub struct Proof {
    pub(super) peer: Peer,
    /// What the peer has shown, its own certificate first.
    pub(super) chain: Arc<[CertificateDer<'static>]>,
    /// Of the first of them: SHA-256 of its DER, in hexadecimal digits.
    pub(super) fingerprint: Arc<str>,
    pub(super) usage: Usage,
    /// Who was believed when the peer was looked at last.
    pub(super) trust: Arc<Trust>,
    pub(super) edition: Edition,
    /// When the first of both ends' certificates ends.
    pub(super) ends: SystemTime,
}

/// Which certificate and roots an endpoint shows and believes: another one after each renewal.
#[derive(Clone, Debug, Default)]
pub(super) struct Edition(Arc<()>);

impl Proof {
    /// Who the peer is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// SHA-256 of the peer's certificate, in small hexadecimal digits.
    pub fn fingerprint(&self) -> &Arc<str> {
        &self.fingerprint
    }
}

impl PartialEq for Edition {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
