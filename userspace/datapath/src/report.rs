//! What the data path tells about itself.

mod connections;
mod status;
mod tables;
mod unprotected;

pub(crate) use connections::{Lister, connections, progress};
pub(crate) use status::{counters, refresh, status, unprotected};
pub(crate) use tables::table;
