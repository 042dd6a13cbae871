//! TrafficPolicy: how connections and requests to a target are handled.

mod http;
mod load_balancer;

use serde::Deserialize;
use weft_model::ObjectName;

use self::{
    http::{FaultInjection, RateLimit, Retry, RetryConstraint},
    load_balancer::LoadBalancerSpec,
};
use super::{
    check,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{Created, Key, Names, TrafficPolicy},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    target_refs: Vec<TargetRef>,
    load_balancer: Option<LoadBalancerSpec>,
    circuit_breaker: Option<CircuitBreaker>,
    outlier_detection: Option<OutlierDetection>,
    timeouts: Option<Timeouts>,
    retry: Option<Retry>,
    retry_constraint: Option<RetryConstraint>,
    rate_limit: Option<RateLimit>,
    fault_injection: Option<FaultInjection>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct CircuitBreaker {
    max_connections: Option<i64>,
    max_pending_requests: Option<i64>,
    max_parallel_requests: Option<i64>,
    max_parallel_retries: Option<i64>,
    max_requests_per_connection: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutlierDetection {
    #[serde(rename = "consecutive5xxErrors")]
    consecutive_5xx_errors: Option<i64>,
    consecutive_gateway_errors: Option<i64>,
    consecutive_local_origin_failures: Option<i64>,
    interval: Option<String>,
    base_ejection_time: Option<String>,
    max_ejection_time: Option<String>,
    max_ejection_percent: Option<i64>,
    min_health_percent: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timeouts {
    connect: Option<String>,
    idle: Option<String>,
    request: Option<String>,
    backend_request: Option<String>,
}

const LARGEST: i64 = i32::MAX as i64;

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
        let field = format!("spec.{section}");
        if there && for_route && of_service {
            report.error(
                &field,
                format!("{section} is for Services, not for routes"),
                "target kind: Service",
            );
        } else if there && section != "loadBalancer" {
            let message = format!("{section} is not enforced yet: it needs the http path");
            report.warning(&field, message, "connections take the kernel path without it");
        }
    }
    let load_balancer = spec.load_balancer.as_ref().map(|spec| spec.check("spec.loadBalancer", report));
    spec.check_sections(report);
    let services = match targets {
        Some(Targets::Services(services)) => services,
        _ => Vec::new(),
    };
    let namespace = &key.name.namespace;
    let services = services.into_iter().enumerate().map(|(i, service)| {
        (format!("spec.targetRefs[{i}]"), ObjectName::new(std::sync::Arc::clone(namespace), service))
    });
    TrafficPolicy {
        name: key.name.clone(),
        created,
        services: services.collect(),
        load_balancer: load_balancer.unwrap_or_default(),
    }
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

    fn check_sections(&self, report: &mut Report<'_>) {
        if let Some(breaker) = &self.circuit_breaker {
            breaker.check("spec.circuitBreaker", report);
        }
        if let Some(detection) = &self.outlier_detection {
            detection.check("spec.outlierDetection", report);
        }
        if let Some(timeouts) = &self.timeouts {
            timeouts.check("spec.timeouts", report);
        }
        if let Some(retry) = &self.retry {
            retry.check("spec.retry", report);
        }
        if let Some(constraint) = &self.retry_constraint {
            constraint.check("spec.retryConstraint", report);
        }
        if let Some(limit) = &self.rate_limit {
            limit.check("spec.rateLimit", report);
        }
        if let Some(faults) = &self.fault_injection {
            faults.check("spec.faultInjection", report);
        }
    }
}

impl CircuitBreaker {
    fn check(&self, field: &str, report: &mut Report<'_>) {
        let limits = [
            ("maxConnections", self.max_connections),
            ("maxPendingRequests", self.max_pending_requests),
            ("maxParallelRequests", self.max_parallel_requests),
            ("maxParallelRetries", self.max_parallel_retries),
            ("maxRequestsPerConnection", self.max_requests_per_connection),
        ];
        for (name, limit) in limits {
            let least = i64::from(name == "maxRequestsPerConnection");
            check::range(limit, &(least..=LARGEST), &format!("{field}.{name}"), report);
        }
    }
}

impl OutlierDetection {
    fn check(&self, field: &str, report: &mut Report<'_>) {
        let counts = [
            ("consecutive5xxErrors", self.consecutive_5xx_errors),
            ("consecutiveGatewayErrors", self.consecutive_gateway_errors),
            ("consecutiveLocalOriginFailures", self.consecutive_local_origin_failures),
        ];
        for (name, count) in counts {
            check::range(count, &(0..=LARGEST), &format!("{field}.{name}"), report);
        }
        for (name, percent) in
            [("maxEjectionPercent", self.max_ejection_percent), ("minHealthPercent", self.min_health_percent)]
        {
            check::range(percent, &(0..=100), &format!("{field}.{name}"), report);
        }
        check::duration(self.interval.as_ref(), &format!("{field}.interval"), report);
        let base =
            check::duration(self.base_ejection_time.as_ref(), &format!("{field}.baseEjectionTime"), report);
        let most =
            check::duration(self.max_ejection_time.as_ref(), &format!("{field}.maxEjectionTime"), report);
        if base.zip(most).is_some_and(|(base, most)| base > most) {
            let message = "shorter than baseEjectionTime";
            report.error(&format!("{field}.maxEjectionTime"), message, "make it at least as long");
        }
    }
}

impl Timeouts {
    fn check(&self, field: &str, report: &mut Report<'_>) {
        check::duration(self.connect.as_ref(), &format!("{field}.connect"), report);
        check::duration(self.idle.as_ref(), &format!("{field}.idle"), report);
        let request = check::duration(self.request.as_ref(), &format!("{field}.request"), report);
        let backend =
            check::duration(self.backend_request.as_ref(), &format!("{field}.backendRequest"), report);
        // A request timeout of 0s is none at all.
        let longer = |(request, backend): (std::time::Duration, _)| !request.is_zero() && backend > request;
        if request.zip(backend).is_some_and(longer) {
            let message = "a try may take longer than the whole request";
            report.error(&format!("{field}.backendRequest"), message, "make it at most timeouts.request");
        }
    }
}
