//! Pods that run on this machine: real control groups, processes and namespaces, as a kubelet would make them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};
use weft_kubernetes::Announced;
use weft_model::{ObjectName, Snapshot};

use super::{
    agent::{Agent, Disk},
    api_server::ApiServer,
    objects::{namespace, pod},
};

/// The control groups of a node; they go with it.
struct Node(PathBuf);

/// Several tests of one process have nodes at once.
static NODES: AtomicU32 = AtomicU32::new(0);

/// A pod's first process, in a network namespace of its own; it ends when it is let go of.
struct Sandbox(Child);

impl Node {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = fields.into_iter().find(|fields| fields[2] == "cgroup2").expect("there is cgroup v2");
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-cluster-test-{}-{number}", std::process::id());
        let node = Self(Path::new(mount[1]).join(name));
        fs::create_dir(&node.0).expect("this runs as root");
        node
    }

    /// What a kubelet with the cgroupfs driver and its runtime do for a pod.
    fn run(&self, uid: &str, container: &str) -> Sandbox {
        let group = self.0.join("kubepods/besteffort").join(format!("pod{uid}")).join(container);
        fs::create_dir_all(&group).unwrap();
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        let sandbox = Sandbox(child);
        // Nobody is told of it before it has its own.
        while fs::read_link(sandbox.netns()).unwrap() == fs::read_link("/proc/self/ns/net").unwrap() {
            std::thread::yield_now();
        }
        sandbox
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

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_mesh_is_kept_before_it_starts_and_a_slow_disk_holds_up_nothing_else() {
    let server = ApiServer::start(&[]).await;
    let (disk, node) = (Disk::new(), Node::new());
    server.apply(&namespace("shop", &json!({"weft.dev/mesh": "enabled"}))).await;
    for (name, ip) in [("web", "10.1.0.9"), ("other", "10.1.0.10")] {
        server.apply(&pod(name, "n1", ip)).await;
    }
    let mut agent = Agent::with(&server, "admin", &node.0, &disk).await;
    agent.until("it is known", |s| web(s) == Some((true, None))).await;
    let kept = disk.0.path().join("cluster.json");
    super::until("what was listed is kept", async || kept.exists()).await;
    // A disk that takes nothing until it is read from.
    let slow = disk.0.path().join(".draft");
    assert!(Command::new("mkfifo").arg(&slow).status().unwrap().success());

    let pods = server.list("v1", "Pod").await;
    let uid = |name: &str| {
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name).unwrap();
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let announcer = agent.announcer.clone();
    let started = |name: &str, sandbox: &Sandbox| {
        let (announcer, uid, netns) = (announcer.clone(), uid(name), sandbox.netns());
        let ips = vec![if name == "web" { [10, 1, 0, 9] } else { [10, 1, 0, 10] }.into()];
        #[expect(clippy::disallowed_methods, reason = "the test owns this task and joins it")]
        tokio::spawn(async move {
            let network = Announced { sandbox: uid.as_str().into(), uid: uid.into(), netns, ips };
            announcer.announce(network).await
        })
    };
    let sandboxes = ["web", "other"].map(|name| node.run(&uid(name), "pause"));
    let first = started("web", &sandboxes[0]);
    let ours = sandboxes[0].netns();
    agent.until("it has its namespace", |s| web(s) == Some((true, Some(ours.clone())))).await;
    let second = started("other", &sandboxes[1]);
    server.apply(&pod("late", "n2", "10.1.0.11")).await;
    let late = ObjectName::new("shop", "late");
    agent.until("news is taken over", |s| s.workloads.contains_key(&late)).await;
    assert!(!first.is_finished() && !second.is_finished(), "neither is kept");

    // The next write is an ordinary one.
    let aside = disk.0.path().join("aside");
    fs::rename(&slow, &aside).unwrap();
    let mut reader = fs::File::open(&aside).unwrap();
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    for (task, name) in [(first, "web"), (second, "other")] {
        assert_eq!(*task.await.unwrap().unwrap().pod.name, *name);
    }
    assert!(fs::read_to_string(&kept).unwrap().contains(&uid("other")), "it was kept before");
    agent.stop().await;
}
