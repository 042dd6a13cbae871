//! The sections that say something about requests.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{LARGEST, check, check::Fraction, schema};
use crate::{
    finding::Report,
    object::traffic::{BudgetFields, RetryFields},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retry {
    /// Tries after the first one. Default: 2.
    #[schemars(range(min = 1, max = LARGEST))]
    attempts: Option<i64>,
    /// Statuses of HTTP that are tried again, of 400 to 599. Default: 500, 502, 503 and 504.
    #[schemars(length(max = 64), inner(range(min = 400, max = 599)), extend("x-kubernetes-list-type" = "set"))]
    codes: Option<Vec<i64>>,
    /// Statuses of gRPC that are tried again.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    grpc_codes: Option<Vec<GrpcCode>>,
    /// The shortest wait before a retry; it doubles with each, with jitter, to ten times this. Default: 25ms.
    #[schemars(with = "Option<schema::Duration>")]
    backoff: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RetryConstraint {
    /// The part of all requests that retries may be.
    budget: Option<Budget>,
    /// Retries that there may be whatever the budget is.
    min_retry_rate: Option<Rate>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Budget {
    /// So many retries, in percent of all requests. Default: 20.
    #[schemars(range(min = 0, max = 100))]
    percent: Option<i64>,
    /// Over which time both are counted. Default: 10s.
    #[schemars(with = "Option<schema::Duration>")]
    interval: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Rate {
    /// So many retries. Default: 10.
    #[schemars(range(min = 1, max = 1_000_000))]
    count: Option<i64>,
    /// In this time. Default: 1s.
    #[schemars(with = "Option<schema::Duration>")]
    interval: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RateLimit {
    /// Limits that each node counts by itself.
    local: LocalRateLimit,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["rules"]))]
struct LocalRateLimit {
    /// Limits; all of them hold.
    #[serde(default)]
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    rules: Vec<RateLimitRule>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct RateLimitRule {
    /// How many requests there may be.
    limit: Limit,
    /// How many there may be at once, after a time without any. Absent: as many as limit.requests.
    #[schemars(range(min = 1, max = LARGEST))]
    burst: Option<i64>,
    /// What is counted apart: each combination of values has the limit to itself. Absent or empty: all requests are
    /// counted together.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    key: Vec<LimitKey>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Limit {
    /// So many requests.
    #[schemars(range(min = 1, max = LARGEST))]
    requests: i64,
    /// In so much time.
    unit: Unit,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum Unit {
    Second,
    Minute,
    Hour,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::member("Header", "header")]))]
struct LimitKey {
    /// `SourceIdentity` is the client's ServiceAccount, `SourceIP` its address, Header the value of a header.
    r#type: LimitKeyType,
    /// For type Header: which.
    header: Option<HeaderName>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
enum LimitKeyType {
    SourceIdentity,
    #[serde(rename = "SourceIP")]
    SourceIp,
    Header,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct HeaderName {
    /// The header's name, in whatever case.
    #[schemars(with = "schema::HeaderName")]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::rule(
    "has(self.delay) || has(self.abort)",
    "neither delay nor abort is there: add one of them, or remove faultInjection",
)]))]
pub(super) struct FaultInjection {
    /// Requests that are held up.
    delay: Option<Delay>,
    /// Requests that are answered by weft, and never sent on or tried again.
    abort: Option<Abort>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::share()]))]
struct Delay {
    /// How long a request is held up.
    #[serde(rename = "fixedDelay")]
    #[schemars(with = "schema::Duration")]
    fixed: String,
    /// Which part of requests, in percent. Without percent and fraction: all.
    #[schemars(range(min = 0, max = 100))]
    percent: Option<i64>,
    /// Which part of requests, where it is no percentage.
    fraction: Option<Fraction>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    schema::share(),
    schema::rule(
        "has(self.httpStatus) != has(self.grpcStatus)",
        "exactly one of httpStatus and grpcStatus says how: keep one of the two",
    ),
]))]
struct Abort {
    /// The answer's status.
    #[schemars(range(min = 200, max = 599))]
    http_status: Option<i64>,
    /// The answer's status, of gRPC.
    grpc_status: Option<GrpcCode>,
    /// Which part of requests, in percent. Without percent and fraction: all.
    #[schemars(range(min = 0, max = 100))]
    percent: Option<i64>,
    /// Which part of requests, where it is no percentage.
    fraction: Option<Fraction>,
}

