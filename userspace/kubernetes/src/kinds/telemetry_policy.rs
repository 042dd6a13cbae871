//! TelemetryPolicy: tracing and access log. Tracing is checked in full, and not enforced yet.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, de::IgnoredAny};
use weft_model::{LogFormat, PolicyTarget};

use super::{
    check, log_filter, schema,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{Created, Key, LogSettings, Names, TelemetryPolicy},
};

/// What is told of connections and requests.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["targetRefs"], "x-kubernetes-validations" = [schema::rule(
    "has(self.tracing) || has(self.accessLog)",
    "neither tracing nor accessLog is there: add one of them, or remove the policy",
)]))]
pub(super) struct Spec {
    /// The pods or Services that the policy is for. A policy for pods has one target, with a selector; of several
    /// policies for one pod the more specific wins, field by field, and then the oldest.
    #[serde(default)]
    #[schemars(length(min = 1, max = 16), extend(
        "x-kubernetes-list-type" = "atomic",
        "x-kubernetes-validations" = schema::targets(&["Pod", "Service"]),
    ))]
    target_refs: Vec<TargetRef>,
    /// Traces of requests. They are not made yet.
    tracing: Option<Tracing>,
    /// A line for each request, and for each connection without requests.
    access_log: Option<AccessLog>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tracing {
    /// Whether there are traces.
    mode: Option<Mode>,
    /// Where they go.
    provider: Option<TracingProvider>,
    /// Which part of requests is traced.
    sampling_rate: Option<Fraction>,
    /// Whether the client's decision is kept.
    #[serde(default, rename = "parentBasedSampling")]
    _parent_based_sampling: Option<ParentBased>,
    /// What spans say besides.
    #[serde(default)]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct AccessLog {
    /// Whether there is a log.
    mode: Option<Mode>,
    /// How its lines are written.
    format: Option<Format>,
    /// Which lines are written, in CEL, like response.code >= 500 || response.duration > duration('1s'). Absent: all.
    #[schemars(length(min = 1, max = 2048))]
    filter: Option<String>,
    /// Where its lines go. Absent: the agent's standard output.
    provider: Option<LogProvider>,
}

#[derive(Debug, Deserialize, JsonSchema)]
enum Mode {
    Enabled,
    Disabled,
}

#[derive(Debug, Deserialize, JsonSchema)]
enum Format {
    #[serde(rename = "JSON")]
    Json,
    Text,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ParentBased {
    /// Whether it is.
    #[serde(rename = "mode")]
    _mode: Mode,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TracingProvider {
    /// A Service that takes OTLP over gRPC.
    backend_ref: BackendRef,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::member("OTLP", "backendRef")]))]
struct LogProvider {
    /// Stdout is the agent's standard output, OTLP a collector.
    r#type: LogProviderType,
    /// For type OTLP: a Service that takes OTLP over gRPC.
    backend_ref: Option<BackendRef>,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
enum LogProviderType {
    Stdout,
    #[serde(rename = "OTLP")]
    Otlp,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct BackendRef {
    /// "", or absent.
    #[serde(default, rename = "group")]
    #[schemars(length(max = 253))]
    _group: Option<String>,
    /// Service, or absent.
    #[serde(default, rename = "kind")]
    #[schemars(length(max = 63))]
    _kind: Option<String>,
    /// The Service's name.
    #[serde(rename = "name")]
    #[schemars(with = "schema::ServiceName")]
    _name: String,
    /// The Service's namespace. Absent: the policy's.
    #[serde(default, rename = "namespace")]
    #[schemars(with = "Option<schema::ServiceName>")]
    _namespace: Option<String>,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    port: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::fraction()]))]
struct Fraction {
    /// So many requests.
    #[schemars(range(min = 0, max = check::LARGEST))]
    numerator: i64,
    /// Of so many.
    #[schemars(range(min = 1, max = check::LARGEST), extend("default" = 100))]
    denominator: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    schema::member("Literal", "literalValue"),
    schema::member("RequestHeader", "requestHeader"),
]))]
struct Attribute {
    /// What the attribute is called.
    #[serde(rename = "name")]
    #[schemars(length(min = 1, max = 255))]
    _name: String,
    /// Where its value is from.
    r#type: AttributeType,
    /// For type Literal: the value.
    #[schemars(length(max = 1024))]
    literal_value: Option<String>,
    /// For type `RequestHeader`: which.
    #[schemars(with = "Option<RequestHeader>")]
    request_header: Option<IgnoredAny>,
}

