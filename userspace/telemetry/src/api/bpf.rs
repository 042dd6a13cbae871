//! `weft bpf`: what is in the kernel, read back from it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that the kernel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BpfTable {
    /// Frontends.
    Services,
    /// Backends, each with its share of its frontend.
    Backends,
    /// Policy rows.
    Policy,
    /// Pods by network namespace.
    Pods,
    /// Counters.
    Stat,
}

impl fmt::Display for BpfTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Services => "services",
            Self::Backends => "backends",
            Self::Policy => "policy",
            Self::Pods => "pods",
            Self::Stat => "stat",
        })
    }
}

/// Rows as a person reads them: ids in hexadecimal, addresses and names in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Upper-case headings.
    pub columns: Vec<String>,
    /// As many cells as there are columns.
    pub rows: Vec<Vec<String>>,
}
