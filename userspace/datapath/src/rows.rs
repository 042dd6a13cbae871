//! Snapshot content as rows of the kernel's maps.

pub mod alias;
pub mod policy;
pub mod service;
pub mod token;
