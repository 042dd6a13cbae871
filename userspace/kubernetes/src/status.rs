//! What is said of objects in their `status`: found by the build that nodes enforce by, written by the replica that leads.
//!
//! ```text
//! catalog, build ──► judge ──► Judgement ─┐
//! nodes' reports ───────────► Progress ───┴─► wanted ──► writer ──► API server: statuses, Events
//!                                             only what differs     while this replica leads, so many a second
//! ```

mod bucket;
mod event;
mod judge;
mod judgement;
mod said;
mod wanted;
mod writer;

pub(crate) use self::{
    judge::Judge,
    judgement::{Judged, Revision, Verdict},
};
pub use self::{judgement::Judgement, writer::StatusWriter};
