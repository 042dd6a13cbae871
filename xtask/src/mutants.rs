//! `cargo xtask mutants`: do the tests of what decides notice a change of the decision?

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{screen, setup, shell};

/// Changes the deciding crates one place at a time; fails when the tests miss more than 5 % of the changes.
pub(crate) fn run() -> Result<()> {
    setup::cargo_tool("cargo-mutants", CARGO_MUTANTS)?;
    screen::title("mutants of weft-policy and weft-ebpf-logic");
    let started = Instant::now();
    let mut cargo = shell::cargo();
    // One after the other: each takes about a second, and a busy machine must not make a time limit pass.
    setup::with_tools(&mut cargo)?
        .args(["mutants", "--package", "weft-policy", "--package", "weft-ebpf-logic"])
        .args(["--output", OUTPUT, "--no-shuffle", "--minimum-test-timeout", "60", "--colors", "never"]);
    let status = cargo.status().context("start cargo mutants")?;
    // 2: some were missed, 3: some ran into the time limit. Both are counted below; anything else is no verdict.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        bail!("cargo mutants could not do its work ({status}): what it said is above");
    }
    let tally = Tally::read(&Path::new(OUTPUT).join("mutants.out/outcomes.json"))?;
    screen::line(format_args!("{tally}, {}", screen::seconds(started.elapsed())));
    tally.verdict()
}

/// What became of the mutants.
#[derive(Default)]
struct Tally {
    /// No test failed.
    missed: u64,
    /// A test failed.
    caught: u64,
    /// The tests did not end: noticed, too.
    timeout: u64,
    /// Does not compile: counts for nothing.
    unviable: u64,
}

impl Tally {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let outcomes: Value =
            serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        let count = |name: &str| {
            outcomes[name].as_u64().with_context(|| format!("{} has no count `{name}`", path.display()))
        };
        let (missed, caught) = (count("missed")?, count("caught")?);
        Ok(Self { missed, caught, timeout: count("timeout")?, unviable: count("unviable")? })
    }

    fn viable(&self) -> u64 {
        self.missed + self.caught + self.timeout
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

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missed, caught, timeout, unviable } = self;
        write!(f, "{missed} of {} mutants survive ({:.1} %): ", self.viable(), self.share())?;
        write!(f, "{caught} caught, {timeout} timed out, {missed} missed; {unviable} more do not compile")
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
        let tally = |missed, caught| Tally { missed, caught, timeout: 5, unviable: 1000 };
        assert!(tally(5, 90).verdict().is_ok());
        assert!(tally(6, 89).verdict().is_err());
    }

    #[test]
    fn a_run_that_tried_nothing_fails() {
        assert!(Tally { unviable: 7, ..Tally::default() }.verdict().is_err());
    }

    #[test]
    fn the_figures_say_what_became_of_each_mutant() {
        let tally = Tally { missed: 1, caught: 37, timeout: 2, unviable: 3 };
        let line = "1 of 40 mutants survive (2.5 %): 37 caught, 2 timed out, 1 missed; 3 more do not compile";
        assert_eq!(tally.to_string(), line);
    }
}
