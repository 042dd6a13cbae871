//! What can be wrong with an authority's directory.

use std::{io, path::PathBuf, time::SystemTime};

use weft_model::SpiffeError;

use crate::{Unacceptable, clock::written};

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
    /// There is no authority yet.
    #[error("{} is not there; make an authority: weft ca init --dir {}", path.display(), folder(path))]
    Missing {
        /// The file that every authority has.
        path: PathBuf,
    },
    /// The root is kept elsewhere.
    #[error("{} is not there; if it is kept offline, bring it back for as long as weft ca rotate runs", path.display())]
    RootAway {
        /// Where it should be.
        path: PathBuf,
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
    /// A file does not hold what it should.
    #[error("{}: {field}: {problem}; {}", path.display(), anew(path, what))]
    Field {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        field: &'static str,
        /// What is wrong.
        problem: String,
        /// Whose file it is: `issuer` or `root`.
        what: &'static str,
    },
    /// An authority's time is over, or has not come.
    #[error(
        "{}: the {what} is not valid now (from {} to {}); is the clock right? if so: {}",
        path.display(), written(*not_before), written(*not_after), anew(path, what)
    )]
    NotValidNow {
        /// The file.
        path: PathBuf,
        /// `issuer` or `root`.
        what: &'static str,
        /// From when it is valid.
        not_before: SystemTime,
        /// Until when.
        not_after: SystemTime,
    },
    /// The issuer signs what no peer would accept.
    #[error(
        "{}: what this issuer signs is refused under roots.pem beside it: {source}; weft ca rotate --dir {} issuer",
        path.display(),
        folder(path)
    )]
    NotVouched {
        /// The issuer's file.
        path: PathBuf,
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
        "{}: two roots are trusted already; finish that rotation first: weft ca rotate --dir {} root --finish",
        path.display(),
        folder(path)
    )]
    OverlapRuns {
        /// The file of roots.
        path: PathBuf,
    },
    /// No root is being rotated.
    #[error("{}: only one root is trusted, so no rotation is under way; begin one: weft ca rotate --dir {} root", path.display(), folder(path))]
    NoOverlap {
        /// The file of roots.
        path: PathBuf,
    },
    /// The rotation did not come to its end.
    #[error("{}: the newest root signs nothing: its rotation was interrupted; run it again: weft ca rotate --dir {} root", path.display(), folder(path))]
    Interrupted {
        /// The file of roots.
        path: PathBuf,
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

/// What makes a file anew that is of no use any more.
fn anew(path: &std::path::Path, what: &str) -> String {
    let dir = folder(path);
    match what {
        "issuer" => format!("weft ca rotate --dir {dir} issuer makes it anew"),
        _ => "restore the file, or make an authority in another directory: weft ca init".to_owned(),
    }
}

fn folder(path: &std::path::Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}
