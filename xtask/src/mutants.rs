//! `cargo xtask mutants`: do the tests of what decides notice a change of the decision?

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{screen, setup, shell};

/// Changes the deciding crates one place at a time; fails when the tests miss more than 5 % of the changes.
pub(crate) fn run() -> Result<()> {
    setup::cargo_tool("cargo-mutants", CARGO_MUTANTS)?;
    screen::title("mutants of weft-policy and weft-ebpf-logic");
    let mut cargo = shell::cargo();
    setup::with_tools(&mut cargo)?.args([
        "mutants",
        "--package",
        "weft-policy",
        "--package",
        "weft-ebpf-logic",
    ]);
    cargo.args([
        "--output",
        OUTPUT,
        "--no-shuffle",
        "--jobs",
        "2",
        "--minimum-test-timeout",
        "60",
        "--colors",
        "never",
    ]);
    let status = cargo.status().context("start cargo mutants")?;
    // 2: some were missed, 3: some ran into the time limit. Both are counted below; anything else is no verdict.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        bail!("cargo mutants could not do its work ({status}): what it said is above");
    }
    let path = Path::new(OUTPUT).join("mutants.out/outcomes.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let outcomes: Value = serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let count = |name: &str| {
        outcomes[name].as_u64().with_context(|| format!("{} has no count `{name}`", path.display()))
    };
    let tally = Tally { missed: count("missed")?, noticed: count("caught")? + count("timeout")? };
    screen::line(format_args!(
        "{} of {} mutants survive ({:.1} %)",
        tally.missed,
        tally.viable(),
        tally.share()
    ));
    tally.verdict()
}

/// A change that makes a test hang was noticed; one that does not compile counts for nothing.
struct Tally {
    missed: u64,
    noticed: u64,
}

impl Tally {
    fn viable(&self) -> u64 {
        self.missed + self.noticed
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of mutants are small")]
    fn share(&self) -> f64 {
        100.0 * self.missed as f64 / self.viable().max(1) as f64
    }

    fn verdict(&self) -> Result<()> {
        if self.viable() == 0 {
            bail!("no mutant was tried: are the packages still named as in xtask/src/mutants.rs?");
        }
        if self.missed * 100 > self.viable() * MAX_PERCENT {
            bail!(
                "more than {MAX_PERCENT} % survive: {OUTPUT}/mutants.out/missed.txt names them; each wants a test"
            );
        }
        Ok(())
    }
}

const CARGO_MUTANTS: &str = "27.1.0";
const OUTPUT: &str = "target/mutants";
const MAX_PERCENT: u64 = 5;

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn five_percent_may_survive_and_no_more() {
        assert!(Tally { missed: 5, noticed: 95 }.verdict().is_ok());
        assert!(Tally { missed: 6, noticed: 94 }.verdict().is_err());
    }

    #[test]
    fn a_run_that_tried_nothing_fails() {
        assert!(Tally { missed: 0, noticed: 0 }.verdict().is_err());
    }
}
