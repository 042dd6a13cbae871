//! What was measured beside what is promised, for people as it comes and for programs at the end.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::fill::Size;

/// The figures of one run.
pub(crate) struct Figures {
    size: String,
    load_before: String,
    rows: Vec<Value>,
    good: bool,
}

impl Figures {
    /// None yet. The load is what else the machine had to do before.
    pub(crate) fn of(size: &Size) -> Self {
        let load_before = fs::read_to_string("/proc/loadavg").unwrap();
        Self {
            size: size.to_string(),
            load_before: load_before.trim().to_owned(),
            rows: Vec::new(),
            good: true,
        }
    }

    /// One that is promised to be `limit` at most.
    pub(crate) fn limited(&mut self, what: &str, is: f64, unit: &str, limit: f64) {
        let good = is <= limit;
        println!("  {what:<36}{is:>10.1} {unit} {} (at most {limit:.0})", if good { '✓' } else { '✗' });
        self.rows.push(json!({ "case": what, "is": is, "unit": unit, "atMost": limit, "reached": good }));
        self.good &= good;
    }

    /// One that nothing is promised of.
    pub(crate) fn told(&mut self, what: &str, is: f64, unit: &str) {
        println!("  {what:<36}{is:>10.1} {unit}");
        self.rows.push(json!({ "case": what, "is": is, "unit": unit }));
    }

    pub(crate) fn are_good(&self) -> bool {
        self.good
    }

    pub(crate) fn save(&self, file: &Path) {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let all = json!({ "kernel": kernel.trim(), "size": self.size, "load": self.load_before, "rows": self.rows });
        fs::write(file, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }
}
