//! Picks an endpoint for a try.
//!
//! An endpoint is open to a try that has not tried it and that outlier detection does not leave out. Draws
//! that are not open, or lose against slow start's weight, are drawn again; only where that does not help
//! is every endpoint looked at.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    EndpointState,
    endpoints::{Algorithm, Endpoints},
    slow_start::SlowStart,
};
use crate::{clock::Moment, draw::Draw};

/// What is known of a try.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Now.
    pub now: Moment,
    /// The hash of the request, for a consistent hash ([`hash::of`](super::hash::of)). Without it the draw
    /// is random.
    pub hash: Option<u64>,
    /// What was tried already.
    pub tried: &'a [SocketAddr],
}

impl Endpoints {
    /// An endpoint for a try; `None` where there is none that was not tried.
    ///
    /// One that is ejected is picked only where all are, or while so many are ejected that nobody is left
    /// out (`min_health_percent`).
    pub fn pick(&self, ask: &Ask<'_>, dice: &mut impl Draw) -> Option<&Arc<EndpointState>> {
        let round = self.round(ask);
        let at = match &self.algorithm {
            Algorithm::LeastRequest => round.lesser(dice, |one| f64::from(one.active())),
            Algorithm::PeakEwma => round.lesser(dice, |one| one.latency.cost(one.active(), ask.now)),
            Algorithm::Random => round.draw(dice),
            Algorithm::RoundRobin => round.in_turn(dice, || self.turn.fetch_add(1, Relaxed)),
            Algorithm::Hash(table) => match ask.hash {
                Some(hash) => round.hashed(table, hash),
                None => round.draw(dice),
            },
        };
        Some(&self.members[at?])
    }

    /// The endpoint that a session or an affinity names, where the try may go there.
    pub fn sticky(&self, id: u64, ask: &Ask<'_>) -> Option<&Arc<EndpointState>> {
        let named = self.named(id)?;
        self.round(ask).is_open(named).then_some(named)
    }

    /// Whether [`Endpoints::pick`] finds one.
    pub fn has_any(&self, ask: &Ask<'_>) -> bool {
        let round = self.round(ask);
        self.members.iter().any(|one| round.is_open(one))
    }

    fn round<'a>(&'a self, ask: &'a Ask<'a>) -> Round<'a> {
        let slow_start = self.slow_start.as_ref().filter(|slow| slow.lasts(ask.now));
        let heeds = self.outliers.heeded(ask.now) && self.members.iter().any(|one| !one.ejected(ask.now));
        Round { members: &self.members, ask, slow_start, heeds }
    }
}

struct Round<'a> {
    members: &'a [Arc<EndpointState>],
    ask: &'a Ask<'a>,
    /// While some endpoint is held back.
    slow_start: Option<&'a SlowStart>,
    /// Whether ejected ones are left out.
    heeds: bool,
}

impl Round<'_> {
    /// One at random, by weight.
    fn draw(&self, dice: &mut impl Draw) -> Option<usize> {
        if self.members.is_empty() {
            return None;
        }
        for _ in 0..DRAWS {
            let at = dice.index(self.members.len());
            if self.is_open(&self.members[at]) && self.has_weight(at, dice) {
                return Some(at);
            }
        }
        self.first_open(dice.index(self.members.len()))
    }

    /// The one of two that costs less, by weight; the first drawn where both cost the same.
    fn lesser(&self, dice: &mut impl Draw, cost: impl Fn(&EndpointState) -> f64) -> Option<usize> {
        let one = self.draw(dice)?;
        let other = self.draw_other(one, dice)?;
        let cost = |at: usize| {
            let cost = cost(&self.members[at]);
            self.weight(at).map_or(cost, |weight| cost / weight)
        };
        Some(if cost(other) < cost(one) { other } else { one })
    }

    /// Another than `one`, where there is another. With weights it may be `one` again: else of two endpoints
    /// both would always be drawn, and the new one would take all that comes while the old one is busy.
    fn draw_other(&self, one: usize, dice: &mut impl Draw) -> Option<usize> {
        if self.slow_start.is_some() {
            return self.draw(dice);
        }
        let others = self.members.len() - 1;
        if others == 0 {
            return Some(one);
        }
        let skip = |at: usize| if at >= one { at + 1 } else { at };
        let mut draws = (0..DRAWS).map(|_| skip(dice.index(others)));
        Some(draws.find(|at| self.is_open(&self.members[*at])).unwrap_or(one))
    }

    /// The next in turn. One that slow start holds back lets some of its turns go by.
    fn in_turn(&self, dice: &mut impl Draw, next: impl Fn() -> usize) -> Option<usize> {
        let mut outweighed = None;
        for _ in 0..self.members.len() {
            let at = next() % self.members.len();
            if !self.is_open(&self.members[at]) {
                continue;
            }
            if self.has_weight(at, dice) {
                return Some(at);
            }
            outweighed = Some(at);
        }
        // Other workers take turns in between: a walk may have missed one.
        outweighed.or_else(|| self.first_open(0))
    }

    /// The one that the table says, else those that further steps through the table say: who loses its
    /// endpoint goes to the same other one on every node, and all who do spread over all others.
    fn hashed(&self, table: &[u16], hash: u64) -> Option<usize> {
        let size = u64::try_from(table.len()).expect("a usize has at most 64 bits");
        if size < 2 {
            return self.first_open(0);
        }
        let (start, step) = (hash % size, 1 + (hash >> 32) % (size - 1));
        let entry = |n: u64| usize::try_from((start + n * step) % size).expect("an index of the table");
        let walk = (0..STEPS).map(|n| usize::from(table[entry(n)]));
        walk.into_iter()
            .find(|at| self.is_open(&self.members[*at]))
            .or_else(|| self.first_open(entry(0) % self.members.len()))
    }

    /// The first that is open, from `start` on and around.
    fn first_open(&self, start: usize) -> Option<usize> {
        let around = (start..self.members.len()).chain(0..start);
        around.into_iter().find(|at| self.is_open(&self.members[*at]))
    }

    fn is_open(&self, one: &EndpointState) -> bool {
        !(self.heeds && one.ejected(self.ask.now) || self.ask.tried.contains(&one.address()))
    }

    fn weight(&self, at: usize) -> Option<f64> {
        self.slow_start.map(|slow| slow.weight(self.members[at].joined(), self.ask.now))
    }

    fn has_weight(&self, at: usize, dice: &mut impl Draw) -> bool {
        self.weight(at).is_none_or(|weight| weight >= 1.0 || dice.unit() < weight)
    }
}

/// With the default of 10 % ejected, all of these miss once in 10^16 picks.
const DRAWS: usize = 16;
/// As many steps through a Maglev table miss as rarely.
const STEPS: u64 = 64;

#[cfg(test)]
mod tests;
