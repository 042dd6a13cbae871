//! The kernel data path: balancing and policy, from the app's point of view.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "datapath/addresses.rs"]
mod addresses;
#[path = "datapath/affinity.rs"]
mod affinity;
#[path = "datapath/agents.rs"]
mod agents;
#[path = "datapath/algorithms.rs"]
mod algorithms;
#[path = "datapath/attested.rs"]
mod attested;
#[path = "datapath/backends.rs"]
mod backends;
#[path = "datapath/backstop.rs"]
mod backstop;
#[path = "datapath/balance.rs"]
mod balance;
#[path = "datapath/charged.rs"]
mod charged;
#[path = "datapath/churn.rs"]
mod churn;
#[path = "datapath/cli.rs"]
mod cli;
#[path = "datapath/conformance.rs"]
mod conformance;
#[path = "datapath/endpoints.rs"]
mod endpoints;
#[path = "datapath/flows.rs"]
mod flows;
#[path = "datapath/forgery.rs"]
mod forgery;
#[path = "datapath/grants.rs"]
mod grants;
#[path = "datapath/identity.rs"]
mod identity;
#[path = "datapath/layout.rs"]
mod layout;
#[path = "datapath/lifecycle.rs"]
mod lifecycle;
#[path = "datapath/limits.rs"]
mod limits;
#[path = "datapath/live.rs"]
mod live;
#[path = "datapath/market.rs"]
mod market;
#[path = "datapath/metrics.rs"]
mod metrics;
#[path = "datapath/namespaces.rs"]
mod namespaces;
#[path = "datapath/optional.rs"]
mod optional;
#[path = "datapath/policy.rs"]
mod policy;
#[path = "datapath/preflight.rs"]
mod preflight;
#[path = "datapath/probes.rs"]
mod probes;
#[path = "datapath/restart.rs"]
mod restart;
#[path = "datapath/schema.rs"]
mod schema;
#[path = "datapath/sockets.rs"]
mod sockets;
#[path = "datapath/stage.rs"]
mod stage;
#[path = "datapath/topology.rs"]
mod topology;
#[path = "datapath/udp.rs"]
mod udp;
#[path = "datapath/udp_policy.rs"]
mod udp_policy;
#[path = "datapath/unprotected.rs"]
mod unprotected;
