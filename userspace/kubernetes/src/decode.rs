//! One document to the objects it declares.

use std::sync::Arc;

use k8s_openapi::api::{core::v1 as api, discovery};
use serde::de::DeserializeOwned;
use weft_model::{ObjectName, RouteReason, Severity};

use crate::{
    core,
    document::{self, Fault, Node, Unknown, Value, nearest},
    finding::{Finding, Report},
    kinds,
    object::{Key, Kind, Names, Object},
    syntax,
};

/// What one document says.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// The objects whose kind and name could be read, broken ones included.
    pub(crate) declared: Vec<Arc<Declared>>,
    /// What could not be read as far as that, with what is known of the object's name.
    pub(crate) stray: Vec<(String, Finding)>,
}

/// An object as one document has it.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) key: Key,
    /// `None` when it is refused.
    pub(crate) object: Option<Object>,
    /// The line it begins at in its document.
    pub(crate) line: u32,
    pub(crate) findings: Vec<Finding>,
    /// Why a route is refused.
    pub(crate) refusal: Option<RouteReason>,
    /// Lines of the fields that later stages may complain about.
    places: Vec<(String, u32)>,
}

/// Reads one document.
pub(crate) fn decode(text: &str, names: &mut Names) -> Decoded {
    let mut decoded = Decoded::default();
    match document::load(text) {
        Ok(roots) => roots.iter().for_each(|root| item(root, names, &mut decoded)),
        Err(fault) => decoded.stray.push((String::new(), fault.into())),
    }
    decoded
}

/// Reads one object that an API server has.
pub(crate) fn decode_object(object: &serde_json::Value, names: &mut Names) -> Decoded {
    let mut decoded = Decoded::default();
    item(&Node::of_json(object), names, &mut decoded);
    decoded
}

/// The `apiVersion`s of `kind` that can be read, the best first.
pub(crate) fn versions(kind: Kind) -> &'static [&'static str] {
    KINDS.iter().find(|(known, _)| *known == kind).map_or(&[], |(_, versions)| versions)
}

impl Decoded {
    /// Whether every object in it can be in force.
    pub(crate) fn is_good(&self) -> bool {
        !self.is_unreadable() && self.declared.iter().all(|declared| declared.object.is_some())
    }

    /// Whether something in it may have been an object that can no longer be recognised.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.stray.iter().any(|(_, finding)| finding.severity == Severity::Error)
    }
}

impl Declared {
    /// The line of `field` in the document, as far as it is known.
    pub(crate) fn line_of(&self, field: &str) -> u32 {
        self.places.iter().find(|(place, _)| place == field).map_or(self.line, |(_, line)| *line)
    }
}

fn item(root: &Node<'_>, names: &mut Names, decoded: &mut Decoded) {
    let mut stray = |label: String, severity, line, field: &str, message: String, remedy: String| {
        decoded.stray.push((label, Finding { severity, field: field.into(), line, message, remedy }));
    };
    if !matches!(root.value, Value::Map(_)) {
        let remedy = "an object has apiVersion, kind and metadata";
        stray(String::new(), Severity::Error, root.line, "", "this is no object".into(), remedy.into());
        return;
    }
    let (version, kind) =
        (root.text("apiVersion").unwrap_or_default(), root.text("kind").unwrap_or_default());
    if let Some(Value::List(items)) =
        root.get("items").map(|items| &items.value).filter(|_| kind.ends_with("List"))
    {
        for root in items {
            item(root, names, decoded);
        }
        return;
    }
    let metadata = root.get("metadata");
    let name = metadata.and_then(|metadata| metadata.text("name")).unwrap_or_default();
    let namespace = metadata.and_then(|metadata| metadata.text("namespace"));
    let label = format!(
        "{kind} {}{}{name}",
        namespace.unwrap_or_default(),
        if namespace.is_some() { "/" } else { "" }
    );
    let (label, line) = (label.trim().to_owned(), root.line);
    if kind.is_empty() || version.is_empty() {
        let field = if kind.is_empty() { "kind" } else { "apiVersion" };
        stray(label, Severity::Error, line, field, "required, and not there".into(), format!("add {field}"));
        return;
    }
    let Some((kind, versions)) = KINDS.iter().find(|(known, _)| known.name() == kind) else {
        let (severity, message, remedy) = unknown_kind(version, kind);
        stray(label, severity, root.line_of("kind"), "kind", message, remedy);
        return;
    };
    if name.is_empty() {
        let (message, remedy) = ("required, and not there, or no string", "add metadata.name");
        let line = root.line_of("metadata.name");
        stray(label, Severity::Error, line, "metadata.name", message.into(), remedy.into());
        return;
    }
    let namespace = if kind.is_cluster_scoped() { "" } else { namespace.unwrap_or("default") };
    let key = Key { kind: *kind, name: ObjectName::new(names.share(namespace), name) };
    decoded.declared.push(Arc::new(declare(root, key, version, versions, names)));
}

