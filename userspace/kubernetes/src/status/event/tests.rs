use std::sync::Arc;

use serde_json::{Value, json};
use weft_model::ObjectName;

use super::*;
use crate::{
    object::Kind,
    status::{Revision, Verdict},
};

fn status(entries: &[(&str, &str)]) -> Value {
    let entry = |(reason, message): &(&str, &str)| {
        let accepted = if *reason == "Accepted" { "True" } else { "False" };
        let condition = json!({"type": "Accepted", "status": accepted, "reason": reason, "message": message});
        json!({"controllerName": "weft.dev/controller", "conditions": [condition, {"type": "Programmed", "status": "False"}]})
    };
    json!({"ancestors": entries.iter().map(entry).collect::<Vec<_>>()})
}

fn events(old: &Value, new: &Value) -> Vec<Event> {
    let key = Key { kind: Kind::TrafficPolicy, name: ObjectName::new("shop", "p") };
    let object = json!({"metadata": {"uid": "u-1"}});
    let revision = Arc::new(Revision::of(Kind::TrafficPolicy, &object, "weft.dev/v1alpha1", 2));
    Event::of(
        &key,
        &Judged { revision, verdict: Verdict::Ancestors(Vec::new()) },
        (old, new),
        "weft-controller-1",
    )
}

#[test]
fn a_rejection_is_told_once_in_the_words_of_the_status() {
    let (good, bad) = (status(&[("Accepted", "")]), status(&[("Invalid", "spec: wrong")]));
    let [event] = &events(&good, &bad)[..] else { panic!() };
    let object = &event.object;
    assert_eq!(
        (&object["type"], &object["reason"], &object["note"]),
        (&json!("Warning"), &json!("Invalid"), &json!("spec: wrong"))
    );
    assert_eq!(object["regarding"]["name"], "p");
    assert_eq!((&*event.namespace, &object["regarding"]["uid"]), ("shop", &json!("u-1")));
    assert_eq!(events(&bad, &bad), [], "it is told");
    assert_eq!(events(&bad, &good), [], "that is good news, which the status tells");
    assert_eq!(events(&bad, &status(&[("Invalid", "spec: otherwise")])).len(), 1);
    let name = |event: &Event| event.object["metadata"]["name"].clone();
    assert_eq!(name(event), name(&events(&Value::Null, &bad)[0]), "whoever tells it again finds it there");
}

#[test]
fn targets_that_are_rejected_alike_are_one_event_and_others_entries_are_not_ours() {
    let twice = status(&[("Invalid", "spec: wrong"), ("Invalid", "spec: wrong"), ("Accepted", "")]);
    assert_eq!(events(&Value::Null, &twice).len(), 1);
    let mut foreign = status(&[("Invalid", "spec: wrong")]);
    foreign["ancestors"][0]["controllerName"] = "a.b/c".into();
    assert_eq!(events(&Value::Null, &foreign), []);
}
