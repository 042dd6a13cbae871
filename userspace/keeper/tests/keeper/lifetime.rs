//! How a proxy begins, which pods it holds, and how all of it ends.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use weft_telemetry::api::ProxyState;

use crate::world::{TestPod, World, eventually, ip, is_gone, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_lives_in_its_own_cgroup_and_session_with_two_capabilities_for_good() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let pid = agent.active(1, 1);
    assert!(world.processes().contains(&pid));
    assert_eq!(agent.keeper.cgroup(), world.group());

    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
    };
    // CAP_SYS_ADMIN is 21, CAP_NET_RAW 13.
    let two = format!("{:016x}", 1 << 21 | 1 << 13);
    assert_eq!([field("CapEff:"), field("CapPrm:"), field("CapBnd:")], [two.clone(), two.clone(), two]);
    let none = "0".repeat(16);
    assert_eq!([field("CapInh:"), field("CapAmb:")], [none.clone(), none]);
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("NSsid:").split_whitespace().last().unwrap(), pid.to_string());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_and_no_pod_has_a_listener_until_a_configuration_needs_it() {
    let (world, web) = (World::new(), TestPod::new());
    let idle = world.agent_with(&[&web], None);
    let failure = idle.keeper.upgrade().await.unwrap_err().message;
    assert!(failure.starts_with("no proxy runs"), "{failure}");
    assert_eq!(idle.status().state, ProxyState::Idle);
    assert!(world.processes().is_empty() && idle.ports.0.lock().unwrap().is_empty());
    idle.configured.send_replace(Some(crate::world::configuration(1, "good")));
    let pid = idle.active(1, 1);
    assert_eq!(web.call(idle.port(&web)).answer(), Some(pid));
    idle.configured.send_replace(None);
    idle.wanted.send_replace(Some([].into()));
    eventually("the pod is let go of", || idle.ports.0.lock().unwrap().is_empty());
    assert!(!is_gone(pid), "it is kept");
    idle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_let_go_of_by_agent_and_proxy_within_a_second() {
    let (world, web, api) = (World::new(), TestPod::new(), TestPod::new());
    let agent = world.agent(&[&web, &api]);
    let pid = agent.active(1, 2);
    let mut carried = api.call(agent.port(&api));
    assert_eq!(carried.answer(), Some(pid));
    drop(carried);
    let namespace = fs::metadata(api.path()).map(|file| (file.dev(), file.ino())).unwrap();
    let tie = format!("wk{}", api.cookie);
    api.tie(&tie);
    let holds = |process: &str| {
        let fds = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
        fds.filter_map(|fd| fs::metadata(fd.path()).ok()).any(|file| (file.dev(), file.ino()) == namespace)
    };
    assert!(holds("self") && holds(&pid.to_string()));

    api.remove();
    agent.wanted.send_replace(Some([web.local()].into()));
    within(Duration::from_secs(1), "neither holds it", || !holds("self") && !holds(&pid.to_string()));
    assert!(!agent.ports.0.lock().unwrap().contains_key(&api.cookie), "its port is withdrawn");
    // The kernel takes its time to remove what nobody holds.
    eventually("the namespace is gone", || !ip(&["link", "show", &tie]));
    assert_eq!(web.call(agent.port(&web)).answer(), Some(pid));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_comes_later_is_served_too_and_keeps_its_listener_when_it_changes() {
    let (world, web, api) = (World::new(), TestPod::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let pid = agent.active(1, 1);
    agent.wanted.send_replace(Some([web.local(), api.local()].into()));
    agent.active(1, 2);
    assert_eq!(web.call(agent.port(&web)).answer(), Some(pid));
    assert_eq!(api.call(agent.port(&api)).answer(), Some(pid));

    // Another address is news for the proxy, and no reason for another listener.
    let (port, mut moved) = (agent.port(&api), api.local());
    moved.addresses.push("10.1.2.3".parse().unwrap());
    agent.wanted.send_replace(Some([web.local(), moved].into()));
    agent.active(1, 2);
    assert_eq!((agent.port(&api), api.call(port).answer()), (port, Some(pid)));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_ends_the_proxy_and_removes_its_cgroup_and_files() {
    let (world, web) = (World::new(), TestPod::new());
    let agent = world.agent(&[&web]);
    let pid = agent.active(1, 1);
    assert!(weft_keeper::is_left(world.run_dir()));
    agent.stop().await;
    assert!(!is_gone(pid));
    weft_keeper::cleanup(world.run_dir(), Duration::from_secs(3)).unwrap();
    assert!(is_gone(pid) && !world.group().exists() && !world.run_dir().exists());
    weft_keeper::cleanup(world.run_dir(), Duration::from_secs(3)).unwrap();
}
