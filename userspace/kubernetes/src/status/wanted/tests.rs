use std::sync::Arc;

use serde_json::{Value, json};
use weft_model::{Generations, ObjectName, Progress};

use super::*;
use crate::{
    object::Kind,
    status::{Revision, judgement::Entry, said::Said},
};

const THEN: &str = "2026-11-27T10:00:00Z";
const NOW: &str = "2026-11-27T11:00:00Z";

fn key(kind: Kind) -> Key {
    Key { kind, name: ObjectName::new("shop", "p") }
}

fn judged(generation: i64, verdict: Verdict) -> Judged {
    let object = json!({"metadata": {"uid": "u", "resourceVersion": "7"}});
    let revision = Revision::of(Kind::TrafficPolicy, &object, "weft.dev/v1alpha1", generation);
    Judged { revision: Arc::new(revision), verdict }
}

fn entry(name: &str, accepted: Said) -> Entry {
    Entry { reference: json!({"kind": "Service", "name": name}), opinion: Opinion::new(accepted) }
}

/// Of three nodes, those that have generation `at` of TrafficPolicy shop/p in force.
fn progress(has: &[&str], at: i64) -> Progress {
    let all = ["a", "b", "c"].map(Arc::from);
    let generations = Generations::from([("TrafficPolicy shop/p".into(), at)]);
    let has = has.iter().map(|name| (*name).into()).collect();
    Progress {
        desired: all.clone().into(),
        ready: all.into(),
        in_force: vec![(Arc::new(generations), has)],
        ..Progress::default()
    }
}

fn policy(entries: Vec<Entry>, stored: &Value, progress: &Progress) -> Option<Value> {
    wanted(&key(Kind::TrafficPolicy), &judged(3, Verdict::Ancestors(entries)), stored, progress, NOW)
}

/// Status and reason of Accepted, then of Programmed, and the latter's message.
fn told(status: &Value, at: usize) -> [String; 3] {
    let conditions = &status["ancestors"][at]["conditions"];
    let word = |i: usize| {
        format!("{} {}", conditions[i]["status"].as_str().unwrap(), conditions[i]["reason"].as_str().unwrap())
    };
    assert_eq!((&conditions[0]["type"], &conditions[1]["type"]), (&json!("Accepted"), &json!("Programmed")));
    [word(0), word(1), conditions[1]["message"].as_str().unwrap().to_owned()]
}

#[test]
fn whoever_has_just_begun_to_lead_takes_nothing_back_before_each_node_could_have_told() {
    let entries = || vec![entry("web", Said::yes("Accepted"))];
    let stored = policy(entries(), &Value::Null, &progress(&["a", "b", "c"], 3)).unwrap();
    let young = |at| Progress { awaited: true, ..progress(&["a"], at) };
    assert_eq!(policy(entries(), &stored, &young(3)), None, "the others may have it, too");
    let settled = policy(entries(), &stored, &progress(&["a"], 3)).unwrap();
    assert_eq!(told(&settled, 0)[1], "False Reconciling");
    // Of another generation, or of an object that is not accepted any more, nothing is known.
    let older = policy(entries(), &Value::Null, &progress(&["a", "b", "c"], 3)).unwrap().to_string();
    let older =
        serde_json::from_str(&older.replace("\"observedGeneration\":3", "\"observedGeneration\":2")).unwrap();
    assert_eq!(told(&policy(entries(), &older, &young(3)).unwrap(), 0)[1], "False Reconciling");
    let refused = policy(vec![entry("web", Said::no("Invalid", "it"))], &stored, &young(3)).unwrap();
    assert_eq!(told(&refused, 0)[1], "False Invalid");
}

#[test]
fn an_object_is_programmed_when_all_nodes_have_its_generation() {
    let at = |progress: &Progress| {
        told(&policy(vec![entry("web", Said::yes("Accepted"))], &Value::Null, progress).unwrap(), 0)
    };
    let says = |progress, reason: &str, message: &str| {
        assert_eq!(at(&progress), ["True Accepted".to_owned(), reason.to_owned(), message.to_owned()]);
    };
    says(progress(&["a", "b", "c"], 3), "True Programmed", "3/3 nodes");
    says(progress(&["a", "b", "c"], 4), "True Programmed", "3/3 nodes");
    says(progress(&["a", "b", "c"], 2), "False Reconciling", "0/3 nodes");
    says(progress(&["a", "b"], 3), "False Reconciling", "2/3 nodes");
    let mut failing = progress(&["a", "b"], 3);
    failing.in_force.push((Arc::default(), ["c".into()].into()));
    failing.failing.insert("c".into(), "map weft_policy is full".into());
    says(failing, "False Reconciling", "2/3 nodes; c: map weft_policy is full");
    says(Progress::default(), "False Reconciling", "0/0 nodes");
}

#[test]
fn what_holds_otherwise_than_expected_is_programmed_in_part() {
    let mut partly = entry("web", Said::yes("Accepted"));
    partly.opinion.partly.push("spec: timeouts.connect has no effect".to_owned());
    let status = policy(vec![partly], &Value::Null, &progress(&["a", "b", "c"], 3)).unwrap();
    let message = "3/3 nodes; spec: timeouts.connect has no effect".to_owned();
    assert_eq!(
        told(&status, 0),
        ["True Accepted".to_owned(), "True PartiallyProgrammed".to_owned(), message]
    );
}

