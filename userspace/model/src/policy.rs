//! Authorization policies, parsed and valid.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod request;

pub use request::{ClaimRule, HeaderRule, HttpAttributes, PathRule, TokenRule};

use crate::{ObjectName, RouteName, Selector, ServiceAccount, SpiffeId};

/// The namespace whose policies hold for the whole mesh.
pub const ROOT_NAMESPACE: &str = "weft-system";

/// An AuthorizationPolicy: who may reach the pods it targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationPolicy {
    /// Its name. In [`ROOT_NAMESPACE`] a pod selector reaches every namespace.
    pub name: ObjectName,
    /// What a matching rule does.
    pub action: Action,
    /// Whether it decides or is only shown.
    pub mode: Mode,
    /// What it protects.
    pub target: PolicyTarget,
    /// Its rules; none of them matching is not a match.
    pub rules: Vec<Rule>,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Lets the connection in; from then on, what no ALLOW rule matches is refused.
    Allow,
    /// Refuses the connection, whatever else allows it.
    Deny,
}

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// It decides.
    #[default]
    Enforce,
    /// It never decides; what it would have refused is counted and shown.
    Audit,
}

/// What a policy protects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyTarget {
    /// The pods of the policy's namespace that the selector matches.
    Pods(Selector),
    /// The pods behind these Services of the policy's namespace, on their target ports.
    Services(Vec<Arc<str>>),
    /// Requests that take these routes: decided by the client's node proxy, not in the kernel.
    Routes(Vec<RouteName>),
}

/// One rule: all of its parts must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Any of these sources. `None` is anybody, an empty list is nobody.
    pub sources: Option<Vec<Source>>,
    /// Any of these ports of the pod, after translation. `None` is every port.
    pub ports: Option<Vec<PortRange>>,
    /// Asks something of the request, which L4 cannot see: such a rule never allows a connection there, and a
    /// DENY rule matches by its other parts alone. So it is where neither of what follows says what is asked.
    pub l7: bool,
    /// What the request has to be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAttributes>,
    /// What a token of the request has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenRule>,
}

/// Where a connection may come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// A workload with this ServiceAccount.
    ServiceAccount(ServiceAccount),
    /// Any workload of this namespace.
    Namespace(Arc<str>),
    /// A workload with a SPIFFE ID that is no ServiceAccount of this mesh.
    Spiffe(SpiffeId),
    /// An address in this block, whoever uses it.
    Cidr(IpNet),
}

/// Ports `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port, not below `start`.
    pub end: u16,
}

impl Rule {
    /// Whether it is about this port.
    pub fn covers(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.iter().any(|range| range.contains(port)))
    }
}

impl PortRange {
    /// Whether `port` is in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.start..=self.end).contains(&port)
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { start: port, end: port }
    }
}
