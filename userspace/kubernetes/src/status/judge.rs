//! Objects to what is to be said of them. Nothing is judged here a second time: refused is what could not be read, the
//! rest was noticed when the snapshot was built.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};
use weft_model::{ObjectName, ParentStatus, RouteName, RouteReason, RouteStatus, Severity, Snapshot};

use super::{
    Judged, Judgement, Revision, Verdict,
    judgement::Entry,
    said::{Opinion, Said},
};
use crate::{
    build::{Meaning, Notice},
    catalog::Catalog,
    finding::Finding,
    object::{Key, Kind, Object},
};

/// What was found out about all objects.
pub(crate) struct Judge<'a> {
    catalog: &'a Catalog,
    notices: HashMap<&'a Key, Vec<&'a Notice>>,
    routes: &'a BTreeMap<RouteName, Arc<RouteStatus>>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        catalog: &'a Catalog,
        notices: impl Iterator<Item = &'a Notice>,
        routes: &'a BTreeMap<RouteName, Arc<RouteStatus>>,
    ) -> Self {
        let mut by_key: HashMap<_, Vec<_>> = HashMap::new();
        for notice in notices {
            by_key.entry(&notice.key).or_default().push(notice);
        }
        Self { catalog, notices: by_key, routes }
    }

    /// All that is to be said of the objects of these `revisions`.
    pub(crate) fn all(
        &self,
        revisions: &BTreeMap<Key, Arc<Revision>>,
        snapshot: &Arc<Snapshot>,
        before: &Judgement,
    ) -> Judgement {
        let judged = revisions.iter().filter_map(|(key, revision)| {
            let verdict = self.verdict(key, revision, &snapshot.trust_domain)?;
            let judged = Judged { revision: Arc::clone(revision), verdict };
            let same = before.of.get(key).filter(|known| ***known == judged).cloned();
            Some((key.clone(), same.unwrap_or_else(|| Arc::new(judged))))
        });
        Judgement::new(snapshot, judged.collect())
    }

    /// `None` for an object that is nobody's business here.
    fn verdict(&self, key: &Key, revision: &Revision, trust_domain: &Arc<str>) -> Option<Verdict> {
        Some(match (key.kind, key.route()) {
            (_, Some(route)) => Verdict::Parents(self.parents(key, &route, revision)),
            (Kind::MeshConfig, _) => Verdict::MeshConfig(self.mesh_config(key), Arc::clone(trust_domain)),
            (Kind::XMesh, _) => Verdict::XMesh(self.x_mesh(key)?),
            _ => Verdict::Ancestors(self.ancestors(key, revision)),
        })
    }

    /// Other kinds of parents are for other controllers.
    fn parents(&self, key: &Key, name: &RouteName, revision: &Revision) -> Vec<Entry> {
        let status = self.routes.get(name);
        let references = revision.references.iter().enumerate();
        let services = references.filter(|(_, reference)| {
            reference["kind"] == "Service" && reference.get("group").is_some_and(|group| group == "")
        });
        let entry = |(i, reference): (usize, &Value)| {
            let parent = status.and_then(|status| parent_status(status, &name.name.namespace, reference));
            let opinion = match parent {
                Some(parent) => {
                    let resolved = Some((&parent.resolved).into());
                    Opinion { resolved, ..Opinion::new((&parent.accepted).into()) }
                }
                None => self.passed_over(key, i),
            };
            Entry { reference: reference.clone(), opinion }
        };
        services.map(entry).collect()
    }

    /// A Service that the route was not attached to, in the words of whoever has read it.
    fn passed_over(&self, key: &Key, at: usize) -> Opinion {
        let field = format!("spec.parentRefs[{at}]");
        let (findings, _) = self.catalog.findings(key);
        let why = findings.iter().find(|finding| finding.field == field);
        let message = why.map_or_else(|| "the route is not attached to it".to_owned(), words);
        Opinion::new(Said::no(&RouteReason::UnsupportedValue.to_string(), message))
    }

    fn ancestors(&self, key: &Key, revision: &Revision) -> Vec<Entry> {
        let namespace = &key.name.namespace;
        let references = revision.references.iter().enumerate();
        let named = references.filter_map(|(i, target)| Some((i, ancestor(namespace, target)?)));
        let mut entries: Vec<Entry> = Vec::new();
        for (i, reference) in named.take(MOST_ANCESTORS) {
            if entries.iter().all(|entry| entry.reference != reference) {
                entries.push(Entry { reference, opinion: self.target(key, i) });
            }
        }
        if entries.is_empty() {
            entries.push(Entry { reference: of_namespace(namespace), opinion: self.target(key, 0) });
        }
        entries
    }

    /// What is to be said of the target at this place of a policy.
    fn target(&self, key: &Key, at: usize) -> Opinion {
        if let Some(refusal) = self.refusal(key) {
            return Opinion::new(Said::no("Invalid", refusal));
        }
        let field = format!("spec.targetRefs[{at}]");
        let notices = || self.notices.get(key).into_iter().flatten();
        let here = |meaning| {
            let mut here = notices().filter(|notice| notice.meaning == meaning);
            here.find(|notice| notice.finding.field == field || notice.finding.field == "spec.targetRefs")
        };
        if let Some(missing) = here(Meaning::TargetNotFound) {
            return Opinion::new(Said::no("TargetNotFound", words(&missing.finding)));
        }
        if let Some(lost) = here(Meaning::Conflicted) {
            let Finding { message, remedy, .. } = &lost.finding;
            let message = message.strip_prefix(Notice::CONFLICTED).unwrap_or(message);
            return Opinion::new(Said::no("Conflicted", format!("{message}: {remedy}")));
        }
        let elsewhere =
            |finding: &Finding| finding.field.starts_with("spec.targetRefs[") && finding.field != field;
        let from_others =
            notices().filter(|notice| notice.meaning == Meaning::Partly && !elsewhere(&notice.finding));
        let read = self.catalog.findings(key).0.iter();
        let partly = read.chain(from_others.map(|notice| &notice.finding)).map(words);
        Opinion { partly: partly.collect(), ..Opinion::new(Said::yes("Accepted")) }
    }

    fn mesh_config(&self, key: &Key) -> Opinion {
        if let Some(refusal) = self.refusal(key) {
            return Opinion::new(Said::no("Invalid", refusal));
        }
        let read = self.catalog.findings(key).0.iter();
        let from_others = self.notices.get(key).into_iter().flatten().map(|notice| &notice.finding);
        let partly = read.chain(from_others).map(words);
        Opinion { partly: partly.collect(), ..Opinion::new(Said::yes("Accepted")) }
    }

    /// `None` for a mesh that is not ours. Of those nothing is wrong.
    fn x_mesh(&self, key: &Key) -> Option<Opinion> {
        if let Some(refusal) = self.refusal(key) {
            return Some(Opinion::new(Said::no("InvalidParameters", refusal)));
        }
        let Some(Object::XMesh(mesh)) = self.catalog.in_force(key) else { return None };
        let settings = Key { kind: Kind::MeshConfig, name: ObjectName::new("", "default") };
        let accepted = if mesh.has_parameters && self.catalog.in_force(&settings).is_none() {
            let message =
                "spec.parametersRef: there is no MeshConfig default: add it, or leave parametersRef out";
            Said::no("InvalidParameters", message)
        } else {
            Said::yes("Accepted")
        };
        mesh.ours.then(|| Opinion::new(accepted))
    }

    /// Why the newest version of an object is not used.
    fn refusal(&self, key: &Key) -> Option<String> {
        let (findings, refused) = self.catalog.findings(key);
        if !refused {
            return None;
        }
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
        let mut all: Vec<_> = errors.map(words).collect();
        if self.catalog.in_force(key).is_some() {
            all.push("its last good version stays in force".to_owned());
        }
        Some(all.join("; "))
    }
}

