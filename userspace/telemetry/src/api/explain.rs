//! `weft explain`: what would become of a request that nobody has made.

use serde::{Deserialize, Serialize};

use super::{Path, PodAnswer, Verdict};

/// What would become of this request?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainQuery {
    /// The client pod, `namespace/name`.
    pub from: String,
    /// The Service, `namespace/name`.
    pub to: String,
    /// The Service's port.
    pub port: u16,
    /// The request's method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers, `name: value`, a line each.
    pub headers: String,
    /// The server name of a TLS connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// The way of the request, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Denied where every share of it would be refused, or a pod that it may come to refuses it.
    pub verdict: Verdict,
    /// Why it would be refused.
    pub reason: Option<String>,
    /// False where the client is not in the mesh: weft leaves its connections alone.
    pub managed: bool,
    /// The way that its bytes take.
    pub path: Path,
    /// Why they take that way.
    pub because: Vec<String>,
    /// What is spoken, as `appProtocol` says; `null` where nobody asks.
    pub protocol: Option<String>,
    /// Whose routes count: those of the Service's namespace, or those of the client's.
    pub routes: Option<String>,
    /// The rule that the request takes; `null` for plain Service behaviour and where none matches.
    pub rule: Option<ExplainedRule>,
    /// Where no rule matches: the rules that come nearest, and what they miss.
    pub nearest: Vec<NearMiss>,
    /// What the proxy answers by itself.
    pub answer: Option<OwnAnswer>,
    /// Where the request may go.
    pub backends: Vec<ExplainedBackend>,
    /// What holds for it.
    pub settings: Vec<ExplainedSetting>,
    /// What the policies of each pod that it may come to say.
    pub pods: Vec<PodAnswer>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// The rule that a request takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// Like `HTTPRoute shop/web`.
    pub route: String,
    /// Its place among the route's rules.
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// What of it the request matched.
    pub matched: String,
    /// Its filters, in order.
    pub filters: Vec<String>,
    /// What is asked for after the filters, where they change it.
    pub forwarded: Option<String>,
}

/// A rule that a request does not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NearMiss {
    /// Like `HTTPRoute shop/web`.
    pub route: String,
    /// The rule's place.
    pub index: usize,
    /// What it asks for.
    pub wanted: String,
    /// What of that the request has not.
    pub missing: Vec<String>,
}

/// What the proxy answers by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnAnswer {
    /// The status; `null` where the connection is reset.
    pub status: Option<u16>,
    /// `Location` of a redirect.
    pub location: Option<String>,
    /// Why.
    pub why: String,
}

/// A backend of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    /// `namespace/service:port`.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Its share of the requests, in percent.
    pub share: f64,
    /// Endpoints that a request from this node may go to.
    pub eligible: usize,
    /// All endpoints.
    pub endpoints: usize,
    /// Why its share is refused: a word and what is behind it.
    pub problem: Option<String>,
}

/// A setting that holds for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSetting {
    /// The field, like `timeouts.request`.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Who says so: `route`, `TrafficPolicy of the route`, `TrafficPolicy of the Service`, `Service` or
    /// `default`. Where two levels say the same, the less specific one is named.
    pub from: String,
}
