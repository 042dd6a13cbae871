//! AuthenticationPolicy: mutual TLS and JWT.

mod jwt;

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use weft_model::{MtlsMode, PolicyTarget};

use self::jwt::Jwt;
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
