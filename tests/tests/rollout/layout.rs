//! An agent whose eBPF maps have another layout than those of the agent before.
//!
//! Two builds of which only the maps differ are one build here, and a map of the running one that is of another size where
//! the next agent looks for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use weft_abi::SCHEMA;
use weft_tests::{Node, soon, text, wire::Wire};

use crate::{
    stage::{FAR, ROUTED, Stage, assert_sealed},
    stand_by::start_and_wait,
};

#[test]
fn an_agent_whose_maps_have_another_layout_takes_over_and_fails_no_request() {
    let Some(mut stage) = Stage::open() else { return };
    let wire = Wire::new(&stage.far);
    let nodes = [stage.a.clone(), stage.b.clone()];
    let proxies = nodes.each_ref().map(Node::proxy_pid);
    stage.loaded(|of_a, of_b, load| {
        for (node, agent) in nodes.iter().zip([of_a, of_b]) {
            start_and_wait(agent, node);
            set_aside(node);
            agent.hand_over(Signal::SIGTERM);
            node.wait();
            assert_eq!(programs_on_hook(node), (1, SCHEMA + 1), "those of the layout before decide no more");
            load.some_more();
        }
        for node in &nodes {
            soon(|| layouts(node) == [SCHEMA + 1]);
        }
        // Nothing needs the maps from before any more.
        load.some_more();
    });
    assert_eq!(nodes.each_ref().map(Node::proxy_pid), proxies, "the same proxies served all the time");
    let denied = nodes.each_ref().map(|node| text(&node.weft(&["observe", "--verdict", "DENIED"])));
    assert_eq!(denied, [const { String::new() }; 2]);
    assert_sealed(&stage, &wire);
}

#[test]
fn an_agent_that_dies_before_its_layout_is_in_force_leaves_what_either_next_one_goes_on_from() {
    let Some(mut stage) = Stage::open() else { return };
    let a = stage.a.clone();
    stage.loaded(|agent, _, load| {
        for goes_back in [false, true] {
            let layout = *layouts(&a).last().unwrap();
            let proxy = Pid::from_raw(a.proxy_pid());
            set_aside(&a);
            agent.stop();
            let before = agent_starts(&agent.log());
            agent.start();
            soon(|| agent_starts(&agent.log()) > before);
            // Whatever it lends the proxy now is answered by nobody; for less than the lease, so that nobody is refused.
            kill(proxy, Signal::SIGSTOP).unwrap();
            soon(|| text(&a.weft(&["status"])).contains("an earlier layout of maps"));
            agent.kill();
            kill(proxy, Signal::SIGCONT).unwrap();
            load.some_more();
            assert_eq!(programs_on_hook(&a), (1, layout), "what was in force is in force");
            if goes_back {
                put_back(&a, layout);
            }
            agent.start();
            a.wait();
            let now = if goes_back { layout } else { layout + 1 };
            assert_eq!(programs_on_hook(&a), (1, now));
            load.some_more();
            soon(|| layouts(&a) == [now]);
            load.some_more();
        }
    });
}

#[test]
fn connections_of_the_layout_before_go_on_when_it_is_gone() {
    use std::io::{Read as _, Write as _};
    let Some(mut stage) = Stage::open() else { return };
    let _echo = stage.far.serve_echo(8083);
    let mut bytes = stage.web.tcp_connect(stage.far.addr(8083)).unwrap();
    let mut requests = stage.web.http(ROUTED).unwrap();
    let mut go_on = || {
        for _ in 0..50 {
            bytes.write_all(b"more").unwrap();
            let mut back = [0; 4];
            bytes.read_exact(&mut back).unwrap();
            assert_eq!(&back, b"more");
            assert_eq!(requests.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
        }
    };
    go_on();
    let (a, b) = (stage.a.clone(), stage.b.clone());
    for (node, agent) in [(&a, &mut stage.of_a), (&b, &mut stage.of_b)] {
        set_aside(node);
        agent.restart();
        go_on();
        soon(|| layouts(node) == [SCHEMA + 1]);
        go_on();
    }
    assert_eq!(stage.web.ask(FAR).unwrap(), "far");
}

/// How many agents have begun to work.
fn agent_starts(log: &str) -> usize {
    log.matches("agent started").count()
}

/// The versions of layouts that a node has pins of.
fn layouts(node: &Node) -> Vec<u32> {
    let folders = fs::read_dir(pins(node)).unwrap().flatten();
    let mut all: Vec<_> = folders
        .map(|one| one.file_name().to_str().unwrap().strip_prefix('v').unwrap().parse().unwrap())
        .collect();
    all.sort_unstable();
    all
}

/// How many programs of the node decide where connections go, and by the maps of which layout the newest one does.
fn programs_on_hook(node: &Node) -> (usize, u32) {
    let hooked = |layout: &u32| pins(node).join(format!("v{layout}/links/weft_connect4")).exists();
    let by: Vec<_> = layouts(node).into_iter().filter(hooked).collect();
    (by.len(), by.last().copied().unwrap_or_default())
}

/// A map of the layout in force becomes another one, as if the agent that runs were of a build whose map that is.
#[track_caller]
fn set_aside(node: &Node) {
    let map = map_of(node, *layouts(node).last().unwrap());
    fs::rename(&map, aside(&map)).unwrap();
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["map", "create"]).arg(&map);
    bpftool.args(["type", "hash", "key", "24", "value", "99", "entries", "10", "name", "weft_svc"]);
    let made = bpftool.output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
}

/// The next agent is of the build whose layout that is.
#[track_caller]
fn put_back(node: &Node, layout: u32) {
    let map = map_of(node, layout);
    fs::remove_file(&map).unwrap();
    fs::rename(aside(&map), &map).unwrap();
}

fn pins(node: &Node) -> PathBuf {
    Path::new("/sys/fs/bpf/weft").join(node.name())
}

fn map_of(node: &Node, layout: u32) -> PathBuf {
    pins(node).join(format!("v{layout}/maps/weft_svc"))
}

fn aside(map: &Path) -> PathBuf {
    map.with_file_name("weft_svc_aside")
}
