//! `cargo xtask bench`: setup, an optimised build, then the bench takes this process's place.

use std::ffi::OsString;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, demo};

/// The benches there are; each is a binary of package `weft-benches`.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// The kernel data path against no mesh: requests, connections, bulk, latency, apply times, memory.
    L4,
}

/// Builds and becomes the bench.
pub(crate) fn run(name: Name, args: &[OsString]) -> Result<()> {
    let binary = match name {
        Name::L4 => "l4",
    };
    let built = build::release(&["weft", "weft-test-helper", binary])?;
    demo::become_program(built.binary(binary)?, built.binary("weft")?, args)
}
