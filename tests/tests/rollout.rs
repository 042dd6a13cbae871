//! One agent of a node follows another, and the last one goes: what running pods notice of it, which is nothing.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "rollout/layout.rs"]
mod layout;
#[path = "rollout/load.rs"]
mod load;
#[path = "rollout/pod.rs"]
mod pod;
#[path = "rollout/removal.rs"]
mod removal;
#[path = "rollout/stage.rs"]
mod stage;
#[path = "rollout/stand_by.rs"]
mod stand_by;
