//! Outlier detection, as Envoy means it: an endpoint that fails several times in a row is left out.
//!
//! Where Envoy has a timer, here the time is in the numbers: an endpoint is back the moment its ejection is
//! over (Envoy: at the next interval), and it has been ejected once less for each interval that it stayed in.
//! An ejection counts when it begins; nothing runs while nothing fails.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use weft_model::OutlierDetection;

use crate::clock::Moment;

/// What outlier detection knows of one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// The end of its last ejection, in nanoseconds.
    until: AtomicU64,
    /// What its last ejection was multiplied by.
    multiplier: AtomicU32,
}

/// How a request ended, as far as the endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It answered, and not with an error of its own.
    Success,
    /// A 5xx other than the next.
    Error,
    /// 502, 503 or 504.
    GatewayError,
    /// No connection, or one that was reset or silent too long before an answer.
    LocalFailure,
}

/// What is in a row too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// `consecutive5xxErrors`
    Errors,
    /// `consecutiveGatewayErrors`
    GatewayErrors,
    /// `consecutiveLocalOriginFailures`
    LocalFailures,
}

/// An endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Why.
    pub cause: Cause,
    /// For how long.
    pub time: Duration,
}

/// The ejections of one backend.
#[derive(Debug, Default)]
pub struct Outliers {
    /// From then on nobody is ejected.
    last_until: AtomicU64,
    /// Until then too few are healthy for anybody to be left out.
    panic_until: AtomicU64,
    /// Held while an endpoint is ejected, so that two are not ejected at once over the bound.
    judging: Mutex<()>,
}

impl Observed {
    /// By an HTTP status.
    pub fn status(status: u16) -> Self {
        match status {
            502..=504 => Self::GatewayError,
            500.. => Self::Error,
            _ => Self::Success,
        }
    }

    /// By a gRPC status that came without an answer: what it stands for in HTTP (Envoy's table).
    pub fn grpc(code: u32) -> Self {
        match code {
            4 | 14 => Self::GatewayError,    // DEADLINE_EXCEEDED, UNAVAILABLE
            2 | 12 | 13 | 15 => Self::Error, // UNKNOWN, UNIMPLEMENTED, INTERNAL, DATA_LOSS
            _ => Self::Success,
        }
    }
}

impl Health {
    /// Whether it is ejected at `now`.
    pub fn ejected(&self, now: Moment) -> bool {
        now.nanos() < self.until.load(Relaxed)
    }

    /// Counts, and says what is in a row too long now. A row that did not lead to an ejection may once it
    /// is as long again.
    fn count(&self, settings: &OutlierDetection, how: Observed) -> Option<Cause> {
        let failed = |counter: &AtomicU32, limit: u32, does: bool| {
            if !does {
                if counter.load(Relaxed) != 0 {
                    counter.store(0, Relaxed);
                }
                return false;
            }
            let row = counter.fetch_add(1, Relaxed).wrapping_add(1);
            limit != 0 && row.is_multiple_of(limit)
        };
        let error = how != Observed::Success;
        let gateway = matches!(how, Observed::GatewayError | Observed::LocalFailure);
        let local = how == Observed::LocalFailure;
        let rows = [
            (failed(&self.errors, settings.consecutive_5xx, error), Cause::Errors),
            (
                failed(&self.gateway_errors, settings.consecutive_gateway_errors, gateway),
                Cause::GatewayErrors,
            ),
            (failed(&self.local_failures, settings.consecutive_local_failures, local), Cause::LocalFailures),
        ];
        // The most specific says most.
        rows.into_iter().rev().find_map(|(reached, cause)| reached.then_some(cause))
    }

    fn eject(&self, settings: &OutlierDetection, now: Moment) -> Duration {
        let (base, longest) = (settings.base_ejection_time, settings.max_ejection_time);
        let stayed = now.since(Moment::from_nanos(self.until.load(Relaxed)));
        let forgiven = stayed.as_nanos().checked_div(settings.interval.as_nanos()).unwrap_or(0);
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        let before = self.multiplier.load(Relaxed).saturating_sub(forgiven);
        // No higher than what makes the longest ejection, or it would take for ever to forgive.
        let grows = base.saturating_mul(before) < longest;
        let multiplier = if grows { before + 1 } else { before };
        let time = base.saturating_mul(multiplier).min(longest);
        self.multiplier.store(multiplier, Relaxed);
        self.until.store(now.after(time).nanos(), Relaxed);
        for counter in [&self.errors, &self.gateway_errors, &self.local_failures] {
            counter.store(0, Relaxed);
        }
        time
    }
}

impl Outliers {
    /// Whether anybody is left out at `now`.
    pub fn heeded(&self, now: Moment) -> bool {
        let now = now.nanos();
        now < self.last_until.load(Relaxed) && now >= self.panic_until.load(Relaxed)
    }

    /// A request to `one` of `all` ended. Says so where that ejects it: as long as the bound
    /// (`max_ejection_percent`, but one always may be) allows it, and never the last.
    ///
    /// Of an endpoint that is ejected nothing counts: what still ends there began before.
    pub fn observe<'a>(
        &self,
        settings: &OutlierDetection,
        one: &Health,
        all: impl Iterator<Item = &'a Health> + Clone,
        how: Observed,
        now: Moment,
    ) -> Option<Ejected> {
        if one.ejected(now) {
            return None;
        }
        let cause = one.count(settings, how)?;
        let _alone = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut total, mut out) = (0_usize, 0_usize);
        for health in all.clone() {
            total += 1;
            out += usize::from(health.ejected(now));
        }
        let bound = (total * usize::from(settings.max_ejection_percent) / 100).max(1);
        // An endpoint that has left meanwhile is not among all, and harms nobody any more.
        if out >= bound || out + 1 >= total || one.ejected(now) {
            return None;
        }
        let time = one.eject(settings, now);
        self.settle(settings, all, now);
        Some(Ejected { cause, time })
    }

    /// The endpoints of the backend, or its settings, are others now.
    pub fn resettle<'a>(
        &self,
        settings: Option<&OutlierDetection>,
        all: impl Iterator<Item = &'a Health> + Clone,
        now: Moment,
    ) {
        let _alone = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        match settings {
            Some(settings) => self.settle(settings, all, now),
            None => self.last_until.store(0, Relaxed),
        }
    }

    /// Works out until when somebody is ejected, and until when too many are.
    fn settle<'a>(&self, settings: &OutlierDetection, all: impl Iterator<Item = &'a Health>, now: Moment) {
        let (mut total, mut ends) = (0_usize, Vec::new());
        for health in all {
            total += 1;
            let until = health.until.load(Relaxed);
            if now.nanos() < until {
                ends.push(until);
            }
        }
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let healthy = (total * usize::from(settings.min_health_percent)).div_ceil(100);
        // So many may be out; the panic is over when the ejections are down to that.
        let tolerated = total - healthy.min(total);
        self.panic_until.store(ends.get(tolerated).copied().unwrap_or(0), Relaxed);
        self.last_until.store(ends.first().copied().unwrap_or(0), Relaxed);
    }
}

#[cfg(test)]
mod tests;