#[test]
fn what_is_not_accepted_is_not_programmed_and_says_why() {
    let entries = vec![
        entry("a", Said::no("Conflicted", "TrafficPolicy shop/o holds for Service shop/a already")),
        entry("b", Said::no("TargetNotFound", "there is no Service shop/b")),
        entry("c", Said::no("Invalid", "spec: wrong")),
    ];
    let status = policy(entries, &Value::Null, &progress(&["a", "b", "c"], 3)).unwrap();
    let [accepted, programmed, message] = told(&status, 0);
    assert_eq!((&*accepted, &*programmed), ("False Conflicted", "False Overridden"));
    assert!(message.contains("TrafficPolicy shop/o holds"));
    assert_eq!(told(&status, 1)[..2], ["False TargetNotFound".to_owned(), "False Reconciling".to_owned()]);
    assert_eq!(told(&status, 2)[..2], ["False Invalid".to_owned(), "False Invalid".to_owned()]);
}

#[test]
fn times_move_when_a_status_flips_and_with_nothing_else() {
    let all = progress(&["a", "b", "c"], 3);
    let first =
        policy(vec![entry("web", Said::yes("Accepted"))], &Value::Null, &progress(&["a"], 3)).unwrap();
    let mut stored: Value = serde_json::from_str(&first.to_string().replace(NOW, THEN)).unwrap();
    let status = policy(vec![entry("web", Said::yes("Accepted"))], &stored, &all).unwrap();
    let conditions = &status["ancestors"][0]["conditions"];
    assert_eq!(conditions[0]["lastTransitionTime"], THEN);
    assert_eq!(conditions[1]["lastTransitionTime"], NOW);
    assert_eq!(conditions[0]["observedGeneration"], 3);
    assert_eq!(
        policy(vec![entry("web", Said::yes("Accepted"))], &status, &all),
        None,
        "nothing is left to say"
    );
    stored["ancestors"][0]["conditions"][0]["observedGeneration"] = 4.into();
    assert_eq!(
        policy(vec![entry("web", Said::yes("Accepted"))], &stored, &all),
        None,
        "somebody has seen a newer one"
    );
}

#[test]
fn what_others_have_written_stays_and_what_we_said_of_former_targets_goes() {
    let foreign = json!({"ancestorRef": {"name": "x"}, "controllerName": "a.b/c", "conditions": []});
    let stale = json!({"ancestorRef": {"kind": "Service", "name": "gone"}, "controllerName": "weft.dev/controller", "conditions": []});
    let stored = json!({"ancestors": [stale, foreign], "more": 1});
    let status = policy(vec![entry("web", Said::yes("Accepted"))], &stored, &progress(&[], 3)).unwrap();
    let list = status["ancestors"].as_array().unwrap();
    assert_eq!((list.len(), &list[0], &status["more"]), (2, &foreign, &json!(1)));
    assert_eq!(list[1]["ancestorRef"]["name"], "web");
    // In whatever order: nobody has to be written for it.
    let turned = json!({"ancestors": [list[1], list[0]], "more": 1});
    assert_eq!(policy(vec![entry("web", Said::yes("Accepted"))], &turned, &progress(&[], 3)), None);
}

#[test]
fn a_route_that_is_only_for_gateways_is_left_alone() {
    let at = |stored: &Value| {
        wanted(
            &key(Kind::HttpRoute),
            &judged(1, Verdict::Parents(Vec::new())),
            stored,
            &Progress::default(),
            NOW,
        )
    };
    let foreign = json!({"parentRef": {"name": "edge"}, "controllerName": "a.b/c", "conditions": []});
    assert_eq!(at(&Value::Null), None);
    assert_eq!(at(&json!({"parents": [foreign]})), None);
    let ours =
        json!({"parentRef": {"name": "web"}, "controllerName": "weft.dev/controller", "conditions": []});
    assert_eq!(at(&json!({"parents": [ours, foreign]})), Some(json!({"parents": [foreign]})));
}

#[test]
fn no_more_entries_are_written_than_the_api_server_takes() {
    let foreign = json!({"ancestorRef": {"name": "x"}, "controllerName": "a.b/c", "conditions": []});
    let entries = (0..16).map(|i| entry(&format!("s{i}"), Said::yes("Accepted"))).collect();
    let status = policy(entries, &json!({"ancestors": [foreign]}), &progress(&[], 3)).unwrap();
    assert_eq!(status["ancestors"].as_array().unwrap().len(), 16);
}

#[test]
fn the_mesh_counts_its_nodes_and_names_what_it_can() {
    let opinion = || Opinion::new(Said::yes("Accepted"));
    let mut progress = progress(&["a", "b", "c"], 1);
    progress.ready.pop_last();
    let config = wanted(
        &key(Kind::MeshConfig),
        &judged(1, Verdict::MeshConfig(opinion(), "a.example".into())),
        &Value::Null,
        &progress,
        NOW,
    );
    let config = config.unwrap();
    assert_eq!(config["nodes"], json!({"desired": 3, "ready": 2}));
    assert_eq!(config["trustDomain"], "a.example");
    let mesh = || judged(1, Verdict::XMesh(opinion()));
    let status = wanted(&key(Kind::XMesh), &mesh(), &Value::Null, &progress, NOW).unwrap();
    assert_eq!(status["conditions"][1]["message"], "2/3 nodes");
    let features: Vec<_> =
        status["supportedFeatures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(
        features.is_sorted() && features.len() == 17 && features.contains(&"MeshConsumerRoute"),
        "{features:?}"
    );
    assert_eq!(wanted(&key(Kind::XMesh), &mesh(), &status, &progress, NOW), None);
}
