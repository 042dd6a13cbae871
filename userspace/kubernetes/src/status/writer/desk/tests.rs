use std::sync::Arc;

use serde_json::json;
use weft_model::{ObjectName, Snapshot};

use super::*;
use crate::{
    object::Kind,
    status::{
        Revision, Verdict,
        said::{Opinion, Said},
    },
};

fn key() -> Key {
    Key { kind: Kind::MeshConfig, name: ObjectName::new("", "default") }
}

/// The MeshConfig in this version, with this status, of which something is to be said.
fn judgement(version: &str, status: &Value, message: &str) -> Judgement {
    let object = json!({"metadata": {"uid": "u", "resourceVersion": version}, "status": status});
    let revision = Arc::new(Revision::of(Kind::MeshConfig, &object, "weft.dev/v1alpha1", 1));
    let verdict = Verdict::MeshConfig(Opinion::new(Said::no("Invalid", message)), "a.example".into());
    Judgement::new(&Arc::new(Snapshot::default()), [(key(), Arc::new(Judged { revision, verdict }))].into())
}

fn said(judgement: &Judgement) -> Value {
    let judged = &judgement.of[&key()];
    wanted(&key(), judged, &judged.revision.status, &Progress::default(), "now").unwrap()
}

fn stored(status: &Value, version: &str) -> Stored {
    Stored { status: status.clone(), resource_version: version.to_owned() }
}

/// Whether it is due at some time.
fn is_due(desk: &mut Desk, judgement: &Judgement) -> bool {
    desk.look(judgement, &Arc::default());
    let due = desk.next().is_some();
    desk.due.clear();
    desk.queued.clear();
    due
}

#[test]
fn what_was_written_is_not_due_before_the_watch_has_told_of_it_nor_then() {
    let mut desk = Desk::default();
    let first = judgement("1", &Value::Null, "a");
    assert!(is_due(&mut desk, &first));
    let status = said(&first);
    desk.written(&key(), &first.of[&key()], &status, stored(&status, "2"));
    assert!(!is_due(&mut desk, &judgement("1", &Value::Null, "a")), "the watch is behind");
    assert!(!is_due(&mut desk, &judgement("2", &status, "a")));
    assert!(is_due(&mut desk, &judgement("2", &status, "b")), "there is something else to say");
    assert!(is_due(&mut desk, &judgement("3", &Value::Null, "a")), "somebody has taken it away");
}

#[test]
fn a_server_that_keeps_less_is_not_told_again() {
    let mut desk = Desk::default();
    let first = judgement("1", &Value::Null, "a");
    let mut kept = said(&first);
    kept.as_object_mut().unwrap().remove("nodes");
    desk.written(&key(), &first.of[&key()], &said(&first), stored(&kept, "2"));
    assert!(!is_due(&mut desk, &judgement("2", &kept, "a")));
    assert!(is_due(&mut desk, &judgement("2", &kept, "b")));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_tried_again_in_a_minute_and_told_once() {
    let mut desk = Desk::default();
    let first = judgement("1", &Value::Null, "a");
    let (judged, status) = (&first.of[&key()], said(&first));
    assert!(desk.refused(&key(), judged, &status, stored(&Value::Null, "1")));
    assert!(desk.is_settled(&key(), judged, &stored(&Value::Null, "1"), &status));
    assert!(desk.take(Instant::now()).is_none());
    tokio::time::advance(REFUSED).await;
    assert_eq!(desk.take(Instant::now()), Some(key()));
    assert!(!desk.is_settled(&key(), judged, &stored(&Value::Null, "1"), &status));
    assert!(!desk.refused(&key(), judged, &status, stored(&Value::Null, "1")), "that is no news");
}

#[tokio::test(start_paused = true)]
async fn one_object_waits_its_second_and_keeps_nobody_else_waiting() {
    let mut desk = Desk::default();
    let first = judgement("1", &Value::Null, "a");
    let status = said(&first);
    desk.written(&key(), &first.of[&key()], &status, stored(&status, "2"));
    desk.look(&judgement("2", &status, "b"), &Arc::default());
    let other = Key { kind: Kind::TrafficPolicy, name: ObjectName::new("shop", "p") };
    desk.again(&other, Instant::now());
    assert_eq!(desk.take(Instant::now()), Some(other));
    assert_eq!(desk.take(Instant::now()), None);
    tokio::time::advance(PACE).await;
    assert_eq!(desk.take(Instant::now()), Some(key()));
}
