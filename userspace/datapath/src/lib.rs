//! Loads, pins and feeds the eBPF data path.

pub mod rows;
