//! Brings the maps to what a Snapshot says: add, switch, and only then remove.
//!
//! Whatever a program may have just read must stay true until it is done, so what an update replaced
//! is removed [`GRACE`] later.

mod pods;
mod policies;
mod services;

pub(crate) use pods::{HANDSHAKE, Listening, Place, Pods, Wanted};
pub(crate) use policies::Policies;
pub(crate) use services::Services;

use std::time::Duration;

/// How long rows outlive their replacement. A program runs for microseconds; an app's thread that is
/// preempted inside one is back within this.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
