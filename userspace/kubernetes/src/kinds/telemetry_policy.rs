//! TelemetryPolicy: tracing and access log. Checked in full; enforced once the http path is there.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    check,
    target_ref::{self, TargetKind, TargetRef},
};
use crate::{finding::Report, object::Names};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    target_refs: Vec<TargetRef>,
    tracing: Option<Tracing>,
    access_log: Option<AccessLog>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tracing {
    #[serde(default, rename = "mode")]
    _mode: Option<Mode>,
    provider: Option<TracingProvider>,
    sampling_rate: Option<Fraction>,
    #[serde(default, rename = "parentBasedSampling")]
    _parent_based_sampling: Option<ParentBased>,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AccessLog {
    #[serde(default, rename = "mode")]
    _mode: Option<Mode>,
    #[serde(default, rename = "format")]
    _format: Option<Format>,
    #[serde(default, rename = "filter")]
    _filter: Option<String>,
    provider: Option<LogProvider>,
}

#[derive(Debug, Deserialize)]
enum Mode {
    Enabled,
    Disabled,
}

#[derive(Debug, Deserialize)]
enum Format {
    #[serde(rename = "JSON")]
    Json,
    Text,
}

#[derive(Debug, Deserialize)]
struct ParentBased {
    #[serde(rename = "mode")]
    _mode: Mode,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TracingProvider {
    backend_ref: BackendRef,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogProvider {
    r#type: LogProviderType,
    backend_ref: Option<BackendRef>,
}

#[derive(Debug, Deserialize, PartialEq)]
enum LogProviderType {
    Stdout,
    #[serde(rename = "OTLP")]
    Otlp,
}

#[derive(Debug, Deserialize)]
struct BackendRef {
    #[serde(default, rename = "group")]
    _group: Option<String>,
    #[serde(default, rename = "kind")]
    _kind: Option<String>,
    #[serde(rename = "name")]
    _name: String,
    #[serde(default, rename = "namespace")]
    _namespace: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Fraction {
    numerator: i64,
    denominator: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribute {
    #[serde(rename = "name")]
    _name: String,
    r#type: AttributeType,
    literal_value: Option<String>,
    request_header: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize, PartialEq)]
enum AttributeType {
    Literal,
    RequestHeader,
}

pub(super) fn check(spec: &Spec, names: &mut Names, report: &mut Report<'_>) {
    target_ref::check(&spec.target_refs, &[TargetKind::Pod, TargetKind::Service], names, report);
    if spec.tracing.is_none() && spec.access_log.is_none() {
        report.error(
            "spec",
            "neither tracing nor accessLog is there",
            "add one of them, or remove the policy",
        );
    }
    check_parts(spec.tracing.as_ref(), spec.access_log.as_ref(), "spec", report);
    let remedy = "flows of the kernel path show in `weft observe` and in the metrics meanwhile";
    report.warning("kind", "TelemetryPolicy is not enforced yet: it needs the http path", remedy);
}

/// What MeshConfig has as well.
pub(super) fn check_parts(
    tracing: Option<&Tracing>,
    access_log: Option<&AccessLog>,
    field: &str,
    report: &mut Report<'_>,
) {
    if let Some(tracing) = tracing {
        tracing.check(&format!("{field}.tracing"), report);
    }
    if let Some(provider) = access_log.and_then(|log| log.provider.as_ref()) {
        let field = format!("{field}.accessLog.provider.backendRef");
        let otlp = provider.r#type == LogProviderType::Otlp;
        check::member(
            provider.backend_ref.is_some(),
            otlp,
            &field,
            &format!("{:?}", provider.r#type),
            report,
        );
        check_port(provider.backend_ref.as_ref(), &field, report);
    }
}

impl Tracing {
    fn check(&self, field: &str, report: &mut Report<'_>) {
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
