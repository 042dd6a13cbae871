//! What an API server is known to refuse and to accept (`tests/admission`) is judged alike where there is none.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "admission/specs.rs"]
mod specs;

use std::fs;

use weft_kubernetes::analyze;
use weft_model::{Problem, Severity};

/// An absent group is the kind's own in a directory; an API server stores "", which is no route's.
const ABSENT_GROUP: &str = "{targetRefs: [{kind: HTTPRoute, name: web}], retry: {}}";

#[test]
fn a_directory_refuses_what_an_api_server_refuses() {
    let refused = specs::WRONG.iter().map(|(kind, spec, _)| (kind, spec, errors(kind, spec)));
    let let_in: Vec<_> = refused
        .filter(|(_, spec, errors)| errors.is_empty() != (**spec == ABSENT_GROUP))
        .map(|(kind, spec, errors)| format!("{kind} {spec}: {errors:?}"))
        .collect();
    assert!(let_in.is_empty(), "{}", let_in.join("\n"));
}

#[test]
fn a_directory_accepts_what_an_api_server_accepts() {
    for (kind, spec) in specs::GOOD {
        let errors = errors(kind, spec);
        assert!(errors.is_empty(), "{kind} {spec}: {errors:?}");
    }
}

fn errors(kind: &str, spec: &str) -> Vec<Problem> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("it.yaml");
    let metadata = if kind == "MeshConfig" { "{name: default}" } else { "{name: it, namespace: shop}" };
    let text = format!("apiVersion: weft.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n");
    fs::write(&path, text).unwrap();
    let mut problems = analyze(&[path]);
    problems.retain(|problem| problem.severity == Severity::Error);
    problems
}
