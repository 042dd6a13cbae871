//! Rounds: each side once, right after each other, so that all of them see the same noise.

use std::io::{Write as _, stderr};
use std::time::Duration;

use anyhow::Result;

/// How much is measured.
pub struct Plan {
    /// How often each side has its turn.
    pub rounds: usize,
    /// How long a turn lasts.
    pub lasts: Duration,
    /// How many changes of one endpoint.
    pub changes: usize,
    /// How often the agent is started from nothing.
    pub cold_starts: usize,
}

/// One figure for each round.
pub(crate) struct Series(Vec<f64>);

/// One figure of every side for each round.
pub(crate) fn interleave(plan: &Plan, case: &str, sides: &[&dyn Fn() -> Result<f64>]) -> Result<Vec<Series>> {
    Ok(interleave_all(plan.rounds, case, sides)?.into_iter().map(Series).collect())
}

/// Measures every side once per round. Who begins changes with the round: nobody always has the same place.
pub(crate) fn interleave_all<T>(
    rounds: usize,
    case: &str,
    sides: &[&dyn Fn() -> Result<T>],
) -> Result<Vec<Vec<T>>> {
    let mut figures: Vec<Vec<T>> = sides.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        progress(&format!("{case}: round {} of {rounds}", round + 1));
        for turn in 0..sides.len() {
            let side = (round + turn) % sides.len();
            figures[side].push(sides[side]()?);
        }
    }
    progress("");
    Ok(figures)
}

impl Series {
    /// The figures in `values`.
    pub(crate) fn new(values: Vec<f64>) -> Self {
        Self(values)
    }

    /// Each round's ratio to `other`.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, that)| this / that).collect())
    }

    /// Each round's difference to `other`.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(this, that)| this - that).collect())
    }

    /// The median.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / 2.0 / self.median()
    }

    /// The figure that `share` of all are below, by the nearest rank.
    #[expect(clippy::cast_precision_loss, reason = "there are few rounds")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a rank")]
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }
}

/// Shows on a terminal's last line what goes on.
pub(crate) fn progress(what: &str) {
    if std::io::IsTerminal::is_terminal(&stderr()) {
        // Without a terminal there is nobody to read it.
        let _ = write!(stderr(), "\r\x1b[K{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn a_ratio_is_that_of_one_round() {
        let (plain, mesh) = (Series::new(vec![10.0, 100.0, 20.0]), Series::new(vec![9.0, 80.0, 10.0]));
        assert_eq!(shown(mesh.over(&plain).median()), "0.800");
        assert_eq!(shown(mesh.minus(&plain).median()), "-10.000");
    }

    #[test]
    fn the_spread_is_half_the_distance_between_the_quartiles() {
        let series = Series::new(vec![1.0, 8.0, 9.0, 10.0, 11.0, 12.0, 99.0]);
        assert_eq!(shown(series.spread()), "0.150");
    }

    fn shown(figure: f64) -> String {
        format!("{figure:.3}")
    }
}
