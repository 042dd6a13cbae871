//! TrafficPolicy: how connections and requests to a target are handled.

mod http;
mod load_balancer;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use weft_model::{ObjectName, TrafficSettings};

use self::{
    http::{FaultInjection, RateLimit, Retry, RetryConstraint},
    load_balancer::LoadBalancerSpec,
};
use super::{
    check, schema,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{Created, Key, Kind, Names, PolicyTargetRef, TrafficPolicy, traffic::Fields},
};

/// How connections and requests to Services, or requests that take routes, are handled. What is left out is as a less
/// specific policy says: Service, then route, then one rule of a route. What an HTTPRoute says itself goes before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["targetRefs"], "x-kubernetes-validations" = [
    schema::rule(
        "has(self.loadBalancer) || has(self.circuitBreaker) || has(self.outlierDetection) || has(self.timeouts) \
         || has(self.retry) || has(self.retryConstraint) || has(self.rateLimit) || has(self.faultInjection)",
        "the policy says nothing about its target: add loadBalancer, timeouts or another section, or remove the policy",
    ),
    of_services("loadBalancer"),
    of_services("circuitBreaker"),
    of_services("outlierDetection"),
]))]
pub(super) struct Spec {
    /// The Services or routes that the policy is for. Of two policies for one target the oldest holds.
    #[serde(default)]
    #[schemars(length(min = 1, max = 16), extend(
        "x-kubernetes-list-type" = "atomic",
        "x-kubernetes-validations" = schema::targets(&["Service", "HTTPRoute", "GRPCRoute"]),
    ))]
    target_refs: Vec<TargetRef>,
    /// Which endpoint is next. For Services only.
    load_balancer: Option<LoadBalancerSpec>,
    /// Limits of what goes to a Service at a time, from each node. What is over them is answered with 503. For Services
    /// only.
    circuit_breaker: Option<CircuitBreaker>,
    /// Endpoints that fail get nothing for a while. The last endpoint of a Service is never ejected. For Services only.
    outlier_detection: Option<OutlierDetection>,
    /// How long things may take.
    timeouts: Option<Timeouts>,
    /// Which requests are tried again.
    retry: Option<Retry>,
    /// How many retries there may be, of all requests together.
    retry_constraint: Option<RetryConstraint>,
    /// How many requests there may be. What is over it is answered with 429, or `RESOURCE_EXHAUSTED`.
    rate_limit: Option<RateLimit>,
    /// Faults made on purpose, to see what clients do about them.
    fault_injection: Option<FaultInjection>,
}

fn of_services(section: &str) -> Value {
    schema::rule_at(
        &format!(".{section}"),
        &format!("self.targetRefs.all(target, target.kind == 'Service') || !has(self.{section})"),
        &format!("{section} is for Services, not for routes: target kind: Service"),
    )
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct CircuitBreaker {
    /// Connections to one Service. Default: 1024.
    #[schemars(range(min = 0, max = LARGEST))]
    max_connections: Option<i64>,
    /// Requests that wait for a connection. Default: 1024.
    #[schemars(range(min = 0, max = LARGEST))]
    max_pending_requests: Option<i64>,
    /// Requests at a time. Default: 1024.
    #[schemars(range(min = 0, max = LARGEST))]
    max_parallel_requests: Option<i64>,
    /// Retries at a time. Default: 1024.
    #[schemars(range(min = 0, max = LARGEST))]
    max_parallel_retries: Option<i64>,
    /// Requests that one connection carries before it is closed. Default: no limit.
    #[schemars(range(min = 1, max = LARGEST))]
    max_requests_per_connection: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".maxEjectionTime",
    "!has(self.maxEjectionTime) \
     || duration(self.maxEjectionTime) >= duration(self.?baseEjectionTime.orValue('30s'))",
    "shorter than baseEjectionTime, which is 30s where it is left out: make it at least as long",
)]))]
struct OutlierDetection {
    /// So many answers of 5xx in a row eject an endpoint, failures to get an answer included. 0 is never. Default: 5.
    #[serde(rename = "consecutive5xxErrors")]
    #[schemars(range(min = 0, max = LARGEST))]
    consecutive_5xx_errors: Option<i64>,
    /// So many answers of 502, 503 or 504 in a row eject an endpoint, failures to get an answer included. 0 is never. Default: 0.
    #[schemars(range(min = 0, max = LARGEST))]
    consecutive_gateway_errors: Option<i64>,
    /// So many tries in a row without an answer eject an endpoint. 0 is never. Default: 5.
    #[schemars(range(min = 0, max = LARGEST))]
    consecutive_local_origin_failures: Option<i64>,
    /// An endpoint that stays in for so long has one ejection fewer against it. Default: 10s.
    #[schemars(with = "Option<schema::Duration>")]
    interval: Option<String>,
    /// How long an endpoint is ejected, times how often it was. Default: 30s.
    #[schemars(with = "Option<schema::Duration>")]
    base_ejection_time: Option<String>,
    /// The longest that an endpoint is ejected. Default: 300s, or baseEjectionTime where that is longer.
    #[schemars(with = "Option<schema::Duration>")]
    max_ejection_time: Option<String>,
    /// The largest part of endpoints that is ejected, in percent; one always may be. Default: 10.
    #[schemars(range(min = 0, max = 100))]
    max_ejection_percent: Option<i64>,
    /// Below this share of healthy endpoints, in percent, nobody is left out. Default: 0, which is off.
    #[schemars(range(min = 0, max = 100))]
    min_health_percent: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".backendRequest",
    "!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') \
     || duration(self.backendRequest) <= duration(self.request)",
    "a try may take longer than the whole request: make it at most timeouts.request",
)]))]
struct Timeouts {
    /// Until an endpoint has accepted a connection. Default: 10s.
    #[schemars(with = "Option<schema::Duration>")]
    connect: Option<String>,
    /// Without a byte in either direction, until a connection is closed. Default: 1h.
    #[schemars(with = "Option<schema::Duration>")]
    idle: Option<String>,
    /// From a request to the end of its answer, with all tries. 0s, or nothing: no limit.
    #[schemars(with = "Option<schema::Duration>")]
    request: Option<String>,
    /// The same of one try. 0s, or nothing: no limit.
    #[schemars(with = "Option<schema::Duration>")]
    backend_request: Option<String>,
}

