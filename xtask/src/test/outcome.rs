//! What a test binary said: its output passes through, its `test result:` lines are counted.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::Add;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::screen;

/// Tests by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

/// Runs `command`, which prints as libtest does. A failure that no result line tells of counts as one failed test.
pub(crate) fn stream(command: &mut Command, name: &str) -> Result<Counts> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {name}"))?;
    let stdout = child.stdout.take().expect("stdout was piped above");
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("read the output of {name}"))?;
        let line = String::from_utf8_lossy(&line);
        screen::line(&line);
        counts = counts + Counts::of_line(&line).unwrap_or_default();
    }
    let status = child.wait().with_context(|| format!("wait for {name}"))?;
    if !status.success() && counts.failed == 0 {
        screen::line(format_args!("{name} ended without a test result: {status}"));
        counts.failed = 1;
    }
    Ok(counts)
}

impl Counts {
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let result = line.trim().strip_prefix("test result: ")?;
        let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        let count = |name: &str| words.windows(2).find(|pair| pair[1] == name)?[0].parse().ok();
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Counts, stream};

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.10s";
        assert_eq!(Counts::of_line(line), Some(Counts { passed: 12, failed: 3, ignored: 1 }));
        assert_eq!(Counts::of_line("test some::test ... ok"), None);
    }

    #[test]
    fn a_crash_without_a_result_is_a_failure() {
        let counts = stream(Command::new("sh").args(["-c", "echo running; kill -9 $$"]), "crashing").unwrap();
        assert_eq!(counts, Counts { passed: 0, failed: 1, ignored: 0 });
    }

    #[test]
    fn result_lines_of_several_runs_are_added() {
        let text = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n";
        let counts = stream(Command::new("printf").arg(text.repeat(2)), "two runs").unwrap();
        assert_eq!(counts, Counts { passed: 4, failed: 0, ignored: 0 });
    }
}
