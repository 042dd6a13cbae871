//! What can be wrong with an authority.

use std::{io, path::PathBuf, time::SystemTime};

use weft_model::SpiffeError;

use super::{Keeping, Place};
use crate::{TrustError, Unacceptable, clock::written};

/// What was tried, on which file, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file or the directory itself cannot be used.
    #[error("cannot {attempt} {}: {source}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is no authority yet, or not all of it.
    #[error("{place} is not there; {}", missing(place))]
    Missing {
        /// What every authority has.
        place: Place,
    },
    /// The root is kept elsewhere.
    #[error("{place} is not there; if it is kept offline, bring it back for as long as weft ca rotate runs")]
    RootAway {
        /// Where it should be.
        place: Place,
    },
    /// There is one already.
    #[error(
        "{} is there already: a new authority would cut off every workload of the old one; \
         weft ca rotate --dir {} root replaces its root, or name another directory",
        path.display(),
        folder(path)
    )]
    Exists {
        /// The file that shows it.
        path: PathBuf,
    },
    /// Others can read a private key.
    #[error(
        "{} holds a private key and others may read it (mode {mode:04o}); chmod 600 {}, and rotate what it holds",
        path.display(),
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A part does not hold what it should.
    #[error("{place}: {field}: {problem}; {}", place.keeping.anew(what))]
    Field {
        /// The part.
        place: Place,
        /// What of it.
        field: &'static str,
        /// What is wrong.
        problem: String,
        /// Whose it is: `issuer` or `root`.
        what: &'static str,
    },
    /// An authority's time is over, or has not come.
    #[error(
        "{place}: the {what} is not valid now (from {} to {}); is the clock right? if so: {}",
        written(*not_before), written(*not_after), place.keeping.anew(what)
    )]
    NotValidNow {
        /// Where it is.
        place: Place,
        /// `issuer` or `root`.
        what: &'static str,
        /// From when it is valid.
        not_before: SystemTime,
        /// Until when.
        not_after: SystemTime,
    },
    /// The issuer signs what no peer would accept.
    #[error(
        "{place}: what this issuer signs is refused under {} beside it: {source}; {}",
        beside(place), place.keeping.rotate("issuer")
    )]
    NotVouched {
        /// Where the issuer is.
        place: Place,
        /// Why.
        source: Unacceptable,
    },
    /// The name of the mesh is none.
    #[error("{name} is no trust domain: {source}")]
    TrustDomain {
        /// What was given.
        name: String,
        /// What is wrong with it.
        source: SpiffeError,
    },
    /// A root is being rotated.
    #[error(
        "{place}: two roots are trusted already; finish that rotation first: {}",
        place.keeping.rotate("root --finish")
    )]
    OverlapRuns {
        /// Where the roots are.
        place: Place,
    },
    /// No root is being rotated.
    #[error(
        "{place}: only one root is trusted, so no rotation is under way; begin one: {}",
        place.keeping.rotate("root")
    )]
    NoOverlap {
        /// Where the roots are.
        place: Place,
    },
    /// The rotation did not come to its end.
    #[error(
        "{place}: the newest root signs nothing: its rotation was interrupted; run it again: {}",
        place.keeping.rotate("root")
    )]
    Interrupted {
        /// Where the roots are.
        place: Place,
    },
    /// The roots cannot be trusted.
    #[error("the trusted roots cannot be used: {0}")]
    Roots(#[from] TrustError),
    /// A request for a certificate cannot be granted as it is.
    #[error("the request for a certificate cannot be used: {problem}; agents ask with a key of ECDSA P-256")]
    Request {
        /// What is wrong with it.
        problem: String,
    },
    /// Certificates of the old root may live yet.
    #[error(
        "certificates of the old root may live until {}; finish then, or cut them off now with --overlap 0s",
        written(*until)
    )]
    TooEarly {
        /// Until when.
        until: SystemTime,
    },
    /// Somebody else is at it.
    #[error("{} is locked: another weft ca is at work on it; wait until it has ended", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of the {what}: {source}")]
    Make {
        /// `root`, `issuer` or `workload`.
        what: &'static str,
        /// The cause.
        source: rcgen::Error,
    },
}

impl CaError {
    /// Whether the authority is as it should be and only says no.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Exists { .. } | Self::OverlapRuns { .. } | Self::NoOverlap { .. } | Self::TooEarly { .. }
        )
    }
}

fn missing(place: &Place) -> String {
    match &place.keeping {
        Keeping::Directory(dir) => format!("make an authority: weft ca init --dir {}", dir.display()),
        Keeping::Secret(_) => place.keeping.anew("root"),
        Keeping::Brought(_) => {
            "an authority that is brought has tls.crt, tls.key and ca.crt, or issuer.pem and roots.pem"
                .to_owned()
        }
    }
}

fn beside(place: &Place) -> &'static str {
    if place.name == super::secret::TLS_CERTIFICATE { super::secret::TLS_ROOTS } else { "roots.pem" }
}

fn folder(path: &std::path::Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
