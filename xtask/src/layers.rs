//! `cargo xtask layers`: which crate may use which.
//!
//! - **Levels.** A crate depends only on crates of lower levels, in every kind of dependency.
//! - **Walls.** aya, kube and rustls each live in one crate, the rest stays testable without a kernel, a cluster or a
//!   certificate. `dev-dependencies` count: a unit test that needs what is behind a wall is in the wrong crate. Only the
//!   crates of `tests/` and `benches/` are free to name them.
//! - **House rules** that cargo knows: every crate inherits the workspace's lints and is in the table; no `mod.rs`.
//! - **The map.** Every file that ARCHITECTURE.md names is there.

mod architecture;
mod rules;

use anyhow::{Result, bail};

use crate::{screen, workspace};

/// Prints every violation; fails if there is one.
pub(crate) fn run() -> Result<()> {
    let crates = workspace::read()?;
    let mut violations = rules::violations(&crates);
    for package in &crates {
        let files = package.sources()?;
        let odd = files.iter().filter(|file| file.file_name().is_some_and(|name| name == "mod.rs"));
        violations.extend(
            odd.map(|file| format!("{}: a file is named after its module, not mod.rs", file.display())),
        );
    }
    violations.extend(architecture::violations()?);
    for violation in &violations {
        screen::line(format_args!("  ✗ {violation}"));
    }
    if !violations.is_empty() {
        bail!(
            "{} against the layers; the table is in xtask/src/layers/rules.rs, the map is ARCHITECTURE.md",
            violations.len()
        );
    }
    screen::note(format_args!("{} crates, all dependencies go down", crates.len()));
    Ok(())
}
