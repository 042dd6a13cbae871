//! How requests to a Service, a route or a rule are handled: a TrafficPolicy, defaults not yet filled in.
//!
//! `None` is "not said", so that a less specific policy can say it ([`TrafficSettings::over`]); the
//! defaults of the field stand as constants beside what they are for.

mod limits;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use limits::{
    Abort, CircuitBreaker, Delay, FaultInjection, LimitKey, OutlierDetection, RateLimitRule, RetryBudget,
};

/// One TrafficPolicy, or several merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrafficSettings {
    /// How the proxy chooses among endpoints.
    pub load_balancer: Option<HttpLoadBalancer>,
    /// A new endpoint's share grows to its full size over this time.
    pub slow_start: Option<Duration>,
    /// What may be under way at once.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// When an endpoint is left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// How much may be tried again.
    pub retry_budget: Option<RetryBudget>,
    /// How many requests are let through: each rule by itself.
    pub rate_limit: Option<Vec<RateLimitRule>>,
    /// What is broken on purpose.
    pub faults: Option<FaultInjection>,
}

/// How the proxy chooses among the endpoints of a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpLoadBalancer {
    /// The one with fewer requests under way, of two drawn at random.
    #[default]
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// At random.
    Random,
    /// The one with the lower expected latency (peak EWMA times requests under way), of two.
    PeakEwma,
    /// By a property of the request, with a Maglev table.
    ConsistentHash {
        /// What is hashed.
        key: HashKey,
        /// Entries of the table, a prime.
        table_size: u32,
    },
}

/// What of a request is hashed. Where it is missing, the draw is random.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKey {
    /// The client pod's address.
    SourceIp,
    /// A header's value; lower-case name.
    Header(Arc<str>),
    /// A query parameter's value.
    Query(Arc<str>),
    /// A cookie's value. Where a client has none, one is made and given to it.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Its `Path`.
        path: Option<Arc<str>>,
        /// Its `Max-Age`; `None` is a session cookie.
        ttl: Option<Duration>,
    },
}

/// How long things may take. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Until a connection to an endpoint is established.
    pub connect: Option<Duration>,
    /// Without a byte either way.
    pub idle: Option<Duration>,
    /// From the request's first byte to the answer's last, tries included.
    pub request: Option<Duration>,
    /// Each try.
    pub backend_request: Option<Duration>,
}

impl Timeouts {
    /// Where nobody says how long a connection may take to come about.
    pub const CONNECT: Duration = Duration::from_secs(10);
    /// Where nobody says how long a connection may be silent.
    pub const IDLE: Duration = Duration::from_hours(1);

    /// These, and what they do not say from `less`.
    pub fn over(self, less: Self) -> Self {
        Self {
            connect: self.connect.or(less.connect),
            idle: self.idle.or(less.idle),
            request: self.request.or(less.request),
            backend_request: self.backend_request.or(less.backend_request),
        }
    }
}

/// Which requests are tried again, and how often (GEP-1731).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// Status codes that are worth another try.
    pub codes: Vec<u16>,
    /// gRPC status codes that are worth another try.
    pub grpc_codes: Vec<u32>,
    /// The shortest wait before another try; it doubles with each, with jitter, to ten times this.
    pub backoff: Duration,
}

impl Retry {
    /// Where a policy does not say how long to wait.
    pub const BACKOFF: Duration = Duration::from_millis(25);
    /// Where a policy does not say how often.
    pub const ATTEMPTS: u32 = 2;
    /// Where a policy does not say which codes.
    pub const CODES: [u16; 4] = [500, 502, 503, 504];
}

impl TrafficSettings {
    /// These, and what they do not say from `less`, the settings of something less specific.
    ///
    /// `retry` and `retry_budget` are whole: whoever reads policies merges their fields before defaults are filled in.
    pub fn over(&self, less: &Self) -> Self {
        let (more, less) = (self.clone(), less.clone());
        Self {
            load_balancer: more.load_balancer.or(less.load_balancer),
            slow_start: more.slow_start.or(less.slow_start),
            circuit_breaker: more.circuit_breaker.or(less.circuit_breaker),
            outlier_detection: more.outlier_detection.or(less.outlier_detection),
            timeouts: more.timeouts.over(less.timeouts),
            retry: more.retry.or(less.retry),
            retry_budget: more.retry_budget.or(less.retry_budget),
            rate_limit: more.rate_limit.or(less.rate_limit),
            faults: match (more.faults, less.faults) {
                (Some(more), Some(less)) => Some(more.over(less)),
                (more, less) => more.or(less),
            },
        }
    }

    /// Whether a connection must leave the kernel path for these (contract, section 3).
    pub fn need_proxy(&self) -> bool {
        let by_request = match &self.load_balancer {
            Some(HttpLoadBalancer::PeakEwma) => true,
            Some(HttpLoadBalancer::ConsistentHash { key, .. }) => *key != HashKey::SourceIp,
            _ => false,
        };
        by_request
            || self.circuit_breaker.is_some()
            || self.outlier_detection.is_some()
            || self.timeouts.request.is_some()
            || self.timeouts.backend_request.is_some()
            || self.retry.is_some()
            || self.rate_limit.is_some()
            || self.faults.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_specific_policy_wins_field_by_field() {
        let second = Some(Duration::from_secs(1));
        let rule = TrafficSettings {
            timeouts: Timeouts { request: second, ..Timeouts::default() },
            ..TrafficSettings::default()
        };
        let service = TrafficSettings {
            load_balancer: Some(HttpLoadBalancer::Random),
            timeouts: Timeouts { request: Some(Duration::ZERO), connect: second, ..Timeouts::default() },
            ..TrafficSettings::default()
        };
        let merged = rule.over(&service);
        assert_eq!(merged.timeouts, Timeouts { request: second, connect: second, ..Timeouts::default() });
        assert_eq!(merged.load_balancer, Some(HttpLoadBalancer::Random));
    }

    #[test]
    fn only_what_looks_at_requests_leaves_the_kernel_path() {
        let hash = |key| HttpLoadBalancer::ConsistentHash { key, table_size: 65_537 };
        let balanced = |by| TrafficSettings { load_balancer: Some(by), ..TrafficSettings::default() };
        let timed = |timeouts| TrafficSettings { timeouts, ..TrafficSettings::default() };
        let second = Some(Duration::from_secs(1));
        for stays in [
            TrafficSettings::default(),
            balanced(HttpLoadBalancer::LeastRequest),
            balanced(HttpLoadBalancer::RoundRobin),
            balanced(hash(HashKey::SourceIp)),
            timed(Timeouts { connect: second, idle: second, ..Timeouts::default() }),
        ] {
            assert!(!stays.need_proxy(), "{stays:?}");
        }
        for leaves in [
            balanced(HttpLoadBalancer::PeakEwma),
            balanced(hash(HashKey::Header("x-user".into()))),
            timed(Timeouts { request: second, ..Timeouts::default() }),
            TrafficSettings { rate_limit: Some(Vec::new()), ..TrafficSettings::default() },
        ] {
            assert!(leaves.need_proxy(), "{leaves:?}");
        }
    }

    #[test]
    fn settings_read_back_as_they_are_written() {
        let settings = TrafficSettings {
            load_balancer: Some(HttpLoadBalancer::ConsistentHash {
                key: HashKey::Cookie { name: "user".into(), path: None, ttl: Some(Duration::from_mins(1)) },
                table_size: 65_537,
            }),
            ..TrafficSettings::default()
        };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<TrafficSettings>(&text).unwrap(), settings);
    }
}