use check::LARGEST;

pub(super) fn check(
    spec: &Spec,
    key: &Key,
    created: Created,
    names: &mut Names,
    report: &mut Report<'_>,
) -> TrafficPolicy {
    let allowed = [TargetKind::Service, TargetKind::HttpRoute, TargetKind::GrpcRoute];
    let targets = target_ref::check(&spec.target_refs, &allowed, names, report);
    if spec.sections().iter().all(|(_, there)| !there) {
        let remedy = "add loadBalancer, timeouts or another section, or remove the policy";
        report.error("spec", "the policy says nothing about its target", remedy);
    }
    let for_route = matches!(targets, Some(Targets::Routes(_)));
    for (section, there) in spec.sections() {
        let of_service = ["loadBalancer", "circuitBreaker", "outlierDetection"].contains(&section);
        if there && for_route && of_service {
            let message = format!("{section} is for Services, not for routes");
            report.error(&format!("spec.{section}"), message, "target kind: Service");
        }
    }
    let load_balancer = spec.load_balancer.as_ref().map(|spec| spec.check("spec.loadBalancer", report));
    let (in_kernel, by_request, slow_start) = load_balancer.unwrap_or_default();
    let fields = Fields {
        retry: spec.retry.as_ref().map(|it| it.check("spec.retry", report)),
        retry_budget: spec.retry_constraint.as_ref().map(|it| it.check("spec.retryConstraint", report)),
    };
    let settings = TrafficSettings { load_balancer: by_request, slow_start, ..spec.check_sections(report) };
    TrafficPolicy {
        name: key.name.clone(),
        created,
        targets: target_refs(targets, &key.name),
        load_balancer: in_kernel,
        settings: Arc::new(fields.within(settings)),
        fields,
    }
}

fn target_refs(targets: Option<Targets>, policy: &ObjectName) -> Vec<PolicyTargetRef> {
    let targets: Vec<_> = match targets {
        Some(Targets::Services(services)) => {
            services.into_iter().map(|name| (Kind::Service, name, None)).collect()
        }
        Some(Targets::Routes(routes)) => {
            routes.into_iter().map(|route| (route.kind, route.name, route.section)).collect()
        }
        Some(Targets::Pods(_)) | None => Vec::new(),
    };
    let target = |(i, (kind, name, section))| PolicyTargetRef {
        field: format!("spec.targetRefs[{i}]"),
        key: Key { kind, name: ObjectName::new(Arc::clone(&policy.namespace), name) },
        section,
    };
    targets.into_iter().enumerate().map(target).collect()
}

