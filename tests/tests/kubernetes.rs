//! The mesh on a real Kubernetes: real API server, kubelets and containers. Not a part of `cargo test`'s tiers: it is
//! `cargo xtask test --tier cluster`, which brings the cluster, or takes any other by `--kubeconfig`.

#[path = "kubernetes/agents.rs"]
mod agents;
#[path = "kubernetes/beside.rs"]
mod beside;
#[path = "kubernetes/cluster.rs"]
mod cluster;
#[path = "kubernetes/everywhere.rs"]
mod everywhere;
#[path = "kubernetes/identity.rs"]
mod identity;
#[path = "kubernetes/left.rs"]
mod left;
#[path = "kubernetes/load.rs"]
mod load;
#[path = "kubernetes/outages.rs"]
mod outages;
#[path = "kubernetes/probes.rs"]
mod probes;
#[path = "kubernetes/removal.rs"]
mod removal;
#[path = "kubernetes/rights.rs"]
mod rights;
#[path = "kubernetes/routes.rs"]
mod routes;
#[path = "kubernetes/services.rs"]
mod services;
#[path = "kubernetes/short.rs"]
mod short;
#[path = "kubernetes/stage.rs"]
mod stage;
#[path = "kubernetes/wire.rs"]
mod wire;
