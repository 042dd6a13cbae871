//! AuthenticationPolicy: mutual TLS and JWT.

mod jwt;

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{MtlsMode, PolicyTarget};

use self::jwt::Jwt;
use super::{
    check, schema,
    target_ref::{self, TargetKind, TargetRef, Targets},
};
use crate::{
    finding::Report,
    object::{AuthenticationPolicy, Created, Key, Names},
};

/// Who is believed to be whom: mutual TLS between workloads, and tokens of end users.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["targetRefs"], "x-kubernetes-validations" = [
    schema::rule(
        "has(self.mtls) || has(self.jwt)",
        "neither mtls nor jwt is there: add one of them, or remove the policy",
    ),
    schema::rule_at(
        ".mtls.portLevel",
        "self.targetRefs.all(target, target.kind == 'Pod') || !has(self.mtls) || !has(self.mtls.portLevel) \
         || self.mtls.portLevel.size() == 0",
        "ports are the pod's, which a Service does not have: target kind: Pod",
    ),
]))]
pub(super) struct Spec {
    /// The pods or Services that the policy is for. A policy for pods has one target, with a selector; of several
    /// policies for one pod the more specific wins, field by field, and then the oldest.
    #[serde(default)]
    #[schemars(length(min = 1, max = 16), extend(
        "x-kubernetes-list-type" = "atomic",
        "x-kubernetes-validations" = schema::targets(&["Pod", "Service"]),
    ))]
    target_refs: Vec<TargetRef>,
    /// Mutual TLS that the targets take.
    mtls: Option<Mtls>,
    /// Whose tokens are believed. A request without a token passes: AuthorizationPolicy asks for one. A request with a
    /// bad token is answered with 401.
    #[schemars(length(max = 16), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
    ))]
    jwt: Option<Vec<Jwt>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule(
    "has(self.mode) || (has(self.portLevel) && self.portLevel.size() > 0)",
    "neither mode nor portLevel is there: add mode: Strict or Permissive",
)]))]
struct Mtls {
    /// What ports take: Strict mutual TLS only, Permissive plaintext too, Disabled plaintext only. Absent: as a less
    /// specific policy or the MeshConfig says. Probes of the kubelet pass in every mode.
    #[schemars(with = "Option<schema::MtlsMode>")]
    mode: Option<MtlsMode>,
    /// Ports with a mode of their own.
    #[serde(default)]
    #[schemars(length(max = 64), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["port"],
    ))]
    port_level: Vec<PortLevel>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct PortLevel {
    /// The container's port.
    #[schemars(range(min = 1, max = 65535))]
    port: i64,
    /// What this port takes.
    #[schemars(with = "schema::MtlsMode")]
    mode: MtlsMode,
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
    let providers = spec.jwt.as_ref().map(|jwt| Jwt::check_all(jwt, &key.name.namespace, names, report));
    let target = match targets? {
        Targets::Pods(selector) => PolicyTarget::Pods(selector),
        Targets::Services(names) => PolicyTarget::Services(names),
        Targets::Routes(_) => return None, // refused as a kind that is not allowed
    };
    let mtls = spec.mtls.as_ref();
    let mode = mtls.and_then(|mtls| mtls.mode);
    let ports = mtls.map(Mtls::ports).unwrap_or_default();
    let policy =
        AuthenticationPolicy { name: key.name.clone(), created, target, mode, ports, jwt: providers };
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
