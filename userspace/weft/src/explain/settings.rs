//! What holds for a request: timeouts, retries, limits, and who says so.

use std::time::Duration;

use weft_model::{
    CircuitBreaker, FaultInjection, Fraction, HashKey, HttpLoadBalancer, LimitKey, OutlierDetection,
    RateLimitRule, Retry, RouteRule, Service, Timeouts, TrafficSettings,
};
use weft_telemetry::api::ExplainedSetting;

const DEFAULT: &str = "default";
const ROUTE: &str = "route";
const ROUTE_POLICY: &str = "TrafficPolicy of the route";
const SERVICE_POLICY: &str = "TrafficPolicy of the Service";

/// The settings of `rule`, or of plain Service behaviour; `service` are those of the Service alone.
pub(super) fn in_force(rule: Option<&RouteRule>, service: &TrafficSettings) -> Vec<ExplainedSetting> {
    let traffic = rule.map_or(service, |rule| &rule.traffic);
    let timeouts = rule.map_or(service.timeouts, |rule| rule.timeouts.over(rule.traffic.timeouts));
    let mut all = Settings { all: Vec::new() };
    all.of(
        traffic,
        service,
        "loadBalancer",
        |t| t.load_balancer.as_ref().map(balancer),
        Some("LeastRequest"),
    );
    all.timeouts(&timeouts, traffic, service);
    all.retry(rule, traffic, service);
    all.of(traffic, service, "retryConstraint", |t| t.retry_budget.map(budget), Some(&budget_default()));
    all.of(traffic, service, "slowStart", |t| t.slow_start.map(time), None);
    let breaker = |t: &TrafficSettings| t.circuit_breaker.map(breaker);
    all.of(traffic, service, "circuitBreaker", breaker, Some(&self::breaker(CircuitBreaker::default())));
    all.of(traffic, service, "outlierDetection", |t| t.outlier_detection.as_ref().map(outlier), None);
    all.of(traffic, service, "rateLimit", |t| t.rate_limit.as_deref().map(limits), None);
    all.of(traffic, service, "faultInjection", |t| t.faults.map(faults), None);
    if let Some(session) = rule.and_then(|rule| rule.session.as_ref()) {
        let value = format!("{:?} {}", session.carrier, session.name);
        all.all.push(setting("sessionPersistence", value, ROUTE));
    }
    all.all
}

/// `sessionAffinity` of a Service.
pub(super) fn affinity(service: &Service) -> Option<ExplainedSetting> {
    service
        .session_affinity
        .map(|timeout| setting("sessionAffinity", format!("ClientIP for {}", time(timeout)), "Service"))
}

pub(super) fn setting(name: &str, value: String, from: &str) -> ExplainedSetting {
    ExplainedSetting { name: name.to_owned(), value, from: from.to_owned() }
}

struct Settings {
    all: Vec<ExplainedSetting>,
}

impl Settings {
    /// One field of a TrafficPolicy, in words by `value`.
    fn of(
        &mut self,
        traffic: &TrafficSettings,
        service: &TrafficSettings,
        name: &str,
        value: impl Fn(&TrafficSettings) -> Option<String>,
        default: Option<&str>,
    ) {
        let found = match value(traffic) {
            Some(text) if value(service).as_ref() == Some(&text) => Some((text, SERVICE_POLICY)),
            Some(text) => Some((text, ROUTE_POLICY)),
            None => default.map(|text| (text.to_owned(), DEFAULT)),
        };
        self.all.extend(found.map(|(text, from)| setting(name, text, from)));
    }

