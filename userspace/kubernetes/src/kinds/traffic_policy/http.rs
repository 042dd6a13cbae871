//! The sections that say something about requests.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use super::{LARGEST, check, check::Fraction};
use crate::{
    finding::Report,
    object::traffic::{BudgetFields, RetryFields},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retry {
    attempts: Option<i64>,
    codes: Option<Vec<i64>>,
    grpc_codes: Option<Vec<GrpcCode>>,
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
    unit: Unit,
}

#[derive(Clone, Copy, Debug, Deserialize)]
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
