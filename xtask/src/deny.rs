//! `cargo xtask deny`: licences, sources and bans of `deny.toml`.
//!
//! Advisories are not among them: their database is fetched anew for every run, and a check that fails without a
//! network, or passes because of it, decides nothing.

use anyhow::Result;

use crate::{screen, setup, shell};

/// Installs cargo-deny if need be and runs it on the lock file.
pub(crate) fn run() -> Result<()> {
    setup::cargo_tool("cargo-deny", CARGO_DENY)?;
    let mut cargo = shell::cargo();
    setup::with_tools(&mut cargo)?.args(["deny", "--locked", "--log-level", "error", "check"]).args(CHECKS);
    screen::step(format_args!("cargo deny check {}", CHECKS.join(" ")), || shell::run(&mut cargo))
}

const CARGO_DENY: &str = "0.20.2";
const CHECKS: [&str; 3] = ["bans", "licenses", "sources"];
