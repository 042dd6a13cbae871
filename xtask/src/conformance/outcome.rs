//! What became of the suite's tests: by the lines that it prints, and by the numbers of its report.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The tests of meshes; what the suite has of gateways it skips by itself.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) passed: Vec<String>,
    failed: Vec<String>,
    skipped: Vec<String>,
    running: String,
    /// Requests that were not answered as they should be, after which the suite asks again: which test's, and why.
    asked_again: Vec<String>,
}

impl Outcome {
    /// Takes a line of the suite's; what is worth telling of it, if anything.
    pub(super) fn take(&mut self, line: &str) -> Option<String> {
        let said = line.trim_start();
        // Before the first test it says the same of pods.
        if said.contains(NOT_READY) && !self.running.is_empty() {
            self.asked_again.push(format!("{}: {said}", self.running));
        }
        if let Some(name) = said.strip_prefix("=== RUN   TestConformance/") {
            name.clone_into(&mut self.running);
            return (name.starts_with("Mesh") && !name.contains('/')).then(|| format!("{name} ..."));
        }
        let said = said.strip_prefix("--- ")?;
        let (became, said) = said.split_once(": TestConformance/")?;
        let (name, _) = said.split_once(' ')?;
        if name.contains('/') || !name.starts_with("Mesh") {
            return None;
        }
        let kept = match became {
            "PASS" => &mut self.passed,
            "FAIL" => &mut self.failed,
            "SKIP" => &mut self.skipped,
            _ => return None,
        };
        kept.push(name.to_owned());
        (became != "PASS").then(|| format!("{became}: {said}"))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.passed.is_empty() && self.failed.is_empty()
    }

    /// All passed, none was skipped.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.failed.is_empty(), "failed: {}", self.failed.join(", "));
        ensure!(self.skipped.is_empty(), "skipped: {}", self.skipped.join(", "));
        Ok(())
    }

    /// And nothing had to be asked again.
    pub(super) fn check_strictly(&self) -> Result<()> {
        let Some(first) = self.asked_again.first() else { return Ok(()) };
        bail!("{} requests were not right at once, the first of {first}", self.asked_again.len());
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, .. } = self;
        write!(f, "{} passed, {} failed, {} skipped", passed.len(), failed.len(), skipped.len())
    }
}

/// The sums of a report, over its profiles, core and extended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Statistics {
    pub(super) fn read(report: &Path) -> Result<Self> {
        let text = fs::read_to_string(report).with_context(|| format!("read {}", report.display()))?;
        Ok(Self::of(&text))
    }

    fn of(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let Some((name, number)) = line.trim().split_once(": ") else { continue };
            let sum = match name {
                "Passed" => &mut all.passed,
                "Failed" => &mut all.failed,
                "Skipped" => &mut all.skipped,
                _ => continue,
            };
            *sum += number.parse::<usize>().unwrap_or_default();
        }
        all
    }

    /// The report says what the lines said.
    pub(super) fn check(&self, passed: usize) -> Result<()> {
        if (self.failed, self.skipped) != (0, 0) || self.passed == 0 || self.passed > passed {
            bail!("the report does not say that all {passed} passed: {self:?}");
        }
        Ok(())
    }
}

/// What the suite says of an answer that it does not expect, before it asks again.
const NOT_READY: &str = "not ready yet";

#[cfg(test)]
mod tests {
    use super::{Outcome, Statistics};

    #[test]
    fn tests_of_meshes_are_counted_and_neither_their_parts_nor_those_of_gateways() {
        let mut outcome = Outcome::default();
        for line in [
            "=== RUN   TestConformance/MeshBasic",
            "    --- PASS: TestConformance/MeshBasic (1.02s)",
            "        --- FAIL: TestConformance/MeshPorts/No_port_set (30.00s)",
            "    --- FAIL: TestConformance/MeshPorts (31.02s)",
            "    --- SKIP: TestConformance/MeshFrontend (0.00s)",
            "    --- SKIP: TestConformance/GatewayInfrastructure (0.00s)",
        ] {
            outcome.take(line);
        }
        assert_eq!(outcome.to_string(), "1 passed, 1 failed, 1 skipped");
        assert_eq!(outcome.check().unwrap_err().to_string(), "failed: MeshPorts");
    }

    #[test]
    fn a_skipped_test_is_no_success() {
        let mut outcome = Outcome::default();
        outcome.take("    --- PASS: TestConformance/MeshBasic (1.02s)");
        outcome.check().unwrap();
        outcome.take("    --- SKIP: TestConformance/MeshFrontend (0.00s)");
        assert_eq!(outcome.check().unwrap_err().to_string(), "skipped: MeshFrontend");
    }

    #[test]
    fn a_request_that_had_to_be_made_again_is_told_with_its_test() {
        let mut outcome = Outcome::default();
        outcome.take("    helpers.go:456: Pod gateway-conformance-mesh/echo-v1 not ready yet");
        outcome.take("=== RUN   TestConformance/MeshPorts/No_port_set");
        outcome.check_strictly().unwrap();
        outcome.take(
            "    pod.go:72: Response expectation failed for request: x  not ready yet: wanted 404, got 200",
        );
        outcome.take("    --- PASS: TestConformance/MeshPorts (1.02s)");
        outcome.check().unwrap();
        let error = outcome.check_strictly().unwrap_err().to_string();
        assert!(
            error.starts_with("1 requests were not right at once, the first of MeshPorts/No_port_set: "),
            "{error}"
        );
    }

    #[test]
    fn a_reports_numbers_are_added_over_its_profiles() {
        let report = "profiles:\n- core:\n    statistics:\n      Failed: 0\n      Passed: 7\n      Skipped: 0\n\
                      - core:\n    statistics:\n      Failed: 1\n      Passed: 2\n      Skipped: 3\n";
        let all = Statistics::of(report);
        assert_eq!(all, Statistics { passed: 9, failed: 1, skipped: 3 });
        all.check(9).unwrap_err();
        Statistics { passed: 9, ..Statistics::default() }.check(9).unwrap();
    }
}
