//! `weft check`: what a machine offers.

use serde::{Deserialize, Serialize};

/// One line of a preflight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// How a [`Check`] came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// weft works, something is off.
    Warning,
    /// weft cannot work.
    Failed,
}
