//! `cargo xtask bench`: setup, an optimised build, then the bench takes this process's place.

use std::ffi::OsString;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, demo, setup};

/// The benches there are; each is a binary of package `weft-benches`.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// The kernel data path against no mesh: requests, connections, bulk, latency, apply times, memory.
    L4,
    /// The http path against no mesh, Envoy and nginx: requests, latency, bulk, CPU, memory, fairness.
    L7,
    /// Mutual TLS between two nodes against no mesh: requests, latency, bulk, connections, handshakes, CPU, memory.
    Mtls,
}

/// Builds and becomes the bench.
pub(crate) fn run(name: Name, args: &[OsString]) -> Result<()> {
    let (binary, mut all) = match name {
        Name::L4 => ("l4", Vec::new()),
        Name::Mtls => ("mtls", Vec::new()),
        // First, so that an argument of the caller's would be refused rather than overruled.
        Name::L7 => ("l7", vec!["--envoy".into(), setup::envoy()?.into_os_string()]),
    };
    all.extend_from_slice(args);
    let built = build::release(&["weft", "weft-test-helper", binary])?;
    demo::become_program(built.binary(binary)?, built.binary("weft")?, &all)
}
