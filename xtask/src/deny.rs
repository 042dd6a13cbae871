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
    let checks = ["bans", "licenses", "sources"];
    setup::with_tools(&mut cargo)?.args([
        "deny",
        "--locked",
        "--log-level",
        "error",
        "check",
        "--hide-inclusion-graph",
    ]);
    screen::step("cargo deny check bans licenses sources", || shell::run(cargo.args(checks)))
}

const CARGO_DENY: &str = "0.20.2";
