//! Snapshot content as rows of the kernel's maps.

pub mod policy;
pub mod token;
