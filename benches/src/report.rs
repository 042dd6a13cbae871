//! The table, and the same as JSON.

mod machine;

use std::fs;
use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::l7::plot::{self, Bar, Group};
use crate::rounds::Series;
pub(crate) use machine::Machine;

/// All figures of one run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    mode: &'static str,
    machine: Machine,
    rows: Vec<Row>,
}

/// One case.
#[derive(Serialize)]
pub(crate) struct Row {
    case: String,
    unit: Unit,
    plain: Option<f64>,
    weft: Option<f64>,
    ratio: Option<f64>,
    spread: Option<f64>,
    targets: Vec<Target>,
    note: Option<String>,
}

/// What a figure counts.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unit {
    PerSecond,
    BytesPerSecond,
    Microseconds,
    Milliseconds,
    Seconds,
    Mebibytes,
    Megabytes,
}

/// What a figure shall be.
#[derive(Serialize)]
pub(crate) struct Target {
    wanted: String,
    found: String,
    reached: bool,
}

impl Report {
    /// An empty one.
    pub fn new(mode: &'static str) -> Self {
        Self { mode, machine: Machine::this(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints the table.
    pub fn show(&self) -> Result<()> {
        let head = ["case", "plain", "weft", "ratio", "spread", "target", "verdict"].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
        let mut out = stdout().lock();
        writeln!(out, "{}", self.machine)?;
        for line in &lines {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                // Figures stand under each other, words begin under each other.
                let cell = if (1..=4).contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                text.push_str(&cell);
                text.push_str("  ");
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }

    /// Draws all rows as bars.
    pub fn plot(&self, file: &Path) -> Result<()> {
        let groups: Vec<_> = self.rows.iter().map(Row::group).collect();
        fs::write(file, plot::bars(&self.machine.to_string(), &groups))
            .with_context(|| format!("write {}", file.display()))
    }

    /// Writes JSON.
    pub fn save(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }
}

impl Row {
    /// Against the other side of the same rounds.
    pub(crate) fn compared(case: &str, unit: Unit, plain: &Series, weft: &Series) -> Self {
        let ratios = weft.over(plain);
        Self {
            plain: Some(plain.median()),
            ratio: Some(ratios.median()),
            spread: Some(ratios.spread()),
            ..Self::alone(case, unit, weft.median())
        }
    }

    /// A figure that has no other side.
    pub(crate) fn alone(case: &str, unit: Unit, weft: f64) -> Self {
        Self { weft: Some(weft), ..Self::empty(case.to_owned(), unit) }
    }

    /// A case that cannot be measured, and why.
    pub(crate) fn off(case: &str, unit: Unit, why: String) -> Self {
        Self { note: Some(why), ..Self::empty(case.to_owned(), unit) }
    }

    fn empty(case: String, unit: Unit) -> Self {
        Self {
            case,
            unit,
            plain: None,
            weft: None,
            ratio: None,
            spread: None,
            targets: Vec::new(),
            note: None,
        }
    }

    /// The figure shall be `most` at most.
    pub(crate) fn at_most(self, most: f64) -> Self {
        let (wanted, found, reached) = (
            format!("≤ {}", self.unit.show(most)),
            String::new(),
            self.weft.is_some_and(|weft| weft <= most),
        );
        self.target(Target { wanted, found, reached })
    }

    /// The ratio shall be `least` at least.
    pub(crate) fn ratio_at_least(self, least: f64) -> Self {
        let reached = self.ratio.is_some_and(|ratio| ratio >= least);
        self.target(Target { wanted: format!("≥ {least:.2}"), found: String::new(), reached })
    }

    /// A target that was judged elsewhere.
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// Words instead of a verdict.
    pub(crate) fn note(mut self, note: String) -> Self {
        self.targets.clear();
        self.note = Some(note);
        self
    }

    fn group(&self) -> Group {
        let bar = |name, colour, figure: Option<f64>| {
            figure.map(|figure| Bar { name, colour, figure, shown: self.unit.show(figure) })
        };
        let bars = [bar("no mesh", plot::NO_MESH, self.plain), bar("weft", plot::WEFT, self.weft)];
        Group { title: self.case.clone(), bars: bars.into_iter().flatten().collect() }
    }

    fn cells(&self) -> [String; 7] {
        let wanted: Vec<_> = self.targets.iter().map(|target| target.wanted.clone()).collect();
        let verdicts: Vec<_> = self.targets.iter().map(Target::verdict).collect();
        [
            self.case.clone(),
            self.plain.map(|plain| self.unit.show(plain)).unwrap_or_default(),
            self.weft.map(|weft| self.unit.show(weft)).unwrap_or_default(),
            self.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
            self.spread.map(|spread| format!("±{:.1} %", spread * 100.0)).unwrap_or_default(),
            wanted.join(", "),
            self.note.as_deref().map_or_else(|| verdicts.join(", "), shortened),
        ]
    }
}

impl Target {
    /// `found` shall be `most` at most; `wanted` says so.
    pub(crate) fn new(wanted: &str, found: f64, most: f64, shown: String) -> Self {
        Self { wanted: wanted.into(), found: shown, reached: found <= most }
    }

    fn verdict(&self) -> String {
        let word = if self.reached { "reached" } else { "NOT reached" };
        if self.found.is_empty() { word.into() } else { format!("{word} ({})", self.found) }
    }
}

/// The JSON has it all.
fn shortened(note: &str) -> String {
    let first: String = note.chars().take(NOTE).collect();
    if first.len() < note.len() { first + " …" } else { first }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0} /s"),
            Self::BytesPerSecond => format!("{:.2} Gbit/s", value * 8e-9),
            Self::Microseconds => format!("{value:.2} µs"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Mebibytes => format!("{value:.0} MiB"),
            Self::Megabytes => format!("{value:.1} MB"),
        }
    }
}

/// Characters of a note that the table has room for.
const NOTE: usize = 48;
