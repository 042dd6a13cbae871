//! AuthenticationPolicy: mutual TLS and JWT. JWT is checked in full, and not enforced yet.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, de::IgnoredAny};
use weft_model::{MtlsMode, PolicyTarget};

use super::{
    check,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{AuthenticationPolicy, Created, Key, Names},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    target_refs: Vec<TargetRef>,
    mtls: Option<Mtls>,
    jwt: Option<Vec<Jwt>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mtls {
    mode: Option<MtlsMode>,
    #[serde(default)]
    port_level: Vec<PortLevel>,
}

#[derive(Debug, Deserialize)]
struct PortLevel {
    port: i64,
    mode: MtlsMode,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Jwt {
    name: String,
    issuer: String,
    #[serde(default, rename = "audiences")]
    _audiences: Vec<String>,
    jwks: Jwks,
    #[serde(default)]
    from_headers: Vec<FromHeader>,
    #[serde(default, rename = "forwardOriginalToken")]
    _forward_original_token: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Jwks {
    uri: Option<String>,
    inline: Option<String>,
    backend_ref: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct FromHeader {
    name: String,
    #[serde(default, rename = "prefix")]
    _prefix: Option<String>,
}

pub(super) fn check(
    spec: &Spec,
    key: &Key,
    created: Created,
    names: &mut Names,
    report: &mut Report<'_>,
) -> Option<AuthenticationPolicy> {
    let targets =
        target_ref::check(&spec.target_refs, &[TargetKind::Pod, TargetKind::Service], names, report);
    if spec.mtls.is_none() && spec.jwt.is_none() {
        report.error("spec", "neither mtls nor jwt is there", "add one of them, or remove the policy");
    }
    if let Some(mtls) = &spec.mtls {
        mtls.check(matches!(targets, Some(Targets::Services(_))), report);
    }
    let mut seen = HashSet::new();
    for (i, jwt) in spec.jwt.iter().flatten().enumerate() {
        let field = format!("spec.jwt[{i}]");
        if !seen.insert(&jwt.name) {
            report.error(
                &format!("{field}.name"),
                format!("two providers are named {}", jwt.name),
                "rename one",
            );
        }
        jwt.check(&field, report);
    }
    if spec.jwt.is_some() {
        let remedy = "tokens stay unread; hold connections by AuthorizationPolicy";
        report.warning("spec.jwt", "not enforced yet", remedy);
    }
    let target = match targets? {
        Targets::Pods(selector) => PolicyTarget::Pods(selector),
        Targets::Services(names) => PolicyTarget::Services(names),
        Targets::Routes(_) => return None, // refused as a kind that is not allowed
    };
    let mtls = spec.mtls.as_ref();
    let mode = mtls.and_then(|mtls| mtls.mode);
    let ports = mtls.map(Mtls::ports).unwrap_or_default();
    let policy = AuthenticationPolicy { name: key.name.clone(), created, target, mode, ports };
    (!report.refused()).then_some(policy)
}

impl Mtls {
    fn ports(&self) -> BTreeMap<u16, MtlsMode> {
        let port = |level: &PortLevel| Some((u16::try_from(level.port).ok()?, level.mode));
        self.port_level.iter().filter_map(port).collect()
    }

    fn check(&self, for_services: bool, report: &mut Report<'_>) {
        if self.mode.is_none() && self.port_level.is_empty() {
            report.error(
                "spec.mtls",
                "neither mode nor portLevel is there",
                "add mode: Strict or Permissive",
            );
        }
        if for_services && !self.port_level.is_empty() {
            let message = "ports are the pod's, which a Service does not have";
            report.error("spec.mtls.portLevel", message, "target kind: Pod");
        }
        let mut seen = HashSet::new();
        for (i, level) in self.port_level.iter().enumerate() {
            let field = format!("spec.mtls.portLevel[{i}].port");
            check::port(level.port, &field, report);
            if !seen.insert(level.port) {
                report.error(&field, format!("port {} is there twice", level.port), "remove one of the two");
            }
        }
    }
}

impl Jwt {
    fn check(&self, field: &str, report: &mut Report<'_>) {
        if self.issuer.is_empty() {
            report.error(&format!("{field}.issuer"), "is empty", "write the token's iss claim");
        }
        let Jwks { uri, inline, backend_ref } = &self.jwks;
        let sources = [uri.is_some(), inline.is_some(), backend_ref.is_some()];
        if sources.into_iter().filter(|there| *there).count() != 1 {
            let message = "exactly one of uri, inline and backendRef says where the keys are";
            report.error(&format!("{field}.jwks"), message, "keep one of the three");
        }
        if let Some(uri) = uri.as_ref().filter(|uri| !is_url(uri)) {
            let message = format!("\"{uri}\" is no http or https URL with a host");
            report.error(&format!("{field}.jwks.uri"), message, "write it like https://idp.example/jwks");
        }
        let is_json = |text: &String| serde_json::from_str::<IgnoredAny>(text).is_ok();
        if inline.as_ref().is_some_and(|text| !is_json(text)) {
            report.error(&format!("{field}.jwks.inline"), "is no JSON", "paste the provider's JWKS document");
        }
        for (i, header) in self.from_headers.iter().enumerate() {
            check::header(&header.name, &format!("{field}.fromHeaders[{i}].name"), report);
        }
    }
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', ':', '?', '#']).next().unwrap_or_default());
    host.is_some_and(|host| !host.is_empty()) && !text.contains(char::is_whitespace)
}
