//! Which endpoint of a backend takes a request.
//!
//! Workers share one [`Backend`] for each Service port. An update puts a new set of endpoints in its place;
//! what is known of an endpoint goes on as long as the endpoint does. Nothing here waits, and picking
//! neither locks nor allocates.
//!
//! ```text
//! EndpointGroup ─► eligible ─► Backend::update ─► Endpoints ─► session, affinity ─► pick ─► EndpointState
//!                                                  (one Arc)                                  (one Arc)
//! ```

pub mod affinity;
pub mod cookie;
pub mod endpoint;
pub mod endpoints;
pub mod hash;
mod latency;
pub mod pick;
pub mod session;
mod slow_start;

pub use affinity::Affinity;
pub use endpoint::{EndpointState, Serving};
pub use endpoints::{Backend, Endpoints};
pub use pick::Ask;
