//! What agents of two releases leave to each other, and an agent to a proxy of another one: the snapshot, as JSON.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "../../../tests/releases/release.rs"]
mod release;

use std::{fs, path::Path};

use weft_kubernetes::{ManifestSource, Options};
use weft_model::{RouteSet, Snapshot};

/// Of objects that have something of everything.
fn snapshot() -> Snapshot {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/releases/everything.yaml");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(file, folder.path().join("everything.yaml")).unwrap();
    let options =
        Options { node: "n1".into(), last_good: None, mutual_tls: true, system: None, trust_domain: None };
    let (_source, latest) = ManifestSource::open(folder.path(), options).unwrap();
    let snapshot = latest.borrow().as_ref().clone();
    // What people read names the folder, and is for nobody else.
    Snapshot { problems: std::sync::Arc::default(), ..snapshot }
}

#[test]
fn a_snapshot_of_another_release_is_the_same_snapshot() {
    let snapshot = snapshot();
    let sets = snapshot.services.values().flat_map(|service| &service.ports);
    let sets: Vec<_> =
        sets.filter_map(|port| port.routing.as_ref()).map(|routing| &routing.producer).collect();
    for (what, found) in [
        ("HTTP", sets.iter().any(|set| matches!(set, RouteSet::Http(_)))),
        ("gRPC", sets.iter().any(|set| matches!(set, RouteSet::Grpc(_)))),
        ("TLS", sets.iter().any(|set| matches!(set, RouteSet::Tls(_)))),
        ("policies", snapshot.policies.values().any(|policy| policy.rules.iter().any(|rule| rule.l7))),
        ("access logs", !snapshot.access_logs.is_empty()),
        ("modes", !snapshot.mtls.pods.is_empty()),
        ("routes to look at", snapshot.routes.len() >= 4),
    ] {
        assert!(found, "there is nothing of {what} in it");
    }
    release::agrees("snapshot.json", &snapshot, FIXED);
}

/// Objects whose keys are others' names, or that are empty.
const FIXED: &[&str] =
    &["labels", "consumers", "jwt", "jwks", "access_logs", "pods", "routes", "generations"];