impl Retry {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) -> RetryFields {
        let grpc_codes = self.grpc_codes.as_deref();
        for (i, code) in grpc_codes.unwrap_or_default().iter().enumerate() {
            if grpc_codes.unwrap_or_default()[..i].contains(code) {
                let field = format!("{field}.grpcCodes[{i}]");
                report.error(&field, "the same code twice", "remove one of the two");
            }
        }
        let grpc_codes = grpc_codes.map(|codes| codes.iter().map(|code| code.number()).collect());
        let codes = self.codes.as_deref();
        let retry = check::retry(self.attempts, codes, self.backoff.as_ref(), field, report);
        RetryFields { grpc_codes, ..retry }
    }
}

impl GrpcCode {
    /// Its number on the wire.
    fn number(self) -> u32 {
        match self {
            Self::Cancelled => 1,
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }
}

impl RetryConstraint {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) -> BudgetFields {
        let mut said = BudgetFields::default();
        if let Some(Budget { percent, interval }) = &self.budget {
            let percent = check::count(*percent, &(0..=100), &format!("{field}.budget.percent"), report);
            said.percent = percent.and_then(|percent| percent.try_into().ok());
            said.interval = check::duration(interval.as_ref(), &format!("{field}.budget.interval"), report);
        }
        if let Some(Rate { count, interval }) = &self.min_retry_rate {
            said.min_retries =
                check::count(*count, &(1..=1_000_000), &format!("{field}.minRetryRate.count"), report);
            said.min_interval =
                check::duration(interval.as_ref(), &format!("{field}.minRetryRate.interval"), report);
        }
        said
    }
}

impl RateLimit {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) -> Vec<weft_model::RateLimitRule> {
        if self.local.rules.is_empty() {
            let remedy = "add a rule: {limit: {requests: 100, unit: Second}}";
            report.error(&format!("{field}.local.rules"), "no rule limits anything", remedy);
        }
        let rules = self.local.rules.iter().enumerate();
        rules.map(|(i, rule)| rule.check(&format!("{field}.local.rules[{i}]"), report)).collect()
    }
}

impl RateLimitRule {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::RateLimitRule {
        let requests = format!("{field}.limit.requests");
        let requests = check::count(Some(self.limit.requests), &(1..=LARGEST), &requests, report);
        let requests = requests.unwrap_or(1);
        let burst = check::count(self.burst, &(1..=LARGEST), &format!("{field}.burst"), report);
        let mut keys = Vec::new();
        for (i, key) in self.key.iter().enumerate() {
            let field = format!("{field}.key[{i}].header");
            let by_header = key.r#type == LimitKeyType::Header;
            check::member(key.header.is_some(), by_header, &field, &format!("{:?}", key.r#type), report);
            if let Some(header) = &key.header {
                check::header(&header.name, &format!("{field}.name"), report);
            }
            let name = key.header.as_ref().map(|header| header.name.to_ascii_lowercase());
            keys.push(match key.r#type {
                LimitKeyType::SourceIdentity => weft_model::LimitKey::SourceIdentity,
                LimitKeyType::SourceIp => weft_model::LimitKey::SourceIp,
                LimitKeyType::Header => weft_model::LimitKey::Header(Arc::from(name.unwrap_or_default())),
            });
        }
        weft_model::RateLimitRule {
            requests,
            per: self.limit.unit.time(),
            burst: burst.unwrap_or(requests),
            keys,
        }
    }
}

impl Unit {
    fn time(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_mins(1),
            Self::Hour => Duration::from_hours(1),
        }
    }
}

impl FaultInjection {
    pub(super) fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::FaultInjection {
        if self.delay.is_none() && self.abort.is_none() {
            let remedy = "add one of them, or remove faultInjection";
            report.error(field, "neither delay nor abort is there", remedy);
        }
        weft_model::FaultInjection {
            delay: self.delay.as_ref().map(|delay| delay.check(&format!("{field}.delay"), report)),
            abort: self.abort.as_ref().map(|abort| abort.check(&format!("{field}.abort"), report)),
        }
    }
}

impl Delay {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::Delay {
        let time = check::duration(Some(&self.fixed), &format!("{field}.fixedDelay"), report);
        let share = check::share(self.percent, self.fraction.as_ref(), field, report);
        weft_model::Delay { time: time.unwrap_or_default(), share }
    }
}

impl Abort {
    fn check(&self, field: &str, report: &mut Report<'_>) -> weft_model::Abort {
        if self.http_status.is_some() == self.grpc_status.is_some() {
            let message = "exactly one of httpStatus and grpcStatus says how";
            report.error(field, message, "keep one of the two");
        }
        check::range(self.http_status, &(200..=599), &format!("{field}.httpStatus"), report);
        let http = self.http_status.and_then(|status| u16::try_from(status).ok());
        let status = self.grpc_status.map_or(Ok(http.unwrap_or_default()), |code| Err(code.number()));
        let share = check::share(self.percent, self.fraction.as_ref(), field, report);
        weft_model::Abort { status, share }
    }
}
