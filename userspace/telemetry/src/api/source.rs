//! Where an agent has its objects from.

use serde::{Deserialize, Serialize};

use super::Time;

/// An agent's source of objects, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// The directory, or the address of the API server.
    pub location: String,
    /// Whether all that there is has been read since the agent began.
    pub synced: bool,
    /// The kinds that the API server has not listed yet.
    pub unlisted: Vec<String>,
    /// The moment that what is in force is of: when it was kept, or when the API server was heard last; `null` while it is as new
    /// as can be.
    pub as_of: Option<Time>,
    /// How long ago that is.
    pub age_seconds: Option<u64>,
    /// Why the API server is not heard.
    pub failure: Option<String>,
}
