//! Pods that start while the node has no agent.

use std::time::Duration;

use weft_tests::Agent;

use crate::stage::{Answer, Sandboxed, Stage};

/// A pod of the mesh, one outside, and one of the cluster's own; each was there before.
fn pods(stage: &Stage) -> [Sandboxed; 3] {
    ["web/front", "plain/app", "kube-system/dns"].map(|full| stage.pod(full))
}

#[track_caller]
fn starts(answer: &Answer) {
    assert!(answer.is_good, "{answer:?}");
    assert!(answer.took < Duration::from_secs(4), "at once: {answer:?}");
}

#[track_caller]
fn waits(answer: &Answer, pod: &str) {
    assert!(!answer.is_good, "{answer:?}");
    let error = answer.json();
    assert_eq!(error["code"], 11, "try again later: {error}");
    let message = error["msg"].as_str().unwrap();
    assert_eq!(message, format!("pod {pod} waits for the mesh: it must not start outside of it"));
    assert!(error["details"].as_str().unwrap().contains("kubectl -n weft-system get pods"), "{error}");
    assert!(answer.took < Duration::from_secs(10), "{answer:?}");
}

/// Gone with a word, and without one.
fn ends(agent: &mut Agent, by_itself: bool) {
    if by_itself {
        assert!(agent.stop().success());
    } else {
        agent.kill();
    }
}

#[test]
fn who_must_be_in_the_mesh_waits_and_everybody_else_starts() {
    let Some(stage) = Stage::open() else { return };
    let mut agent = stage.agent();
    for by_itself in [true, false] {
        ends(&mut agent, by_itself);
        let [front, app, dns] = pods(&stage);
        waits(&stage.call("ADD", &front), "web/front");
        starts(&stage.call("ADD", &app));
        starts(&stage.call("ADD", &dns));
        for command in ["DEL", "GC", "STATUS", "CHECK"] {
            starts(&stage.call(command, &front));
        }
        agent.start();
        stage.node.wait();
        // The kubelet tries again.
        stage.add(&front);
        assert!(stage.is_enforced("web/front"));
        for pod in [front, app, dns] {
            stage.call("DEL", &pod);
            stage.delete(&stage.object(&format!("{}/{}", pod.namespace, pod.name)));
            pod.pod.vanish();
        }
    }
}

#[test]
fn without_an_api_server_either_the_agents_last_word_counts() {
    let Some(mut stage) = Stage::open() else { return };
    let mut agent = stage.agent();
    let [front, app, dns] = pods(&stage);
    for pod in [&front, &app, &dns] {
        stage.add(pod);
    }
    let unheard = Sandboxed { uid: "00000000-0000-4000-8000-000000000000".into(), ..stage.pod("plain/new") };
    agent.stop();
    stage.kill_server();
    // Their sandboxes are made again, as after a reboot.
    waits(&stage.call("ADD", &front), "web/front");
    starts(&stage.call("ADD", &app));
    starts(&stage.call("ADD", &dns));
    waits(&stage.call("ADD", &unheard), "plain/new");
    // An agent that begins without an API server enrols those that it knows.
    agent.start();
    weft_tests::soon(|| stage.call("ADD", &front).is_good);
    assert!(stage.is_enforced("web/front"));
}

#[test]
fn an_agent_that_hangs_keeps_nobody_for_longer_than_ten_seconds() {
    let Some(stage) = Stage::open() else { return };
    let agent = stage.agent();
    let [front, app, dns] = pods(&stage);
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    let answers = [&front, &app, &dns].map(|pod| stage.call("ADD", pod));
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    waits(&answers[0], "web/front");
    assert!(answers[1].is_good && answers[1].took < Duration::from_secs(10), "{:?}", answers[1]);
    starts(&answers[2]);
}
