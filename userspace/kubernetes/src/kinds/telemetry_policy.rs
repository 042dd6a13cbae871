//! TelemetryPolicy: tracing and access log. Tracing is checked in full, and not enforced yet.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};
use weft_model::{LogFormat, PolicyTarget};

use super::{
    check, log_filter,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{Created, Key, LogSettings, Names, TelemetryPolicy},
};

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
    mode: Option<Mode>,
    provider: Option<TracingProvider>,
    sampling_rate: Option<Fraction>,
    #[serde(default, rename = "parentBasedSampling")]
    _parent_based_sampling: Option<ParentBased>,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AccessLog {
    mode: Option<Mode>,
    format: Option<Format>,
    filter: Option<String>,
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
