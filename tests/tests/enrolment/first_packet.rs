//! The first packet of a new pod is under policy.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use weft_tests::{packet::Sniffer, soon, throughout};

use crate::stage::{Stage, from_front, previous};

#[test]
fn the_first_packet_that_a_new_pod_sends_is_under_policy() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let api = stage.pod("shop/api");
    stage.add(&api);
    let _server = api.pod.serve_name(8080, "api");
    stage.protect("shop/api", "ALLOW", &from_front());
    let sniffer = Sniffer::new(&api.pod, api.pod.ip().into()).unwrap();
    for round in 0..10 {
        let cron = stage.pod(&format!("web/cron-{round}"));
        stage.add(&cron);
        // The pod's very first system call.
        let refused = cron.pod.ask(api.pod.addr(8080)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "in the kernel, before a packet: {refused}");
        let seen =
            sniffer.wait(Duration::from_millis(100), |segment| segment.source.ip() == cron.pod.ip()).unwrap();
        assert_eq!(seen, None, "round {round}");
        // And what it may, it may at once.
        let front = stage.pod(&format!("web/front-{round}"));
        stage.add(&front);
        assert_eq!(front.pod.ask(api.pod.addr(8080)).unwrap(), "api", "round {round}");
    }
    // Without the plugin the agent hears of a pod's addresses when they have long been in use.
    let early = stage.pod("web/cron-early");
    let _ = early.pod.ask(api.pod.addr(8080));
    let seen = sniffer.wait(Duration::from_secs(5), |segment| segment.source.ip() == early.pod.ip()).unwrap();
    assert!(seen.is_some(), "the capture sees what there is");
}

#[test]
fn the_first_packet_that_a_new_pod_gets_is_under_policy() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    stage.protect("shop/db", "ALLOW", &from_front());
    let stranger = stage.netns("plain/stranger", None);
    for (round, with_plugin) in [(0, true), (1, true), (2, true), (3, false)] {
        let db = stage.pod(&format!("shop/db-{round}"));
        let (stop, answered, tries) =
            (Arc::new(AtomicBool::new(false)), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            // It knocks all the time, from before the pod is there.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = stranger.ask(db.pod.addr(8080));
                    tries.fetch_add(1, Ordering::Relaxed);
                    answered.fetch_add(u32::from(answer.is_ok()), Ordering::Relaxed);
                }
            });
            soon(|| tries.load(Ordering::Relaxed) > 10);
            if with_plugin {
                stage.add(&db);
            }
            let _server = db.pod.serve_name(8080, "db");
            let before = tries.load(Ordering::Relaxed);
            soon(|| tries.load(Ordering::Relaxed) > before + 50);
            stop.store(true, Ordering::Relaxed);
        });
        let answered = answered.into_inner();
        assert_eq!(answered == 0, with_plugin, "round {round}: {answered} answered");
    }
}

#[test]
fn the_result_of_the_plugins_before_it_is_passed_on_as_it_came() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    for full in ["web/front", "plain/app", "kube-system/dns"] {
        let pod = stage.pod(full);
        let answer = stage.call("ADD", &pod);
        assert!(answer.is_good, "{answer:?}");
        assert_eq!(answer.json(), previous(&pod.pod));
        assert_eq!(stage.is_enforced(full), full != "plain/app", "{full}");
        assert!(stage.call("CHECK", &pod).is_good);
        for command in ["STATUS", "GC", "DEL"] {
            let answer = stage.call(command, &pod);
            assert!(answer.is_good && answer.text.is_empty(), "{answer:?}");
        }
    }
    let pod = stage.pod("web/front-2");
    let answer = stage.call("CHECK", &pod);
    assert!(!answer.is_good && answer.json()["code"] == 100, "it is enrolled and nowhere: {answer:?}");
}

#[test]
fn a_pod_that_the_api_server_tells_of_later_waits_for_that() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let mut late = stage.pod("web/late");
    // Under another UID the API server has never told of it.
    let uid = std::mem::replace(&mut late.uid, "00000000-0000-4000-8000-000000000000".into());
    let answer = stage.call("ADD", &late);
    assert_eq!(answer.json()["code"], 11, "{answer:?}");
    assert!(answer.took < Duration::from_secs(10), "{answer:?}");
    late.uid = uid;
    let object = stage.object("web/late");
    stage.delete(&object);
    thread::scope(|scope| {
        let adding = scope.spawn(|| {
            // The kubelet knows of it before the agent does.
            let again = stage.call("ADD", &late);
            assert!(!again.is_good, "that pod is gone");
        });
        adding.join().unwrap();
    });
    let next =
        stage.pod_with("web/late-2", None, |object| object["metadata"]["labels"] = json!({"app": "late"}));
    stage.add(&next);
    throughout(Duration::from_millis(300), || stage.is_enforced("web/late-2"));
}
