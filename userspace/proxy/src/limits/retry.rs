//! Whether a try that failed is followed by another, and when.
//!
//! Without a policy a request is tried once more where it never reached an app: no connection, a refused
//! stream, a kept connection that the server had closed. It goes to another endpoint, at once. A policy
//! (GEP-1731) decides alone: `attempts: 0` is no second try at all.
//!
//! A connection that the proxy had kept and that turns out to be closed is the proxy's own affair. The next try is at
//! once, on a new connection, and none of the policy's attempts. What was not even sent does not cost the budget either:
//! the server has seen one request in the end.
//!
//! Waits are Envoy's (25 ms, doubling, at most ten times that, jitter over the whole range) but for one thing:
//! GEP-1731's `backoff` is the least wait, so a wait is drawn between that and the doubled one.

use std::time::Duration;

use weft_model::Retry;

use super::budget::Budget;
use crate::{clock::Moment, draw::Draw};

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No connection came about.
    ConnectFailed,
    /// The server refused the stream (HTTP/2 `REFUSED_STREAM`): it did nothing.
    RefusedStream,
    /// A connection that was kept open had ended before the request was on it, or its GOAWAY names an earlier stream as
    /// the last: the server did nothing.
    Unsent,
    /// A connection that was kept open turned out to be closed; not a byte of an answer came.
    StaleConnection,
    /// The connection or stream was reset before the head of the answer.
    ResetBeforeHead,
    /// The try took longer than `backendRequest`, without the head of an answer.
    TimedOut,
    /// An answer with this status.
    Status(u16),
    /// A gRPC answer with this code and nothing else (trailers only).
    Grpc(u32),
    /// The answer broke off after its head was passed on.
    ResetAfterHead,
    /// `faultInjection` answered.
    InjectedAbort,
}

impl Outcome {
    /// Whether it says something of a connection that was kept, and nothing of the endpoint.
    pub fn is_of_kept_connection(self) -> bool {
        matches!(self, Self::Unsent | Self::StaleConnection)
    }
}

/// What is known of a request when a try of it ended.
#[derive(Clone, Copy, Debug)]
pub struct Tries<'a> {
    /// The effective policy of the rule.
    pub policy: Option<&'a Retry>,
    /// Tries so far, at least one; without those that a kept connection spoilt.
    pub made: u32,
    /// Whether the whole body can be sent again: what was sent of it is kept ([`KEPT_BODY`]).
    pub replayable: bool,
    /// Whether the method may be repeated unasked (RFC 9110, 9.2.2).
    pub idempotent: bool,
    /// What is left of the request's timeout.
    pub left: Option<Duration>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Another try, after so long.
    Retry(Duration),
    /// None; the outcome is the client's answer.
    GiveUp(GiveUp),
}

/// Why there is no further try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Neither the default nor the policy retries such an outcome.
    NotRetried,
    /// As many tries as are allowed.
    Attempts,
    /// More of the body was sent than is kept.
    Body,
    /// No time is left to wait.
    Deadline,
    /// Too large a share of this backend's requests are retries.
    Budget,
}

impl GiveUp {
    /// A word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotRetried => "not_retried",
            Self::Attempts => "attempts",
            Self::Body => "body",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

/// Decides. Takes from the budget only where everything else allows another try.
pub fn decide(
    outcome: Outcome,
    tries: &Tries<'_>,
    budget: &Budget,
    now: Moment,
    dice: &mut impl Draw,
) -> Decision {
    if !is_retried(outcome, tries) {
        return Decision::GiveUp(GiveUp::NotRetried);
    }
    let attempts = tries.policy.map_or(1, |policy| policy.attempts);
    let used_up = match outcome {
        Outcome::Unsent => false,
        // It may have been seen.
        Outcome::StaleConnection => attempts == 0,
        _ => tries.made > attempts,
    };
    if used_up {
        return Decision::GiveUp(GiveUp::Attempts);
    }
    if !tries.replayable {
        return Decision::GiveUp(GiveUp::Body);
    }
    let policy = tries.policy.filter(|_| !outcome.is_of_kept_connection());
    let wait = policy.map_or(Duration::ZERO, |policy| backoff(policy.backoff, tries.made, dice));
    if tries.left.is_some_and(|left| left <= wait) {
        return Decision::GiveUp(GiveUp::Deadline);
    }
    if outcome != Outcome::Unsent && !budget.retry(now) {
        return Decision::GiveUp(GiveUp::Budget);
    }
    Decision::Retry(wait)
}

fn is_retried(outcome: Outcome, tries: &Tries<'_>) -> bool {
    match outcome {
        Outcome::ConnectFailed | Outcome::RefusedStream | Outcome::Unsent => true,
        Outcome::StaleConnection => tries.idempotent || tries.policy.is_some(),
        Outcome::ResetBeforeHead | Outcome::TimedOut => tries.policy.is_some(),
        Outcome::Status(status) => tries.policy.is_some_and(|policy| policy.codes.contains(&status)),
        Outcome::Grpc(code) => tries.policy.is_some_and(|policy| policy.grpc_codes.contains(&code)),
        Outcome::ResetAfterHead | Outcome::InjectedAbort => false,
    }
}

/// The wait after the `made`-th try: from `least` to twice, four times, eight, and at most ten times that.
fn backoff(least: Duration, made: u32, dice: &mut impl Draw) -> Duration {
    let most = least.saturating_mul(2_u32.saturating_pow(made).min(MOST));
    least + most.saturating_sub(least).mul_f64(dice.unit())
}

/// So much of a body is kept for another try.
pub const KEPT_BODY: usize = 64 * 1024;
const MOST: u32 = 10;

#[cfg(test)]
mod tests;
