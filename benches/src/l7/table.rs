//! Rows of figures, one column for each path, with what is wanted of weft's.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write as _, stdout};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::path::Path;
use super::plot::{self, Bar, Group};
use crate::report::Machine;
use crate::rounds::Series;

/// All figures of one run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    mode: &'static str,
    machine: Machine,
    rows: Vec<Row>,
}

/// One case.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) unit: Unit,
    /// Medians over all rounds.
    pub(super) figures: BTreeMap<Path, f64>,
    targets: Vec<Target>,
    #[serde(skip)]
    series: Vec<(Path, Series)>,
}

/// What a figure counts.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Unit {
    PerSecond,
    BytesPerSecond,
    Microseconds,
    Milliseconds,
    Bytes,
}

/// What weft's figure shall be, or its ratio to that of another path: the median of the rounds' ratios.
#[derive(Serialize)]
struct Target {
    wanted: String,
    found: f64,
    spread: Option<f64>,
    reached: bool,
}

impl Table {
    /// An empty one.
    pub fn new(mode: &'static str) -> Self {
        Self { mode, machine: Machine::this(), rows: Vec::new() }
    }

    /// Adds a row, and shows at once what is known by now.
    pub(super) fn add(&mut self, row: Row) {
        let figures =
            row.figures.iter().map(|(path, figure)| format!("{} {}", path.name(), row.unit.show(*figure)));
        eprintln!("{}: {}", row.case, figures.collect::<Vec<_>>().join(", "));
        self.rows.push(row);
    }

    /// Prints it.
    pub fn show(&self) -> Result<()> {
        let head = std::iter::once("case").chain(Path::ALL.map(Path::name)).chain(["wanted"]);
        let head: Vec<_> = head.map(str::to_owned).collect();
        let lines: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
        let mut out = stdout().lock();
        writeln!(out, "{}", self.machine)?;
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                // Figures stand under each other, words begin under each other.
                let is_figure = (1..=Path::ALL.len()).contains(&column);
                if is_figure { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Writes JSON.
    pub fn save(&self, file: &std::path::Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))
    }

    /// Draws all rows as bars.
    pub fn plot(&self, file: &std::path::Path) -> Result<()> {
        let svg =
            plot::bars(&self.machine.to_string(), &self.rows.iter().map(Row::group).collect::<Vec<_>>());
        fs::write(file, svg).with_context(|| format!("write {}", file.display()))
    }
}

impl Row {
    pub(super) fn new(case: &str, unit: Unit, series: Vec<(Path, Series)>) -> Self {
        let figures = series.iter().map(|(path, series)| (*path, series.median())).collect();
        Self { case: case.to_owned(), unit, figures, targets: Vec::new(), series }
    }

    /// Weft's figure shall be `least` times that of `path` at least.
    pub(super) fn at_least(self, least: f64, path: Path) -> Self {
        self.compared(path, &format!("≥ {least} × {}", path.name()), |ratio| ratio >= least)
    }

    /// Weft's figure shall be `most` times that of `path` at most.
    pub(super) fn at_most(self, most: f64, path: Path) -> Self {
        self.compared(path, &format!("≤ {most} × {}", path.name()), |ratio| ratio <= most)
    }

    /// Weft's figure shall be `most` at most.
    pub(super) fn figure_at_most(mut self, most: f64) -> Self {
        if let Some(&found) = self.figures.get(&Path::Weft) {
            let wanted = format!("≤ {}", self.unit.show(most));
            self.targets.push(Target { wanted, found, spread: None, reached: found <= most });
        }
        self
    }

    /// Nothing is wanted of a path that was not measured.
    fn compared(mut self, path: Path, wanted: &str, reached: impl Fn(f64) -> bool) -> Self {
        let of = |path| self.series.iter().find(|(of, _)| *of == path).map(|(_, series)| series);
        if let (Some(weft), Some(other)) = (of(Path::Weft), of(path)) {
            let ratios = weft.over(other);
            let (found, spread) = (ratios.median(), Some(ratios.spread()));
            self.targets.push(Target { wanted: wanted.into(), found, spread, reached: reached(found) });
        }
        self
    }

    fn group(&self) -> Group {
        let bar = |(path, figure): (&Path, &f64)| Bar {
            name: path.name(),
            colour: path.colour(),
            figure: *figure,
            shown: self.unit.show(*figure),
        };
        Group { title: self.case.clone(), bars: self.figures.iter().map(bar).collect() }
    }

    fn cells(&self) -> Vec<String> {
        let figure = |path| self.figures.get(&path).map(|figure| self.unit.show(*figure)).unwrap_or_default();
        let targets: Vec<_> = self.targets.iter().map(Target::shown).collect();
        let figures = Path::ALL.map(figure);
        std::iter::once(self.case.clone()).chain(figures).chain([targets.join("   ")]).collect()
    }
}

impl Target {
    fn shown(&self) -> String {
        let sign = if self.reached { '✓' } else { '✗' };
        let Some(spread) = self.spread else { return format!("{sign} {}", self.wanted) };
        format!("{sign} {:.2} ±{:.1} % ({})", self.found, spread * 100.0, self.wanted)
    }
}

impl Unit {
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0} /s"),
            Self::BytesPerSecond => format!("{:.2} Gbit/s", value * 8e-9),
            Self::Microseconds => format!("{value:.0} µs"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Bytes if value >= 1e6 => format!("{:.1} MB", value / 1e6),
            Self::Bytes => format!("{:.1} KiB", value / 1024.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, Row, Unit};
    use crate::rounds::Series;

    fn row(weft: [f64; 3], other: [f64; 3]) -> Row {
        let series = [(Path::Weft, weft), (Path::Envoy, other)];
        Row::new(
            "x",
            Unit::PerSecond,
            series.map(|(path, figures)| (path, Series::new(figures.into()))).into(),
        )
    }

    #[test]
    fn a_target_is_judged_by_the_ratios_of_rounds() {
        // The medians alone would say 2.
        let row =
            row([10.0, 20.0, 60.0], [10.0, 5.0, 20.0]).at_least(2.5, Path::Envoy).at_most(3.0, Path::Envoy);
        let shown: Vec<_> = row.targets.iter().map(|target| (target.found, target.reached)).collect();
        assert_eq!(shown, [(3.0, true), (3.0, true)]);
        assert!(!row.at_least(3.5, Path::Envoy).targets[2].reached);
    }

    #[test]
    fn nothing_is_wanted_of_a_path_that_was_not_measured() {
        assert!(row([1.0; 3], [1.0; 3]).at_least(0.6, Path::NoMesh).targets.is_empty());
    }
}
