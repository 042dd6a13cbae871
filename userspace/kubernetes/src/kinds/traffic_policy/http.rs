//! The sections that say something about requests.

use serde::Deserialize;

use super::{LARGEST, check};
use crate::finding::Report;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retry {
    attempts: Option<i64>,
    #[serde(default)]
    codes: Vec<i64>,
    #[serde(default)]
    grpc_codes: Vec<GrpcCode>,
    backoff: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum GrpcCode {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RetryConstraint {
    budget: Option<Budget>,
    min_retry_rate: Option<Rate>,
}

#[derive(Debug, Deserialize)]
struct Budget {
    percent: Option<i64>,
    interval: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Rate {
    count: Option<i64>,
    interval: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RateLimit {
    local: LocalRateLimit,
}

#[derive(Debug, Deserialize)]
struct LocalRateLimit {
    #[serde(default)]
    rules: Vec<RateLimitRule>,
}

#[derive(Debug, Deserialize)]
struct RateLimitRule {
    limit: Limit,
    burst: Option<i64>,
    #[serde(default)]
    key: Vec<LimitKey>,
}

#[derive(Debug, Deserialize)]
struct Limit {
    requests: i64,
    #[serde(rename = "unit")]
    _unit: Unit,
}

#[derive(Debug, Deserialize)]
enum Unit {
    Second,
    Minute,
    Hour,
}

#[derive(Debug, Deserialize)]
struct LimitKey {
    r#type: LimitKeyType,
    header: Option<HeaderName>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum LimitKeyType {
    SourceIdentity,
    #[serde(rename = "SourceIP")]
    SourceIp,
    Header,
}

#[derive(Debug, Deserialize)]
struct HeaderName {
    name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct FaultInjection {
    delay: Option<Delay>,
    abort: Option<Abort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delay {
    #[serde(rename = "fixedDelay")]
    fixed: String,
    percent: Option<i64>,
    fraction: Option<Fraction>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Abort {
    http_status: Option<i64>,
    grpc_status: Option<GrpcCode>,
    percent: Option<i64>,
    fraction: Option<Fraction>,
}

#[derive(Debug, Deserialize)]
struct Fraction {
    numerator: i64,
    denominator: Option<i64>,
}

impl Retry {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) {
        check::range(self.attempts, &(1..=LARGEST), &format!("{field}.attempts"), report);
        check::duration(self.backoff.as_ref(), &format!("{field}.backoff"), report);
        for (i, code) in self.codes.iter().enumerate() {
            let field = format!("{field}.codes[{i}]");
            check::range(Some(*code), &(400..=599), &field, report);
            if self.codes[..i].contains(code) {
                report.error(&field, format!("{code} is there twice"), "remove one of the two");
            }
        }
        for (i, code) in self.grpc_codes.iter().enumerate() {
            if self.grpc_codes[..i].contains(code) {
                let field = format!("{field}.grpcCodes[{i}]");
                report.error(&field, "the same code twice", "remove one of the two");
            }
        }
    }
}

impl RetryConstraint {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) {
        if let Some(budget) = &self.budget {
            check::range(budget.percent, &(0..=100), &format!("{field}.budget.percent"), report);
            check::duration(budget.interval.as_ref(), &format!("{field}.budget.interval"), report);
        }
        if let Some(rate) = &self.min_retry_rate {
            check::range(rate.count, &(1..=1_000_000), &format!("{field}.minRetryRate.count"), report);
            check::duration(rate.interval.as_ref(), &format!("{field}.minRetryRate.interval"), report);
        }
    }
}

impl RateLimit {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) {
        if self.local.rules.is_empty() {
            let field = format!("{field}.local.rules");
            report.error(
                &field,
                "no rule limits anything",
                "add a rule: {limit: {requests: 100, unit: Second}}",
            );
        }
        for (i, rule) in self.local.rules.iter().enumerate() {
            let field = format!("{field}.local.rules[{i}]");
            check::range(
                Some(rule.limit.requests),
                &(1..=LARGEST),
                &format!("{field}.limit.requests"),
                report,
            );
            check::range(rule.burst, &(1..=LARGEST), &format!("{field}.burst"), report);
            for (j, key) in rule.key.iter().enumerate() {
                let field = format!("{field}.key[{j}].header");
                let by_header = key.r#type == LimitKeyType::Header;
                check::member(key.header.is_some(), by_header, &field, &format!("{:?}", key.r#type), report);
                if let Some(header) = &key.header {
                    check::header(&header.name, &format!("{field}.name"), report);
                }
            }
        }
    }
}

impl FaultInjection {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) {
        if self.delay.is_none() && self.abort.is_none() {
            report.error(
                field,
                "neither delay nor abort is there",
                "add one of them, or remove faultInjection",
            );
        }
        if let Some(delay) = &self.delay {
            let field = format!("{field}.delay");
            check::duration(Some(&delay.fixed), &format!("{field}.fixedDelay"), report);
            check_share(delay.percent, delay.fraction.as_ref(), &field, report);
        }
        if let Some(abort) = &self.abort {
            let field = format!("{field}.abort");
            if abort.http_status.is_some() == abort.grpc_status.is_some() {
                report.error(
                    &field,
                    "exactly one of httpStatus and grpcStatus says how",
                    "keep one of the two",
                );
            }
            check::range(abort.http_status, &(200..=599), &format!("{field}.httpStatus"), report);
            check_share(abort.percent, abort.fraction.as_ref(), &field, report);
        }
    }
}

fn check_share(percent: Option<i64>, fraction: Option<&Fraction>, field: &str, report: &mut Report<'_>) {
    if percent.is_some() && fraction.is_some() {
        report.error(field, "percent and fraction both say how often", "keep one of the two");
    }
    check::range(percent, &(0..=100), &format!("{field}.percent"), report);
    if let Some(Fraction { numerator, denominator }) = fraction {
        let denominator = denominator.unwrap_or(100);
        if denominator < 1 || !(0..=denominator).contains(numerator) {
            let message = format!("{numerator}/{denominator} is no fraction of 1");
            report.error(&format!("{field}.fraction"), message, "write numerator <= denominator");
        }
    }
}
