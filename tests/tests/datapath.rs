//! The kernel data path: balancing and policy, from the app's point of view.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "datapath/algorithms.rs"]
mod algorithms;
#[path = "datapath/backends.rs"]
mod backends;
#[path = "datapath/backstop.rs"]
mod backstop;
#[path = "datapath/balance.rs"]
mod balance;
#[path = "datapath/churn.rs"]
mod churn;
#[path = "datapath/conformance.rs"]
mod conformance;
#[path = "datapath/endpoints.rs"]
mod endpoints;
#[path = "datapath/forgery.rs"]
mod forgery;
#[path = "datapath/identity.rs"]
mod identity;
#[path = "datapath/layout.rs"]
mod layout;
#[path = "datapath/lifecycle.rs"]
mod lifecycle;
#[path = "datapath/live.rs"]
mod live;
#[path = "datapath/market.rs"]
mod market;
#[path = "datapath/policy.rs"]
mod policy;
#[path = "datapath/probes.rs"]
mod probes;
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
