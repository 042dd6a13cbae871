//! `cargo xtask demo`: setup, the build that tests have, too, then the demo takes this process's place; with `--cluster`, on a cluster.

mod cluster;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Error, Result};

use crate::build;

/// Builds and becomes the demo.
pub(crate) fn run(on_a_cluster: bool, args: &[OsString]) -> Result<()> {
    if on_a_cluster {
        return cluster::run();
    }
    // An optimised one takes a quarter of an hour on two cores, and shows the same.
    let built = build::dev(&["weft", "weft-test-helper", "demo"])?;
    become_program(built.binary("demo")?, built.binary("weft")?, args)
}

/// Replaces this process, so that Ctrl-C reaches the program and the shell waits until it has cleaned up.
pub(crate) fn become_program(program: &Path, weft: &Path, args: &[OsString]) -> Result<()> {
    let error = Command::new(program).args(args).env("WEFT_BIN", weft).exec();
    Err(Error::from(error)).with_context(|| format!("start {}", program.display()))
}