fn declare(root: &Node<'_>, key: Key, version: &str, versions: &[&str], names: &mut Names) -> Declared {
    let mut report = Report::new(Some(root));
    if !versions.contains(&version) {
        let message = format!("{} is not of version {version}", key.kind.name());
        report.error("apiVersion", message, format!("write {}", versions.join(" or ")));
    }
    check_name(&key, root, &mut report);
    let object = if report.refused() { None } else { read(root, &key, names, &mut report) };
    let object = object.filter(|_| !report.refused());
    let places = object.as_ref().map(|object| places(object, root)).unwrap_or_default();
    let refusal = key.kind.route().and_then(|_| report.refusal());
    Declared { key, object, line: root.line, refusal, findings: report.into_findings(), places }
}

fn check_name(key: &Key, root: &Node<'_>, report: &mut Report<'_>) {
    let name = &key.name.name;
    let checked = match key.kind {
        Kind::Service | Kind::Namespace => syntax::dns_label(name),
        _ => syntax::dns_subdomain(name),
    };
    if let Err(why) = checked {
        report.error("metadata.name", format!("\"{name}\" {why}"), "rename the object");
    }
    let namespace = &key.name.namespace;
    if let Some(Err(why)) = (!namespace.is_empty()).then(|| syntax::dns_label(namespace)) {
        report.error("metadata.namespace", format!("\"{namespace}\" {why}"), "correct the namespace");
    }
    let placed = root.get("metadata").and_then(|metadata| metadata.get("namespace")).is_some();
    if key.kind.is_cluster_scoped() && placed {
        let message = format!("a {} is in no namespace", key.kind.name());
        report.warning("metadata.namespace", message, "remove metadata.namespace");
    }
}

fn read(root: &Node<'_>, key: &Key, names: &mut Names, report: &mut Report<'_>) -> Option<Object> {
    let name = &key.name;
    Some(match key.kind {
        Kind::Namespace => {
            let object: api::Namespace = core_object(root, report)?;
            core::object_meta(&object.metadata, report);
            Object::Namespace(core::namespace(&object).into())
        }
        Kind::Node => {
            let object: api::Node = core_object(root, report)?;
            core::object_meta(&object.metadata, report);
            Object::Node(core::node(&object, names).into())
        }
        Kind::ServiceAccount => {
            let object: api::ServiceAccount = core_object(root, report)?;
            core::object_meta(&object.metadata, report);
            Object::Noted
        }
        Kind::Service => {
            let object: api::Service = core_object(root, report)?;
            core::object_meta(&object.metadata, report);
            Object::Service(core::service(&object, name, names, report).into())
        }
        Kind::EndpointSlice => {
            let object: discovery::v1::EndpointSlice = core_object(root, report)?;
            core::object_meta(&object.metadata, report);
            core::endpoint_slice(&object, name, names, report)
                .map_or(Object::Noted, |slice| Object::EndpointSlice(slice.into()))
        }
        Kind::Pod => {
            let object: api::Pod = core_object(root, report)?;
            core::object_meta(&object.metadata, report);
            Object::Pod(core::pod(&object, name, names, report).into())
        }
        _ => return kinds::read(root, key, names, report),
    })
}

/// An object of Kubernetes' own kinds. An API server that is newer has fields that we do not know in each of them, which nobody
/// has to be told.
fn core_object<T: DeserializeOwned>(root: &Node<'_>, report: &mut Report<'_>) -> Option<T> {
    if root.is_of_a_file() { lenient_object(root, report) } else { object(root, report, |_, _| {}) }
}

/// An object of a kind that is not ours: newer versions may have fields that we do not know.
pub(crate) fn lenient_object<T: DeserializeOwned>(root: &Node<'_>, report: &mut Report<'_>) -> Option<T> {
    object(root, report, |report, unknown| {
        let remedy = unknown_remedy(&unknown, "it is skipped: remove it, or correct its name");
        let finding = unknown_finding(Severity::Warning, unknown, remedy);
        report.push(finding);
    })
}

/// An object of a kind whose every field we know.
pub(crate) fn strict_object<T: DeserializeOwned>(root: &Node<'_>, report: &mut Report<'_>) -> Option<T> {
    object(root, report, |report, unknown| {
        let remedy = unknown_remedy(&unknown, "remove it, or correct its name");
        let finding = unknown_finding(Severity::Error, unknown, remedy);
        report.push(finding);
    })
}