    fn timeouts(&mut self, held: &Timeouts, traffic: &TrafficSettings, service: &TrafficSettings) {
        type Field = (&'static str, fn(&Timeouts) -> Option<Duration>, Option<Duration>);
        let fields: [Field; 4] = [
            ("timeouts.connect", |t| t.connect, Some(Timeouts::CONNECT)),
            ("timeouts.idle", |t| t.idle, Some(Timeouts::IDLE)),
            ("timeouts.request", |t| t.request, None),
            ("timeouts.backendRequest", |t| t.backend_request, None),
        ];
        for (name, field, default) in fields {
            let (value, from) = match field(held) {
                None => (default.map_or_else(|| "none".to_owned(), time), DEFAULT),
                Some(held) if field(&service.timeouts) == Some(held) => (time(held), SERVICE_POLICY),
                Some(held) if field(&traffic.timeouts) == Some(held) => (time(held), ROUTE_POLICY),
                Some(held) => (time(held), ROUTE),
            };
            self.all.push(setting(name, value, from));
        }
    }

    fn retry(&mut self, rule: Option<&RouteRule>, traffic: &TrafficSettings, service: &TrafficSettings) {
        let held = rule.map_or(traffic.retry.as_ref(), |rule| rule.retry.as_ref().or(traffic.retry.as_ref()));
        let (value, from) = match held {
            None => ("once, of a connection that fails or a stream that is refused".to_owned(), DEFAULT),
            Some(held) if service.retry.as_ref() == Some(held) => (retry(held), SERVICE_POLICY),
            Some(held) if traffic.retry.as_ref() == Some(held) => (retry(held), ROUTE_POLICY),
            Some(held) => (retry(held), ROUTE),
        };
        self.all.push(setting("retry", value, from));
    }
}

fn balancer(balancer: &HttpLoadBalancer) -> String {
    match balancer {
        HttpLoadBalancer::LeastRequest => "LeastRequest".to_owned(),
        HttpLoadBalancer::RoundRobin => "RoundRobin".to_owned(),
        HttpLoadBalancer::Random => "Random".to_owned(),
        HttpLoadBalancer::PeakEwma => "PeakEWMA".to_owned(),
        HttpLoadBalancer::ConsistentHash { key, .. } => match key {
            HashKey::SourceIp => "ConsistentHash by the client's address".to_owned(),
            HashKey::Header(name) => format!("ConsistentHash by header {name}"),
            HashKey::Query(name) => format!("ConsistentHash by query {name}"),
            HashKey::Cookie { name, .. } => format!("ConsistentHash by cookie {name}"),
        },
    }
}

fn retry(retry: &Retry) -> String {
    let codes = retry.codes.iter().map(ToString::to_string);
    let grpc = retry.grpc_codes.iter().map(|code| format!("gRPC {code}"));
    let codes: Vec<_> = codes.chain(grpc).collect();
    let on = if codes.is_empty() { "connect failures".to_owned() } else { codes.join(", ") };
    format!("{} times on {on}, after {} or more", retry.attempts, time(retry.backoff))
}

fn budget(budget: weft_model::RetryBudget) -> String {
    format!(
        "{} % of requests in {}, at least {} in {}",
        budget.percent,
        time(budget.interval),
        budget.min_retries,
        time(budget.min_interval)
    )
}

fn budget_default() -> String {
    budget(weft_model::RetryBudget::default())
}

fn breaker(breaker: CircuitBreaker) -> String {
    format!(
        "{} connections, {} pending, {} requests, {} retries",
        breaker.max_connections, breaker.max_pending, breaker.max_requests, breaker.max_retries
    )
}

fn outlier(outlier: &OutlierDetection) -> String {
    let counts = [
        (outlier.consecutive_5xx, "5xx"),
        (outlier.consecutive_gateway_errors, "gateway errors"),
        (outlier.consecutive_local_failures, "local failures"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts: Vec<_> = counts.collect();
    format!(
        "{} in a row eject for {}, at most {} %",
        counts.join(" or "),
        time(outlier.base_ejection_time),
        outlier.max_ejection_percent
    )
}

fn limits(rules: &[RateLimitRule]) -> String {
    let rule = |rule: &RateLimitRule| {
        let keys = rule.keys.iter().map(|key| match key {
            LimitKey::SourceIdentity => "identity".to_owned(),
            LimitKey::SourceIp => "address".to_owned(),
            LimitKey::Header(name) => format!("header {name}"),
        });
        let keys: Vec<_> = keys.collect();
        let each = if keys.is_empty() { String::new() } else { format!(" for each {}", keys.join(" and ")) };
        format!("{} in {}, burst {}{each}", rule.requests, time(rule.per), rule.burst)
    };
    rules.iter().map(rule).collect::<Vec<_>>().join("; ")
}

fn faults(faults: FaultInjection) -> String {
    let percent = |share: Fraction| f64::from(share.numerator) * 100.0 / f64::from(share.denominator);
    let delay = faults.delay.map(|delay| format!("{} % wait {}", percent(delay.share), time(delay.time)));
    let abort = faults.abort.map(|abort| {
        let with = match abort.status {
            Ok(status) => status.to_string(),
            Err(code) => format!("gRPC {code}"),
        };
        format!("{} % are answered with {with}", percent(abort.share))
    });
    delay.into_iter().chain(abort).collect::<Vec<_>>().join(", ")
}

/// As the Gateway API writes durations; zero is no limit.
fn time(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    let parts =
        [(seconds / 3_600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"), (millis.into(), "ms")];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "no limit".to_owned() } else { parts.concat() }
}
