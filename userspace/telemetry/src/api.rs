//! What the agent's admin API answers, as the agent writes it and the command line reads it.
//!
//! Objects are camelCase JSON; lists keep the order of the names in them; what is not known is
//! `null`. Names are bare (`web`) beside their `namespace`; where one field holds both it is
//! `namespace/name`.

mod authz;
mod bpf;
mod certificate;
mod check;
mod connection;
mod describe;
mod explain;
mod failure;
mod filter;
mod flow;
mod jwks;
mod log;
mod objects;
mod proxy;
mod route;
mod runtime;
mod source;
mod status;
mod time;
mod traffic;

pub use authz::{AuthzAnswer, AuthzQuery, PodAnswer};
pub use bpf::{BpfTable, Table};
pub use certificate::{CertificateFailure, CertificateView, CertificatesView, IssuerView};
pub use check::{Check, Outcome};
pub use connection::{ConnectionView, Unprotected};
pub use describe::{PodDescription, ServiceDescription};
pub use explain::{
    ExplainQuery, ExplainedBackend, ExplainedRule, ExplainedSetting, Explanation, NearMiss, OwnAnswer,
};
pub use failure::Failure;
pub use filter::{FlowFilter, FlowProtocol, Statuses};
pub use flow::{Destination, Flow, FlowKind, FlowLine, HttpFlow, Path, Source, Verdict};
pub use jwks::JwksView;
pub use log::{LogChange, LogView};
pub use objects::{
    EndpointState, EndpointView, PolicyView, RuleView, ServicePortView, ServiceView, WorkloadView,
};
pub use proxy::{GenerationState, GenerationStatus, ProxyState, ProxyStatus, ProxyUpgraded};
pub use route::{BackendShareView, ConditionView, RouteParentView, RouteRuleView, RouteView};
pub use runtime::{Attached, Attachment, Sandboxes};
pub use source::SourceView;
pub use status::{
    Degradation, MapStatus, PeerAddress, Peers, PodState, PodStatus, ProgramStatus, Shown, Status, Synced,
};
pub use time::Time;
pub use traffic::{TrafficQuery, TrafficView};