impl Spec {
    fn sections(&self) -> [(&'static str, bool); 8] {
        [
            ("loadBalancer", self.load_balancer.is_some()),
            ("circuitBreaker", self.circuit_breaker.is_some()),
            ("outlierDetection", self.outlier_detection.is_some()),
            ("timeouts", self.timeouts.is_some()),
            ("retry", self.retry.is_some()),
            ("retryConstraint", self.retry_constraint.is_some()),
            ("rateLimit", self.rate_limit.is_some()),
            ("faultInjection", self.fault_injection.is_some()),
        ]
    }

    fn check_sections(&self, report: &mut Report<'_>) -> TrafficSettings {
        TrafficSettings {
            circuit_breaker: self.circuit_breaker.as_ref().map(|it| it.check("spec.circuitBreaker", report)),
            outlier_detection: self
                .outlier_detection
                .as_ref()
                .map(|it| it.check("spec.outlierDetection", report)),
            timeouts: self.timeouts.as_ref().map(|it| it.check("spec.timeouts", report)).unwrap_or_default(),
            rate_limit: self.rate_limit.as_ref().map(|it| it.check("spec.rateLimit", report)),
            faults: self.fault_injection.as_ref().map(|it| it.check("spec.faultInjection", report)),
            ..TrafficSettings::default()
        }
    }
}

impl CircuitBreaker {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::CircuitBreaker {
        let default = weft_model::CircuitBreaker::default();
        let mut limit = |limit, name: &str, least, default| {
            check::count(limit, &(least..=LARGEST), &format!("{field}.{name}"), report).unwrap_or(default)
        };
        weft_model::CircuitBreaker {
            max_connections: limit(self.max_connections, "maxConnections", 0, default.max_connections),
            max_pending: limit(self.max_pending_requests, "maxPendingRequests", 0, default.max_pending),
            max_requests: limit(self.max_parallel_requests, "maxParallelRequests", 0, default.max_requests),
            max_retries: limit(self.max_parallel_retries, "maxParallelRetries", 0, default.max_retries),
            max_requests_per_connection: limit(
                self.max_requests_per_connection,
                "maxRequestsPerConnection",
                1,
                default.max_requests_per_connection,
            ),
        }
    }
}

impl OutlierDetection {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::OutlierDetection {
        let default = weft_model::OutlierDetection::default();
        let mut count = |count, name: &str, default| {
            check::count(count, &(0..=LARGEST), &format!("{field}.{name}"), report).unwrap_or(default)
        };
        let consecutive_5xx =
            count(self.consecutive_5xx_errors, "consecutive5xxErrors", default.consecutive_5xx);
        let consecutive_gateway_errors = count(
            self.consecutive_gateway_errors,
            "consecutiveGatewayErrors",
            default.consecutive_gateway_errors,
        );
        let consecutive_local_failures = count(
            self.consecutive_local_origin_failures,
            "consecutiveLocalOriginFailures",
            default.consecutive_local_failures,
        );
        let mut percent = |percent, name: &str, default| {
            let percent = check::count(percent, &(0..=100), &format!("{field}.{name}"), report);
            percent.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(default)
        };
        let max_ejection_percent =
            percent(self.max_ejection_percent, "maxEjectionPercent", default.max_ejection_percent);
        let min_health_percent =
            percent(self.min_health_percent, "minHealthPercent", default.min_health_percent);
        let mut time = |time: &Option<String>, name: &str| {
            check::duration(time.as_ref(), &format!("{field}.{name}"), report)
        };
        let interval = time(&self.interval, "interval");
        let base = time(&self.base_ejection_time, "baseEjectionTime").unwrap_or(default.base_ejection_time);
        let most = time(&self.max_ejection_time, "maxEjectionTime");
        if most.is_some_and(|most| base > most) {
            let message = format!("shorter than baseEjectionTime, {}s", base.as_secs_f64());
            report.error(&format!("{field}.maxEjectionTime"), message, "make it at least as long");
        }
        weft_model::OutlierDetection {
            consecutive_5xx,
            consecutive_gateway_errors,
            consecutive_local_failures,
            interval: interval.unwrap_or(default.interval),
            base_ejection_time: base,
            max_ejection_time: most.unwrap_or(default.max_ejection_time.max(base)),
            max_ejection_percent,
            min_health_percent,
        }
    }
}

impl Timeouts {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::Timeouts {
        let mut time = |time: &Option<String>, name: &str| {
            check::duration(time.as_ref(), &format!("{field}.{name}"), report)
        };
        let timeouts = weft_model::Timeouts {
            connect: time(&self.connect, "connect"),
            idle: time(&self.idle, "idle"),
            request: time(&self.request, "request"),
            backend_request: time(&self.backend_request, "backendRequest"),
        };
        let field = format!("{field}.backendRequest");
        check::try_within_request(timeouts.request, timeouts.backend_request, &field, report);
        timeouts
    }
}
