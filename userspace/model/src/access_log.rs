//! Which requests of a pod are logged, and how (TelemetryPolicy, `accessLog`).

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// The access log of a pod's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// How a line is written.
    pub format: LogFormat,
    /// Which requests; `None` is all.
    pub filter: Option<Arc<LogFilter>>,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// An object a line.
    #[default]
    Json,
    /// `key=value` pairs.
    Text,
}

/// A condition on a request: the part of CEL that asks one attribute after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFilter {
    /// `a && b`.
    All(Vec<LogFilter>),
    /// `a || b`.
    Any(Vec<LogFilter>),
    /// `!a`.
    Not(Box<LogFilter>),
    /// `response.code >= 500`.
    Number(LogNumber, Comparison, u64),
    /// `request.method == 'GET'`, `request.path.startsWith('/v1')`.
    Text(LogText, TextTest, Arc<str>),
}

/// An attribute that is a number. A duration is one of microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogNumber {
    /// `response.code`.
    ResponseCode,
    /// `response.grpc_status`; a request that is no gRPC call has 0.
    GrpcStatus,
    /// `response.duration`, compared with `duration('1s')`.
    Duration,
    /// `request.size`: bytes of the body.
    RequestSize,
    /// `response.size`.
    ResponseSize,
}

/// An attribute that is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogText {
    /// `request.method`.
    Method,
    /// `request.path`.
    Path,
    /// `request.host`.
    Host,
    /// `response.flags`: Envoy's short flags, `-` for none.
    Flags,
    /// `response.reason`: weft's word, empty for none.
    Reason,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.workload`.
    SourceWorkload,
    /// `destination.namespace`.
    DestinationNamespace,
    /// `destination.service`.
    DestinationService,
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    AtMost,
    /// `>`.
    More,
    /// `>=`.
    AtLeast,
}

/// What a text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextTest {
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `.startsWith()`.
    StartsWith,
    /// `.endsWith()`.
    EndsWith,
    /// `.contains()`.
    Contains,
}

impl Comparison {
    /// Whether it holds for `left` and `right`.
    pub fn holds(self, left: u64, right: u64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

impl TextTest {
    /// Whether it holds for `text`.
    pub fn holds(self, text: &str, wanted: &str) -> bool {
        match self {
            Self::Equal => text == wanted,
            Self::NotEqual => text != wanted,
            Self::StartsWith => text.starts_with(wanted),
            Self::EndsWith => text.ends_with(wanted),
            Self::Contains => text.contains(wanted),
        }
    }
}

impl LogFilter {
    /// Whether it holds for a request with these attributes.
    pub fn holds<'a>(&self, number: &impl Fn(LogNumber) -> u64, text: &impl Fn(LogText) -> &'a str) -> bool {
        match self {
            Self::All(all) => all.iter().all(|filter| filter.holds(number, text)),
            Self::Any(any) => any.iter().any(|filter| filter.holds(number, text)),
            Self::Not(filter) => !filter.holds(number, text),
            Self::Number(attribute, comparison, wanted) => comparison.holds(number(*attribute), *wanted),
            Self::Text(attribute, how, wanted) => how.holds(text(*attribute), wanted),
        }
    }
}

impl LogNumber {
    /// A duration in this attribute's unit.
    pub fn of_duration(span: Duration) -> u64 {
        u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
    }
}
