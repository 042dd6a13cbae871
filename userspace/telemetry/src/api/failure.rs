//! Why the agent could not answer.

use serde::{Deserialize, Serialize};

/// Something that did not work, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}{}{remedy}", if remedy.is_empty() { "" } else { "; " })]
pub struct Failure {
    /// What was tried, on what, and what went wrong.
    pub message: String,
    /// What to do about it; empty when there is nothing.
    pub remedy: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}
