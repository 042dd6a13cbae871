//! Pods that run on this machine: real control groups, processes and namespaces, as a kubelet would make them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use serde_json::{Value, json};
use weft_model::{ObjectName, Snapshot};

use super::{
    agent::{Agent, Disk},
    api_server::ApiServer,
    objects::{namespace, pod},
};

/// The control groups of a node; they go with it.
struct Node(PathBuf);

/// A pod's first process, in a network namespace of its own; it ends when it is let go of.
struct Sandbox(Child);

impl Node {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = fields.into_iter().find(|fields| fields[2] == "cgroup2").expect("there is cgroup v2");
        let node = Self(Path::new(mount[1]).join(format!("weft-cluster-test-{}", std::process::id())));
        fs::create_dir(&node.0).expect("this runs as root");
        node
    }

    /// What a kubelet with the cgroupfs driver and its runtime do for a pod.
    fn run(&self, uid: &str, container: &str) -> Sandbox {
        let group = self.0.join("kubepods/besteffort").join(format!("pod{uid}")).join(container);
        fs::create_dir_all(&group).unwrap();
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        Sandbox(child)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        fn remove(group: &Path) {
            for entry in fs::read_dir(group).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    remove(&entry.path());
                }
            }
            // What is left of it shows who is still in there.
            let _ = fs::remove_dir(group);
        }
        remove(&self.0);
    }
}

impl Sandbox {
    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn web(snapshot: &Snapshot) -> Option<(bool, Option<PathBuf>)> {
    let pod = snapshot.workloads.get(&ObjectName::new("shop", "web"))?;
    Some((pod.enrolled, pod.netns.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pod_is_adopted_and_let_go_of_as_its_labels_say() {
    let server = ApiServer::start(&[]).await;
    let (disk, node) = (Disk::new(), Node::new());
    server.apply(&namespace("shop", &json!({}))).await;
    let mut object = pod("web", "n1", "10.1.0.9");
    object["metadata"]["annotations"] = json!({"weft.dev/netns": "/proc/1/ns/net"});
    server.apply(&object).await;
    let uid = server.list("v1", "Pod").await[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let first = node.run(&uid, "pause");
    let mut agent = Agent::with(&server, "admin", &node.0, &disk).await;
    let ours = first.netns();
    agent.until("it is found, not enrolled", |s| web(s) == Some((false, Some(ours.clone())))).await;
    let mesh = |value: &str| namespace("shop", &json!({"weft.dev/mesh": value}));
    server.apply(&mesh("enabled")).await;
    agent.until("it is enrolled with its namespace", |s| web(s) == Some((true, Some(ours.clone())))).await;
    let mut kept_out = object.clone();
    kept_out["metadata"]["labels"]["weft.dev/mesh"] = "disabled".into();
    server.apply(&kept_out).await;
    agent.until("its own label keeps it out", |s| web(s) == Some((false, Some(ours.clone())))).await;
    server.apply(&object).await;
    agent.until("it is in again", |s| web(s) == Some((true, Some(ours.clone())))).await;

    // Its sandbox is made again: the same UID, another namespace.
    drop(first);
    agent.until("the old one is gone", |s| web(s) == Some((true, None))).await;
    let second = node.run(&uid, "pause-2");
    let ours = second.netns();
    agent.until("the new one is found", |s| web(s) == Some((true, Some(ours.clone())))).await;

    // The next agent begins without an API server, and finds it by its UID.
    agent.stop().await;
    let mut server = server;
    server.kill();
    let mut agent = Agent::with(&server, "admin", &node.0, &disk).await;
    assert_eq!(web(&agent.snapshot()), Some((true, Some(ours.clone()))), "at once");
    drop(second);
    let third = node.run(&uid, "pause-3");
    let ours = third.netns();
    agent.until("also one that was made since", |s| web(s) == Some((true, Some(ours.clone())))).await;
    agent.stop().await;
    drop(third);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_run_to_its_end_is_no_workload() {
    let server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    server.apply(&namespace("shop", &json!({"weft.dev/mesh": "enabled"}))).await;
    let job = pod("web", "n1", "10.1.0.9");
    server.apply(&job).await;
    let mut agent = Agent::start(&server, &disk).await;
    agent.until("it runs", |s| web(s) == Some((true, None))).await;
    let done = |phase: &str| {
        let mut done: Value = job.clone();
        done["status"]["phase"] = phase.into();
        done
    };
    server.apply(&done("Succeeded")).await;
    agent.until("it has ended", |s| web(s).is_none()).await;
    agent.stop().await;
}