/// What became of a route at the parent that `reference` names.
fn parent_status<'s>(
    status: &'s RouteStatus,
    namespace: &str,
    reference: &Value,
) -> Option<&'s ParentStatus> {
    let text = |field: &str| reference.get(field).and_then(Value::as_str);
    let is = |parent: &&ParentStatus| {
        let service = parent.service.as_ref().is_some_and(|service| {
            Some(&*service.name) == text("name")
                && *service.namespace == *text("namespace").unwrap_or(namespace)
        });
        let port = parent.port.map(i64::from) == reference.get("port").and_then(Value::as_i64);
        service && port && parent.section.as_deref() == text("sectionName")
    };
    // Of a route that cannot be read there is one opinion, whatever it names.
    let refused = status
        .parents
        .first()
        .filter(|parent| parent.service.is_none() || UNREAD.contains(&parent.accepted.reason));
    status.parents.iter().find(is).or(refused)
}

/// The target of a policy as an ancestor; pods that a selector names are shown by their namespace. `None` where it cannot be
/// told what is meant.
fn ancestor(namespace: &str, target: &Value) -> Option<Value> {
    let text = |field: &str| target.get(field).and_then(Value::as_str).filter(|text| text.len() <= 253);
    let kind = text("kind")?;
    if kind == "Pod" {
        return Some(of_namespace(namespace));
    }
    let group = if kind == "Service" { "" } else { text("group").unwrap_or("gateway.networking.k8s.io") };
    let mut ancestor = json!({"group": group, "kind": kind, "namespace": namespace, "name": text("name")?});
    if let Some(section) = text("sectionName") {
        ancestor["sectionName"] = section.into();
    }
    Some(ancestor)
}

fn of_namespace(name: &str) -> Value {
    json!({"group": "", "kind": "Namespace", "name": name})
}

/// A finding in one line.
fn words(finding: &Finding) -> String {
    let Finding { field, message, remedy, .. } = finding;
    [field, message, remedy]
        .into_iter()
        .filter(|part| !part.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(": ")
}

/// As the CRDs have it.
const MOST_ANCESTORS: usize = 16;
/// Reasons for which a route is refused as a whole.
const UNREAD: [RouteReason; 2] = [RouteReason::UnsupportedValue, RouteReason::IncompatibleFilters];

#[cfg(test)]
mod tests;
