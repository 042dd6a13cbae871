//! The keys of providers (AuthenticationPolicy, `jwt`) that the agent fetches.

use serde::{Deserialize, Serialize};

use super::{CertificateFailure, Time};

/// The keys of one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JwksView {
    /// Where they are: a URL, or a Service's port and a path.
    pub location: String,
    /// How many there are.
    pub keys: usize,
    /// When they were fetched; `null` before the first time.
    pub fetched: Option<Time>,
    /// How old they are.
    pub age_seconds: Option<u64>,
    /// Why they cannot be fetched now. The last good ones serve on.
    pub failure: Option<CertificateFailure>,
}