fn object<T: DeserializeOwned>(
    root: &Node<'_>,
    report: &mut Report<'_>,
    on_unknown: impl Fn(&mut Report<'_>, Unknown),
) -> Option<T> {
    let (value, unknown) = document::read(root).map_err(|fault: Fault| report.push(fault.into())).ok()?;
    for unknown in unknown {
        on_unknown(report, unknown);
    }
    Some(value)
}

fn unknown_remedy(unknown: &Unknown, otherwise: &str) -> String {
    unknown.nearest.map_or_else(|| otherwise.to_owned(), |nearest| format!("did you mean {nearest}?"))
}

fn unknown_finding(severity: Severity, unknown: Unknown, remedy: String) -> Finding {
    Finding { severity, field: unknown.field, line: unknown.line, message: "unknown field".into(), remedy }
}

fn unknown_kind(version: &str, kind: &str) -> (Severity, String, String) {
    let ours = KINDS.iter().filter(|(_, versions)| versions.contains(&version)).map(|(kind, _)| kind.name());
    let meant = nearest(kind, ours).filter(|_| !OTHER_CORE_KINDS.contains(&kind));
    match meant {
        Some(meant) => (
            Severity::Error,
            format!("there is no kind {kind} in {version}"),
            format!("did you mean {meant}?"),
        ),
        None if version.starts_with("weft.dev/") => {
            let remedy = "see the API reference for the kinds of weft.dev/v1alpha1";
            (Severity::Error, format!("there is no kind {kind} in {version}"), remedy.into())
        }
        None => {
            let message = format!("{kind} is ignored: weft has no use for it");
            (Severity::Warning, message, "nothing to do; keep it elsewhere to silence this".into())
        }
    }
}

fn places(object: &Object, root: &Node<'_>) -> Vec<(String, u32)> {
    let place = |field: String| (field.clone(), root.line_of(&field));
    match object {
        Object::Route(route) => route.fields().map(place).collect(),
        Object::TrafficPolicy(policy) => {
            let targets = policy.targets.iter().map(|target| target.field.clone());
            targets.chain(["kind".to_owned(), "spec".to_owned()]).map(place).collect()
        }
        Object::AuthorizationPolicy(_) | Object::AuthenticationPolicy(_) | Object::TelemetryPolicy(_) => {
            let each = (0..16).map(|i| format!("spec.targetRefs[{i}]"));
            each.chain(["spec.targetRefs".to_owned()]).map(place).collect()
        }
        _ => Vec::new(),
    }
}

const WEFT: &[&str] = &["weft.dev/v1alpha1"];
const KINDS: [(Kind, &[&str]); 17] = [
    (Kind::MeshConfig, WEFT),
    (Kind::Namespace, &["v1"]),
    (Kind::Node, &["v1"]),
    (Kind::ServiceAccount, &["v1"]),
    (Kind::Service, &["v1"]),
    (Kind::EndpointSlice, &["discovery.k8s.io/v1"]),
    (Kind::Pod, &["v1"]),
    (Kind::TcpRoute, &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"]),
    (Kind::HttpRoute, &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]),
    (Kind::GrpcRoute, &["gateway.networking.k8s.io/v1"]),
    (Kind::TlsRoute, &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"]),
    (Kind::ReferenceGrant, &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"]),
    (Kind::TrafficPolicy, WEFT),
    (Kind::AuthorizationPolicy, WEFT),
    (Kind::AuthenticationPolicy, WEFT),
    (Kind::TelemetryPolicy, WEFT),
    (Kind::XMesh, &["gateway.networking.x-k8s.io/v1alpha1"]),
];
/// Kinds of `v1` that are no misspelling of ours.
const OTHER_CORE_KINDS: [&str; 12] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Names, decode};

    #[test]
    fn no_part_of_a_manifest_is_a_panic() {
        let mut names = Names::default();
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut cuts = 0;
        for directory in ["good", "broken"] {
            for entry in fs::read_dir(tests.join(directory)).unwrap() {
                let text = fs::read_to_string(entry.unwrap().path()).unwrap();
                for at in (0..text.len()).step_by(7).filter(|at| text.is_char_boundary(*at)) {
                    decode(&text[..at], &mut names);
                    decode(&text[at..], &mut names);
                    cuts += 1;
                }
            }
        }
        assert!(cuts > 1000, "only {cuts} cuts were tried");
    }

    #[test]
    fn an_object_without_a_namespace_is_in_the_default_one() {
        let mut names = Names::default();
        let key = |text: &str, names: &mut Names| decode(text, names).declared[0].key.to_string();
        assert_eq!(key("{apiVersion: v1, kind: Pod, metadata: {name: a}}", &mut names), "Pod default/a");
        assert_eq!(key("{apiVersion: v1, kind: Node, metadata: {name: a}}", &mut names), "Node a");
    }
}
