//! What a TrafficPolicy allows, refuses and breaks.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::Fraction;

/// What may be under way at once, to one backend from this node. Over it: 503 with its own Reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitBreaker {
    /// Connections to the backend's endpoints together.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending: u32,
    /// Requests under way.
    pub max_requests: u32,
    /// Retries under way.
    pub max_retries: u32,
    /// Requests that one connection carries before it is closed; 0 is no limit.
    pub max_requests_per_connection: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending: 1024,
            max_requests: 1024,
            max_retries: 1024,
            max_requests_per_connection: 0,
        }
    }
}

/// When an endpoint is ejected. A count of 0 is off. The last endpoint of a backend is never ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// 5xx answers in a row, failures to get an answer included.
    pub consecutive_5xx: u32,
    /// 502, 503 and 504 answers in a row, failures to get an answer included.
    pub consecutive_gateway_errors: u32,
    /// Connections in a row that failed, were reset or timed out before an answer.
    pub consecutive_local_failures: u32,
    /// An endpoint that stays in for so long has one ejection fewer against it.
    pub interval: Duration,
    /// The first ejection lasts so long, the n-th n times so long.
    pub base_ejection_time: Duration,
    /// The longest ejection.
    pub max_ejection_time: Duration,
    /// At most this share of a backend's endpoints is ejected; one always may be.
    pub max_ejection_percent: u8,
    /// Below this share of healthy endpoints nobody is left out; 0 is off.
    pub min_health_percent: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            consecutive_local_failures: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_mins(5),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}

/// How much may be tried again (GEP-3388): a share of requests, and a least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// Retries, in percent of the requests within `interval`.
    pub percent: u8,
    /// The time that is looked back.
    pub interval: Duration,
    /// Retries that are allowed in any case, within `min_interval`.
    pub min_retries: u32,
    /// See `min_retries`.
    pub min_interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            min_retries: 10,
            min_interval: Duration::from_secs(1),
        }
    }
}

/// A token bucket, one for each distinct value of `keys`. Over it: 429, gRPC `RESOURCE_EXHAUSTED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitRule {
    /// Requests that flow in within `per`.
    pub requests: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
    /// What the bucket holds.
    pub burst: u32,
    /// What tells buckets apart; empty is one bucket for all.
    pub keys: Vec<LimitKey>,
}

/// What tells the buckets of a rate limit apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitKey {
    /// The client's ServiceAccount.
    SourceIdentity,
    /// The client pod's address.
    SourceIp,
    /// A header's value; lower-case name.
    Header(Arc<str>),
}

/// What is broken on purpose. The delay comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultInjection {
    /// Requests that wait.
    pub delay: Option<Delay>,
    /// Requests that are answered here; never tried again.
    pub abort: Option<Abort>,
}

impl FaultInjection {
    /// This, and what it does not say from `less`.
    pub(super) fn over(self, less: Self) -> Self {
        Self { delay: self.delay.or(less.delay), abort: self.abort.or(less.abort) }
    }
}

/// Requests that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Which share.
    pub share: Fraction,
}

/// Requests that are answered by the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// The HTTP status, or the gRPC status code.
    pub status: Result<u16, u32>,
    /// Which share.
    pub share: Fraction,
}
