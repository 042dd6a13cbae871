//! `weft authz check`.

use serde::{Deserialize, Serialize};

use super::Verdict;

/// May this ServiceAccount reach this port of this Service?
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthzQuery {
    /// The client's ServiceAccount, `namespace/name`.
    pub from: String,
    /// The Service, `namespace/name`.
    pub to: String,
    /// The Service's port.
    pub port: u16,
    /// The request's method; a request is asked about where any of these is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its headers, `name: value`, a line each.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub headers: String,
}

/// What the policies say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthzAnswer {
    /// Forwarded only when every pod behind the Service lets it in.
    pub verdict: Verdict,
    /// Why it is refused.
    pub reason: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// What each pod behind the Service says.
    pub pods: Vec<PodAnswer>,
    /// What had to be supposed; `null` when nothing had.
    pub note: Option<String>,
}

/// What the policies of one pod say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAnswer {
    /// The pod, `namespace/name`; its address where the endpoint is no pod.
    pub pod: String,
    /// The client that was judged, `namespace/name`; `null` for a supposed one.
    pub client: Option<String>,
    /// The pod's own port.
    pub port: u16,
    /// What is decided.
    pub verdict: Verdict,
    /// Why it is refused.
    pub reason: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
}
