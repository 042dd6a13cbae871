//! Domain nouns of the mesh, always valid: what a [`Snapshot`] is made of.
//!
//! Owns: names, identities, services with their endpoints, workloads, authorization policies, and
//! the two pure readings of them that every path must share (label selection, endpoint
//! eligibility). Must not know: Kubernetes' wire forms, the kernel, IO, tokio.
//!
//! ```text
//! weft-kubernetes ──► Snapshot ──► weft-datapath (rows)
//!                        │    └──► proxy (tables, later)
//!                        └──► weft-policy (decide)
//! ```
#![forbid(unsafe_code)]

mod eligible;
mod identity;
mod name;
mod policy;
mod problem;
mod selector;
mod service;
mod snapshot;
mod workload;

pub use eligible::{Locality, eligible};
pub use identity::{ServiceAccount, SpiffeError, SpiffeId};
pub use name::ObjectName;
pub use policy::{Action, AuthorizationPolicy, Mode, PolicyTarget, PortRange, ROOT_NAMESPACE, Rule, Source};
pub use problem::{Problem, Severity};
pub use selector::{Expression, Operator, Selector};
pub use service::{
    Distribution, Endpoint, EndpointGroup, Hints, LoadBalancer, Protocol, Service, ServiceKind, ServicePort,
};
pub use snapshot::Snapshot;
pub use workload::{ContainerPort, Workload};
