//! What becomes of pods: labels, sandboxes and addresses come and go.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weft_tests::{Running, Server, eventually, soon};

use crate::stage::{Sandboxed, Stage, from_front};

fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut byte = [0];
    stream.write_all(b"!").and_then(|()| stream.read_exact(&mut byte)).is_ok() && byte == *b"!"
}

/// A pod that lets nobody in but `web/front`, and its server.
fn guarded(stage: &Stage) -> (Sandboxed, Server) {
    let api = stage.pod("shop/api");
    stage.add(&api);
    stage.protect("shop/api", "ALLOW", &from_front());
    let server = api.pod.serve_name(8080, "api");
    (api, server)
}

/// A process of the pod, where its kubelet would put it; the path of its namespace.
fn process(stage: &Stage, pod: &Sandboxed) -> (Running, String) {
    let process = pod.pod.spawn(&["sleep", "1000"]);
    let group = stage.node.cgroup().join("kubepods/besteffort").join(format!("pod{}", pod.uid)).join("pause");
    fs::create_dir_all(&group).unwrap();
    let id = process.id();
    // By then it has become what it was to be.
    soon(|| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.trim() == "sleep"));
    fs::write(group.join("cgroup.procs"), id.to_string()).unwrap();
    (process, format!("/proc/{id}/ns/net"))
}

#[test]
fn labels_enrol_and_withdraw_a_running_pod_and_cut_nothing() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let [client, server] = ["plain/client", "plain/server"].map(|full| stage.pod(full));
    let held: Vec<_> = [&client, &server]
        .map(|pod| {
            stage.runs(pod, &pod.pod.ip().to_string());
            process(&stage, pod)
        })
        .into();
    let _server = server.pod.serve_echo(8080);
    let mut streams = vec![client.pod.tcp_connect(server.pod.addr(8080)).unwrap()];
    for round in 0..2 {
        stage.namespace("plain", &json!({"weft.dev/mesh": "enabled"}));
        soon(|| stage.is_enforced("plain/client") && stage.is_enforced("plain/server"));
        streams.push(client.pod.tcp_connect(server.pod.addr(8080)).unwrap());
        assert!(streams.iter_mut().all(echoes), "round {round}: enrolled");
        stage.namespace("plain", &json!({"weft.dev/mesh": "disabled"}));
        soon(|| stage.status("plain/client").is_none() && stage.status("plain/server").is_none());
        streams.push(client.pod.tcp_connect(server.pod.addr(8080)).unwrap());
        assert!(streams.iter_mut().all(echoes), "round {round}: withdrawn");
    }
    drop(held);
}

#[test]
fn a_pod_is_where_its_runtime_says_until_its_process_is_there_and_loses_nothing_by_that() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let [front, api] = ["web/front", "shop/api"].map(|full| stage.pod(full));
    for pod in [&front, &api] {
        stage.add(pod);
    }
    stage.protect("shop/api", "ALLOW", &from_front());
    let _server = api.pod.serve_echo(8080);
    let mut stream = front.pod.tcp_connect(api.pod.addr(8080)).unwrap();
    assert!(echoes(&mut stream));
    let netns = |full: &str| stage.status(full).unwrap()["netns"].as_str().unwrap().to_owned();
    assert_eq!(netns("shop/api"), api.pod.netns_path().display().to_string());
    let (held, path) = process(&stage, &api);
    soon(|| netns("shop/api") == path);
    assert!(echoes(&mut stream) && stage.is_enforced("shop/api"));
    // The kubelet tells of its addresses: nothing changes.
    stage.runs(&api, &api.pod.ip().to_string());
    stage.node.wait();
    assert!(echoes(&mut stream));
    assert!(echoes(&mut front.pod.tcp_connect(api.pod.addr(8080)).unwrap()));
    drop(held);
}

#[test]
fn a_sandbox_that_is_made_again_is_under_policy_from_its_first_packet_on_too() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let (api, _server) = guarded(&stage);
    let first = stage.pod("web/cron");
    stage.add(&first);
    stage.runs(&first, &first.pod.ip().to_string());
    let (held, path) = process(&stage, &first);
    soon(|| stage.status("web/cron").is_some_and(|pod| pod["netns"] == path.as_str()));
    // The old sandbox is still there when the new one is made, and the kubelet tells of the old address.
    let pod = stage.netns("web/cron2", None);
    let second = Sandboxed {
        pod,
        sandbox: "sandbox-2".into(),
        namespace: "web".into(),
        name: "cron".into(),
        uid: first.uid.clone(),
    };
    stage.add(&second);
    let refused = second.pod.ask(api.pod.addr(8080)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    let status = stage.status("web/cron").unwrap();
    assert_eq!(
        (&status["netns"], status["ips"][0].as_str()),
        (&json!(second.pod.netns_path()), Some(&*second.pod.ip().to_string()))
    );
    // What the runtime says of the old one is nothing to the new one.
    assert!(stage.call("DEL", &first).is_good);
    drop(held);
    stage.node.wait();
    let refused = second.pod.ask(api.pod.addr(8080)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
}

#[test]
fn an_address_that_is_given_on_is_the_new_pods() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let (api, _server) = guarded(&stage);
    let ip = "10.77.1.9";
    let front = stage.pod_with("web/front", Some(ip), |_| {});
    stage.add(&front);
    stage.runs(&front, ip);
    assert_eq!(front.pod.ask(api.pod.addr(8080)).unwrap(), "api");
    // The API server has the pod that had it, with the address, for longer than it runs.
    assert!(stage.call("DEL", &front).is_good);
    front.pod.vanish();
    let cron = stage.pod_with("web/cron", Some(ip), |_| {});
    stage.add(&cron);
    let refused = cron.pod.ask(api.pod.addr(8080)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "it is not whoever had the address: {refused}");
    // Nor do others take it for that one.
    stage.protect("web/cron", "ALLOW", &json!([]));
    let _server = cron.pod.serve_name(8080, "cron");
    assert!(api.pod.ask(cron.pod.addr(8080)).is_err());
}

