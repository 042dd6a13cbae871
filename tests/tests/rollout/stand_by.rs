//! Two agents of one node.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::signal::Signal;
use weft_tests::{Agent, Node, manifests, soon, text, wire::Wire};

use crate::{
    load::while_loaded,
    stage::{FAR, Stage, assert_sealed},
};

#[test]
fn agents_that_follow_each_other_fail_no_request_and_send_nothing_in_clear() {
    let Some(mut stage) = Stage::open() else { return };
    let wire = Wire::new(&stage.far);
    let (a, b) = (stage.a.clone(), stage.b.clone());
    let proxies = [a.proxy_pid(), b.proxy_pid()];
    stage.loaded(|of_a, of_b, load| {
        for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
            for (node, agent) in [(&a, &mut *of_a), (&b, &mut *of_b)] {
                let before = agent.pid();
                start_and_wait(agent, node);
                agent.hand_over(signal);
                node.wait();
                soon(|| node.weft(&["status"]).status.success());
                assert_ne!(agent.pid(), before);
                load.some_more();
            }
        }
    });
    assert_eq!([a.proxy_pid(), b.proxy_pid()], proxies, "the same proxies served all the time");
    assert_sealed(&stage, &wire);
}

#[test]
fn a_pod_that_the_next_agent_finds_by_another_path_loses_no_connection() {
    let Some(mut stage) = Stage::open() else { return };
    let Stage { of_b: agent, web, far, b, .. } = &mut stage;
    // As the runtime's path of a namespace, and that of the pod's first process.
    let first = far.netns_path();
    let other = b.state_dir().parent().expect("it is in the node's folder").join("netns-of-far");
    std::os::unix::fs::symlink(&first, &other).unwrap();
    while_loaded(web, far, |load| {
        for path in [&other, &first, &other, &first] {
            start_and_wait(agent, b);
            far.update(|manifest| manifest.netns.clone_from(path));
            b.wait();
            agent.hand_over(Signal::SIGTERM);
            b.wait();
            load.some_more();
        }
    });
}

#[test]
fn who_stands_by_is_ready_changes_nothing_and_goes_without_a_trace() {
    let Some(mut stage) = Stage::open() else { return };
    let a = stage.a.clone();
    // The kernel was asked about acceleration, which takes some programs for a moment.
    soon(|| stage.of_a.log().contains("same-node acceleration"));
    let before = a.traces();
    let kept = files(&a);
    start_and_wait(&mut stage.of_a, &a);
    assert_eq!(a.traces(), before, "it has put nothing into the kernel");
    let status = a.weft_json(&["status"]);
    assert!(stage.of_a.end_beside(Signal::SIGTERM).success());
    assert_eq!(files(&a), kept);
    assert_eq!(a.weft_json(&["status"])["enforcedVersion"], status["enforcedVersion"]);
    assert_eq!(stage.web.ask(FAR).unwrap(), "far");
}

#[test]
fn who_could_not_do_the_work_never_is_ready_and_the_agent_that_runs_goes_on() {
    let Some(mut stage) = Stage::open() else { return };
    let a = stage.a.clone();
    // As a version whose programs this kernel refuses.
    let powerless =
        ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-all"].map(str::to_owned);
    let socket = new_socket(&a);
    let probe = |question: &str| text(&a.weft_alone(&["probe", question, "--socket", &socket]));
    stage.of_a.start_beside(&powerless, &["--stand-by", "--probe-socket", &socket]);
    soon(|| probe("ready").contains("capabilities: missing"));
    assert!(probe("alive").contains("ok"));
    assert_eq!(a.weft_alone(&["probe", "ready", "--socket", &socket]).status.code(), Some(1));
    assert_eq!(stage.web.ask(FAR).unwrap(), "far");
    assert!(stage.of_a.end_beside(Signal::SIGTERM).success());
    assert!(a.weft(&["status"]).status.success());
}

#[test]
fn a_second_agent_that_is_not_told_to_stand_by_ends_at_once() {
    let Some(mut stage) = Stage::open() else { return };
    let refused = stage.a.refused_agent(&[], &["--cgroup", &stage.a.cgroup().display().to_string()]);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("stop it first"), "{}", text(&refused));
    stage.of_a.restart();
}

#[test]
fn the_next_agent_knows_what_has_changed_while_it_stood_by() {
    let Some(mut stage) = Stage::open() else { return };
    let a = stage.a.clone();
    start_and_wait(&mut stage.of_a, &a);
    let policy = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: near}}}], action: ALLOW, rules: [{sources: []}]}";
    a.apply("policy.yaml", &manifests::authorization_policy("shop/nobody", policy));
    a.wait();
    stage.of_a.hand_over(Signal::SIGKILL);
    a.wait();
    assert!(stage.web.ask(crate::stage::NEAR).is_err());
    a.remove("policy.yaml");
    a.wait();
    assert_eq!(stage.web.ask(crate::stage::NEAR).unwrap(), "near");
}

/// Starts an agent that stands by, and waits until it is ready.
pub(crate) fn start_and_wait(agent: &mut Agent, node: &Node) {
    let socket = new_socket(node);
    agent.start_beside(&[], &["--stand-by", "--probe-socket", &socket]);
    soon(|| node.weft_alone(&["probe", "ready", "--socket", &socket]).status.success());
}

/// Each pod of a DaemonSet has one of its own.
fn new_socket(node: &Node) -> String {
    static SOCKETS: AtomicU32 = AtomicU32::new(1);
    let folder = node.state_dir().parent().expect("it is in the node's folder").to_owned();
    folder.join(format!("probe-{}.sock", SOCKETS.fetch_add(1, Ordering::Relaxed))).display().to_string()
}

/// What the node's agents have in their folders, and when each file was written.
fn files(node: &Node) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut folders = vec![node.state_dir(), node.run_dir()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let known = entry.metadata().unwrap();
            if known.is_dir() {
                folders.push(entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with("proxy.log") {
                found.push((entry.path(), known.modified().unwrap()));
            }
        }
    }
    found.sort();
    found
}
