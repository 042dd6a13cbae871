//! What an API server says instead of an answer.

use crate::cluster::trouble::Trouble;

/// Why a question had no answer. Each names what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Somebody has changed the object since it was read, or has made it first: read it again.
    #[error("cannot {verb} {what}: somebody else was first")]
    Conflict {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
    },
    /// It is not there.
    #[error("cannot {verb} {what}: it is not there")]
    Missing {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
    },
    /// RBAC.
    #[error("may not {verb} {what}: {error}; grant that verb, as `weft install` does")]
    Forbidden {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// What the API server says.
        error: String,
    },
    /// The API server is not there, or does not answer in time.
    #[error(
        "cannot {verb} {what}: the API server is not heard: {error}; is it up, and is it the one that was meant?"
    )]
    Away {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// What is heard instead.
        error: String,
    },
    /// Anything else that it says.
    #[error("cannot {verb} {what}: {error}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// On what.
        what: String,
        /// What the API server says.
        error: String,
    },
}

impl AskError {
    pub(super) fn of(verb: &'static str, what: String, error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            match status.code {
                409 => return Self::Conflict { verb, what },
                404 => return Self::Missing { verb, what },
                _ => {}
            }
        }
        let trouble = Trouble::of(error);
        let error = trouble.to_string();
        match trouble {
            Trouble::Forbidden(_) => Self::Forbidden { verb, what, error },
            Trouble::Away(_) => Self::Away { verb, what, error },
            _ => Self::Refused { verb, what, error },
        }
    }

    /// Whether somebody else was first.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}