#[test]
fn jobs_that_are_done_and_pods_of_the_host_are_in_nobodys_way() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let ip = "10.77.1.10";
    let job = stage.pod_with("web/job", Some(ip), |_| {});
    stage.add(&job);
    assert!(stage.is_enforced("web/job"));
    job.pod.vanish();
    let mut done = stage.object("web/job");
    done["status"] = json!({"phase": "Succeeded", "podIP": ip, "podIPs": [{"ip": ip}]});
    stage.apply(&done);
    eventually(Duration::from_secs(10), || stage.status("web/job").is_none());
    let next = stage.pod_with("web/front", Some(ip), |_| {});
    stage.add(&next);
    assert!(stage.is_enforced("web/front"));
    // On the host's network: nobody calls the plugin for it, and it is not enrolled, whatever its namespace says.
    let mut host: Value = stage.object("web/agent");
    host["spec"]["hostNetwork"] = true.into();
    host["status"] =
        json!({"phase": "Running", "podIP": "10.77.255.254", "podIPs": [{"ip": "10.77.255.254"}]});
    stage.apply(&host);
    let workload = || {
        let all = stage.node.weft_json(&["get", "workloads"]);
        all.as_array().unwrap().iter().find(|one| one["name"] == "agent").cloned()
    };
    soon(|| workload().is_some());
    assert_eq!(workload().unwrap()["enrolled"], false);
}

#[test]
fn a_static_pod_is_enrolled_by_the_name_that_its_kubelet_knows_it_by() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    let hash = "0b7c2a1d5e6f47788990aabbccddeeff";
    let mut pod = stage.pod_with("web/static", None, |object| {
        object["metadata"]["annotations"] =
            json!({"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash});
    });
    pod.uid = hash.into();
    stage.add(&pod);
    assert!(stage.is_enforced("web/static"));
}

#[test]
fn an_agent_that_begins_anew_knows_what_the_runtime_has_told_the_last_one() {
    let Some(stage) = Stage::open() else { return };
    let mut agent = stage.agent();
    let (api, _server) = guarded(&stage);
    // Neither has a process that could be found, nor an address in its object.
    let cron = stage.pod("web/cron");
    stage.add(&cron);
    agent.restart();
    for _ in 0..20 {
        let refused = cron.pod.ask(api.pod.addr(8080)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
    }
    assert!(stage.is_enforced("web/cron") && stage.is_enforced("shop/api"));
}

#[test]
fn an_agent_that_is_killed_right_after_a_pod_was_added_is_missed_by_nobody() {
    let Some(mut stage) = Stage::open() else { return };
    let mut agent = stage.agent();
    let (api, _server) = guarded(&stage);
    for server_is_there in [true, false] {
        let cron = stage.pod(if server_is_there { "web/cron-1" } else { "web/cron-2" });
        stage.add(&cron);
        agent.kill();
        let refused = || cron.pod.ask(api.pod.addr(8080)).unwrap_err().kind();
        assert_eq!(refused(), ErrorKind::PermissionDenied, "the kernel goes on");
        if !server_is_there {
            stage.kill_server();
        }
        agent.start();
        let name = format!("web/{}", cron.name);
        // Not for a moment it is let go of.
        soon(|| {
            assert_eq!(refused(), ErrorKind::PermissionDenied);
            stage.is_known(&name)
        });
        for _ in 0..50 {
            assert_eq!(refused(), ErrorKind::PermissionDenied);
        }
        soon(|| stage.is_known(&name));
    }
}

#[test]
fn a_pod_that_waits_for_an_agent_that_is_replaced_starts_under_the_next_one_and_not_before() {
    let Some(stage) = Stage::open() else { return };
    let mut agent = stage.agent();
    let (api, _server) = guarded(&stage);
    let cron = stage.pod("web/cron");
    // Its question is heard by an agent that does not come to answer it.
    agent.signal(Signal::SIGSTOP);
    let answer = thread::scope(|scope| {
        let asked = scope.spawn(|| stage.call("ADD", &cron));
        thread::sleep(Duration::from_millis(500));
        assert!(!asked.is_finished());
        agent.kill();
        agent.start();
        asked.join().unwrap()
    });
    assert!(answer.took < Duration::from_secs(10), "{answer:?}");
    if answer.is_good {
        assert!(stage.is_enforced("web/cron"), "{answer:?}");
    } else {
        assert_eq!(answer.json()["code"], 11, "the kubelet tries again: {answer:?}");
        soon(|| stage.call("ADD", &cron).is_good);
    }
    assert!(stage.is_enforced("web/cron"));
    assert_eq!(cron.pod.ask(api.pod.addr(8080)).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn after_a_cleanup_pods_start_as_if_there_had_never_been_a_mesh() {
    let Some(stage) = Stage::open() else { return };
    let mut agent = stage.agent();
    let pod = stage.pod("web/front");
    stage.add(&pod);
    agent.cleanup();
    let list = fs::read_to_string(stage.conf().join("10-net.conflist")).unwrap();
    assert_eq!(list, r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}]}"#);
    assert!(!stage.bin().join("weft-cni").exists() && !stage.kubeconfig().exists());
    assert!(!stage.node.state_dir().exists() && !stage.node.run_dir().exists(), "nothing is left");
    let names = |folder: std::path::PathBuf| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(names(stage.bin()).is_empty());
    assert_eq!(names(stage.conf()), ["10-net.conflist"]);
}
