//! What the data path tells about itself.

mod connections;
mod status;
mod tables;

pub use connections::{connections, progress};
pub use status::{counters, degradations, status};
pub use tables::table;
