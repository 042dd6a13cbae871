//! `weft get httproutes`, `grpcroutes`, `tlsroutes`, `tcproutes`.

use serde::{Deserialize, Serialize};

/// A route and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// `HTTPRoute`, `GRPCRoute`, `TLSRoute` or `TCPRoute`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Names of servers that it is for; empty for all kinds but `TLSRoute`.
    pub hostnames: Vec<String>,
    /// What became of it at each of its parents.
    pub parents: Vec<RouteParentView>,
    /// Its rules, in short.
    pub rules: Vec<RouteRuleView>,
}

/// What became of a route at one parentRef.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentView {
    /// The Service, `namespace/name`; `null` where the route cannot be read.
    pub service: Option<String>,
    /// `port` of the parentRef.
    pub port: Option<u16>,
    /// `sectionName` of the parentRef.
    pub section_name: Option<String>,
    /// Whether the route holds there.
    pub accepted: ConditionView,
    /// Whether all that the route leads to is there.
    pub resolved_refs: ConditionView,
}

/// A condition of the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionView {
    /// Whether it holds.
    pub status: bool,
    /// Why, in the Gateway API's word.
    pub reason: String,
    /// Why, in a sentence; empty where all is well.
    pub message: String,
}

/// A rule in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRuleView {
    /// Its name.
    pub name: Option<String>,
    /// How many matches it has; 0 is every request.
    pub matches: usize,
    /// How many filters it has.
    pub filters: usize,
    /// Where it leads.
    pub backends: Vec<BackendShareView>,
}

/// A backendRef in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendShareView {
    /// `namespace/service:port`, or the kind that is no backend.
    pub to: String,
    /// Its weight.
    pub weight: u32,
}
