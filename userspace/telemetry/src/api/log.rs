//! What an agent logs.

use serde::{Deserialize, Serialize};

/// What an agent logs now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// A level, or levels by target like `weft_datapath=debug,info`.
    pub filter: String,
}

/// What it is to log from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChange {
    /// As in [`LogView`].
    pub filter: String,
}
