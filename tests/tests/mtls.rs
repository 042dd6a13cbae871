//! Mutual TLS between two nodes: two agents and two proxies on one machine, with real certificates, and what goes over
//! the wire between them.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "mtls/attacks.rs"]
mod attacks;
#[path = "mtls/enrolment.rs"]
mod enrolment;
#[path = "mtls/expired.rs"]
mod expired;
#[path = "mtls/failures.rs"]
mod failures;
#[path = "mtls/forged.rs"]
mod forged;
#[path = "mtls/forwarded.rs"]
mod forwarded;
#[path = "mtls/identities.rs"]
mod identities;
#[path = "mtls/live.rs"]
mod live;
#[path = "mtls/path.rs"]
mod path;
#[path = "mtls/policy.rs"]
mod policy;
#[path = "mtls/race.rs"]
mod race;
#[path = "mtls/race_of_requests.rs"]
mod race_of_requests;
#[path = "mtls/restart.rs"]
mod restart;
#[path = "mtls/reuse.rs"]
mod reuse;
#[path = "mtls/shown.rs"]
mod shown;
#[path = "mtls/source.rs"]
mod source;
#[path = "mtls/stage.rs"]
mod stage;
#[path = "mtls/strict.rs"]
mod strict;
