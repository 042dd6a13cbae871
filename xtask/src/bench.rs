//! `cargo xtask bench`: setup, an optimised build, then the bench takes this process's place.

use std::ffi::OsString;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build, demo, setup, shell};

/// The benches there are; all but one are binaries of package `weft-benches`.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// The kernel data path against no mesh: requests, connections, bulk, latency, apply times, memory.
    L4,
    /// The http path against no mesh, Envoy and nginx: requests, latency, bulk, CPU, memory, fairness.
    L7,
    /// Mutual TLS between two nodes against no mesh: requests, latency, bulk, connections, handshakes, CPU, memory.
    Mtls,
    /// An agent before a cluster of 10 000 Services, 100 000 endpoints and 5 000 pods, on a real API server: time, memory,
    /// requests. Other numbers follow as arguments.
    Cluster,
}

/// Builds and becomes the bench.
pub(crate) fn run(name: Name, args: &[OsString]) -> Result<()> {
    match name {
        Name::L4 => own("l4", Vec::new(), args),
        Name::Mtls => own("mtls", Vec::new(), args),
        // First, so that an argument of the caller's would be refused rather than overruled.
        Name::L7 => own("l7", vec!["--envoy".into(), setup::envoy()?.into_os_string()], args),
        Name::Cluster => cluster(args),
    }
}

/// One of the binaries of `weft-benches`.
fn own(binary: &str, mut all: Vec<OsString>, args: &[OsString]) -> Result<()> {
    all.extend_from_slice(args);
    let built = build::release(&["weft", "weft-test-helper", binary])?;
    demo::become_program(built.binary(binary)?, built.binary("weft")?, &all)
}

/// It speaks to an API server, so it lies with the crate that may.
fn cluster(args: &[OsString]) -> Result<()> {
    let built = build::release(&["weft"])?;
    let mut bench = shell::cargo();
    bench.args(["run", "--release", "--package", "weft-kubernetes", "--example", "agent", "--"]).args(args);
    shell::run(bench.env("WEFT_BIN", built.binary("weft")?))
}