/// What [`Attribute::request_header`] will be, once there are traces.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "its schema is what it is for")]
struct RequestHeader {
    /// The header's name, in whatever case.
    #[schemars(with = "schema::HeaderName")]
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
enum AttributeType {
    Literal,
    RequestHeader,
}

pub(super) fn check(
    spec: &Spec,
    key: &Key,
    created: Created,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<TelemetryPolicy> {
    let targets =
        target_ref::check(&spec.target_refs, &[TargetKind::Pod, TargetKind::Service], names, report);
    if spec.tracing.is_none() && spec.access_log.is_none() {
        report.error(
            "spec",
            "neither tracing nor accessLog is there",
            "add one of them, or remove the policy",
        );
    }
    let access_log = check_parts(spec.tracing.as_ref(), spec.access_log.as_ref(), "spec", report);
    let target = match targets? {
        Targets::Pods(selector) => PolicyTarget::Pods(selector),
        Targets::Services(names) => PolicyTarget::Services(names),
        Targets::Routes(_) => return None, // refused as a kind that is not allowed
    };
    (!report.refused()).then(|| TelemetryPolicy { name: key.name.clone(), created, target, access_log })
}

/// What MeshConfig has as well. Says what is not enforced yet; what is, is the answer.
pub(super) fn check_parts(
    tracing: Option<&Tracing>,
    access_log: Option<&AccessLog>,
    field: &str,
    report: &mut Report<'_>,
) -> LogSettings {
    if let Some(tracing) = tracing {
        tracing.check(&format!("{field}.tracing"), report);
    }
    access_log.map(|log| log.check(&format!("{field}.accessLog"), report)).unwrap_or_default()
}

impl AccessLog {
    fn check(&self, field: &str, report: &mut Report<'_>) -> LogSettings {
        if let Some(provider) = &self.provider {
            let reference = format!("{field}.provider.backendRef");
            let kind = format!("{:?}", provider.r#type);
            let otlp = provider.r#type == LogProviderType::Otlp;
            check::member(provider.backend_ref.is_some(), otlp, &reference, &kind, report);
            check_port(provider.backend_ref.as_ref(), &reference, report);
            if otlp && provider.backend_ref.is_some() {
                let message = "OTLP is not there yet: lines go to the agent's standard output";
                report.warning(&format!("{field}.provider.type"), message, "write Stdout until then");
            }
        }
        let parsed = self.filter.as_deref().map(log_filter::parse).transpose();
        if let Err(error) = &parsed {
            report.error(&format!("{field}.filter"), error.to_string(), error.remedy());
        }
        LogSettings {
            enabled: self.mode.as_ref().map(|mode| matches!(mode, Mode::Enabled)),
            format: self.format.as_ref().map(|format| match format {
                Format::Json => LogFormat::Json,
                Format::Text => LogFormat::Text,
            }),
            filter: parsed.ok().flatten().map(Arc::new),
        }
    }
}

impl Tracing {
    fn check(&self, field: &str, report: &mut Report<'_>) {
        if matches!(self.mode, Some(Mode::Enabled)) {
            let remedy = "requests show in `weft observe`, metrics and access logs meanwhile";
            report.warning(field, "tracing is not enforced yet", remedy);
        }
        let backend = self.provider.as_ref().map(|provider| &provider.backend_ref);
        check_port(backend, &format!("{field}.provider.backendRef"), report);
        if let Some(rate) = &self.sampling_rate {
            let denominator = rate.denominator.unwrap_or(100);
            if denominator < 1 || !(0..=denominator).contains(&rate.numerator) {
                let message = format!("{}/{denominator} is no fraction of 1", rate.numerator);
                report.error(&format!("{field}.samplingRate"), message, "write numerator <= denominator");
            }
        }
        for (i, attribute) in self.attributes.iter().enumerate() {
            let kind = format!("{:?}", attribute.r#type);
            let field = format!("{field}.attributes[{i}]");
            let literal = attribute.r#type == AttributeType::Literal;
            let there = attribute.literal_value.is_some();
            check::member(there, literal, &format!("{field}.literalValue"), &kind, report);
            let there = attribute.request_header.is_some();
            check::member(there, !literal, &format!("{field}.requestHeader"), &kind, report);
        }
    }
}

fn check_port(backend: Option<&BackendRef>, field: &str, report: &mut Report<'_>) {
    if let Some(port) = backend.and_then(|backend| backend.port) {
        check::port(port, &format!("{field}.port"), report);
    }
}
