//! What is wrong with an input object, in words that its owner can act on.

use serde::{Deserialize, Serialize};

/// One thing wrong with one document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, or empty when the object came from an API server.
    pub file: String,
    /// The line in that file, from 1; 0 when unknown.
    pub line: u32,
    /// `Kind namespace/name`, as far as it could be read.
    pub object: String,
    /// The field, like `spec.rules[0].sources[1].cidr`; empty when it is the whole document.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a [`Problem`] does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// The object is refused; its last good version stays in force.
    Error,
    /// The object is used; something in it is not what its owner may expect.
    Warning,
}
