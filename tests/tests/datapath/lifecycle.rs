//! The agent comes and goes; what it put into the kernel stays until it is taken out.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weft_abi::names;
use weft_tests::{Node, World, manifests, private, text, weft};

use crate::market::{API, Market, assert_not_balanced};

#[test]
fn programs_and_maps_are_pinned_for_root_alone() {
    let Some(market) = Market::open() else { return };
    let version = pins(&market.node).join(format!("v{}", weft_abi::SCHEMA));
    let (maps, links, netns) = (version.join("maps"), version.join("links"), version.join("netns"));
    for folder in [&pins(&market.node), &version, &maps, &links, &netns] {
        let mode = fs::metadata(folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", folder.display());
    }
    assert_eq!(entries(&maps), names::map::ALL.iter().map(ToString::to_string).collect());
    let cookies =
        [&market.web, &market.thief, &market.api].map(|pod| pod.netns().cookie().unwrap().to_string());
    assert_eq!(entries(&netns), cookies.into());
    let on_cgroup = entries(&links);
    for program in
        ["weft_connect4", "weft_sendmsg6", "weft_recvmsg4", "weft_peername6", "weft_sock_ops", "weft_release"]
    {
        assert!(on_cgroup.contains(program), "{program} of {on_cgroup:?}");
    }
    assert!(on_cgroup.iter().all(|name| names::program::ALL.contains(&name.as_str())), "{on_cgroup:?}");
    assert!(!on_cgroup.contains("weft_backstop"), "nobody else's sk_lookup program is there");
}

/// The kernel gives up at a million, and loads a program the slower the more there are: this is what keeps an
/// agent's start short, and what leaves room for other kernels, which count otherwise.
#[test]
fn the_verifier_follows_a_twentieth_of_what_it_may_at_most() {
    let Some(market) = Market::open() else { return };
    let status = market.node.weft_json(&["status"]);
    let programs = status["programs"].as_array().unwrap();
    let followed = |program: &Value| program["verified"].as_u64();
    let told: Vec<_> = programs.iter().filter_map(followed).collect();
    assert!(told.len() >= 12, "the kernel tells since 5.16: {programs:?}");
    assert!(told.iter().all(|followed| *followed <= 50_000), "{programs:?}");
}

#[test]
fn a_killed_agents_kernel_goes_on_balancing_and_denying() {
    let Some(mut market) = Market::open() else { return };
    let stream = market.web.tcp_connect(API).unwrap();
    market.agent.kill();
    market.assert_enforced();
    assert_eq!(stream.peer_addr().unwrap(), API, "an older connection shows what it dialled");
    assert_eq!(market.node.weft(&["status"]).status.code(), Some(2), "there is nobody to ask");
    market.agent.restart();
    market.assert_enforced();
}

#[test]
fn a_stopped_agents_kernel_goes_on_balancing_and_denying() {
    let Some(mut market) = Market::open() else { return };
    assert!(market.agent.stop().success(), "SIGTERM is no failure");
    market.assert_enforced();
    market.agent.restart();
    market.assert_enforced();
}

#[test]
fn cleanup_takes_everything_out_and_cuts_nothing() {
    let Some(mut market) = Market::open() else { return };
    let mut stream = market.web.tcp_connect(API).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    assert!(!market.node.traces().is_empty());
    market.agent.cleanup();
    assert_eq!(market.node.traces(), Vec::<String>::new());
    assert!(!market.node.run_dir().exists(), "{:?}", entries(&market.node.run_dir()));
    assert!(!market.node.state_dir().exists(), "{:?}", entries(&market.node.state_dir()));

    assert_eq!(market.thief.ask(market.api.addr(8080)).unwrap(), "api", "no policy is left");
    assert_not_balanced(&market.web, API);
    stream.write_all(b"still here").unwrap();
    let mut echo = [0; 10];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still here");

    // And the same agent can begin anew.
    fs::create_dir_all(market.node.run_dir()).unwrap();
    market.agent.restart();
    market.assert_enforced();
}

#[test]
fn cleanup_is_refused_while_an_agent_runs_and_where_none_ever_ran() {
    let Some(market) = Market::open() else { return };
    let before = market.node.traces();
    let refused = market.node.weft(&["cleanup"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("an agent runs on"), "{}", text(&refused));
    assert_eq!(market.node.traces(), before);
    market.assert_enforced();

    let stranger = market.world.node("b");
    let refused = stranger.weft(&["cleanup"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("no run directory of an agent"), "{}", text(&refused));
    assert!(stranger.run_dir().exists());
}

#[test]
fn a_second_agent_of_a_run_directory_refuses_and_harms_nothing() {
    let Some(market) = Market::open() else { return };
    let cgroup = market.node.cgroup().display().to_string();
    let refused = market.node.refused_agent(&[], &["--cgroup", &cgroup]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("an agent runs on"), "{}", text(&refused));
    market.assert_enforced();
    market.node.wait();
}

#[test]
fn a_second_agent_of_a_node_refuses_and_harms_nothing() {
    let Some(market) = Market::open() else { return };
    let (node, other) = (&market.node, market.world.node("b"));
    let mut agent = Command::new(weft());
    agent.args(["agent", "--node", node.name()]).arg("--manifests").arg(node.manifests_dir());
    agent.arg("--run-dir").arg(other.run_dir()).arg("--state-dir").arg(other.state_dir());
    agent.arg("--cgroup").arg(other.cgroup()).args(["--metrics", &other.metrics().to_string()]);
    let refused = agent.output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains(&format!("an agent of node {} runs already", node.name())));
    market.assert_enforced();
    node.wait();
}

#[test]
fn an_agent_without_a_cgroup_takes_the_root_of_the_tree() {
    // Beside the other tests' agents, which have parts of the tree: all run, none is in the way.
    let Some(market) = Market::open_with(|node| {
        let agent = node.rooted_agent();
        node.wait();
        agent
    }) else {
        return;
    };
    let root = root_of_the_tree(&market.node);
    assert_eq!(market.node.weft_json(&["status"])["cgroup"], root.to_str().unwrap());
    assert!(market.web.cgroup().strip_prefix(&root).unwrap().components().count() > 1, "a nested group");
    market.assert_enforced();
    let found = text(&Command::new(weft()).arg("check").output().unwrap());
    assert!(found.contains(&format!("{}, the root of the tree", root.display())), "{found}");
}

#[test]
fn an_agent_that_sees_only_a_part_of_the_cgroup_tree_refuses_to_take_it_for_the_root() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let refused = node.refused_agent(
        &private("umount \"$0\" && mount -t cgroup2 none \"$0\"", &root_of_the_tree(&node)),
        &[],
    );
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let said = text(&refused);
    assert!(said.contains("is not the root of the host's cgroup tree"), "{said}");
    assert!(said.contains("--cgroup"), "it says what to do: {said}");
    assert_eq!(node.traces(), Vec::<String>::new());
}

#[test]
fn an_agent_that_fails_at_its_manifests_leaves_nothing_pinned_and_not_even_a_folder() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    fs::remove_dir_all(node.manifests_dir()).unwrap();
    let refused = node.refused_agent(&[], &["--cgroup", &node.cgroup().display().to_string()]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("manifests"), "{}", text(&refused));
    assert!(!pins(&node).exists(), "{}", pins(&node).display());
    // Nothing is in the way of one that finds them.
    fs::create_dir(node.manifests_dir()).unwrap();
    let _agent = node.agent();
    assert!(pins(&node).exists());
}

/// As container runtimes start whoever is not privileged. On the other kernels `nsdelegate` is in force, as systemd has it: nobody is
/// moved out of such a namespace there, and the proxy into its group.
#[test]
fn an_agent_in_a_container_and_its_proxy_act_in_the_nodes_control_groups() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let requests = "{parentRefs: [{group: \"\", kind: Service, name: api}], rules: [{backendRefs: [{name: api, port: 80}]}]}";
    let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80}]}";
    let objects = [
        manifests::namespace("shop", true),
        manifests::service("shop/api", spec),
        manifests::http_route("shop/api", requests),
    ];
    node.apply("shop.yaml", &manifests::documents(&objects));
    let _web = node.pod("shop/web").start();
    let words: Vec<_> = private("true", Path::new("/")).iter().map(|word| format!("'{word}'")).collect();
    let container = words.join(" ");
    let proxies = node.cgroup().join("weft-proxy/cgroup.procs");
    on_a_node(
        &node,
        "",
        &container,
        &format!(
            "[ $(readlink /proc/$agent/ns/cgroup) = $(readlink /proc/1/ns/cgroup) ] || exit 72
            for i in $(seq 100); do grep -q . {proxies} && break; sleep 0.1; done
            grep . {proxies} || exit 73",
            proxies = proxies.display()
        ),
        "",
    );
}

/// A node as kind makes it: what the agent mounts is the node's, and what it pins stays.
#[test]
fn an_agent_in_a_container_mounts_a_missing_bpf_filesystem_on_its_node() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    on_a_node(
        &node,
        "umount /sys/fs/bpf && mount --make-rshared / || exit 70",
        "unshare --mount --propagation slave",
        "",
        &format!("ls {}/v*/links/weft_connect4 || exit 74", pins(&node).display()),
    );
}

/// Runs the agent of `node` by the shell command `container` in a process tree of its own, the first process of which is the
/// node's; the shell commands `before` it, `meanwhile`, where `$agent` is its process, and `afterwards`.
#[track_caller]
fn on_a_node(node: &Node, before: &str, container: &str, meanwhile: &str, afterwards: &str) {
    let (weft, run) = (weft(), node.run_dir());
    let (weft, run) = (weft.display(), run.display());
    let script = format!(
        "{before}
        {container} \"$@\" & agent=$!
        for i in $(seq 100); do {weft} status --run-dir {run} --wait 5s >/dev/null 2>&1 && break; sleep 0.1; done
        {meanwhile}
        kill $agent; wait $agent
        {afterwards}
        {weft} cleanup --run-dir {run}"
    );
    let first = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &script, "sh"];
    let cgroup = node.cgroup().display().to_string();
    let done = node.refused_agent(&first.map(str::to_owned), &["--cgroup", &cgroup]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
}

#[test]
fn a_missing_bpf_filesystem_is_mounted() {
    let Some(mut market) = Market::open_with(|node| {
        let agent = node.wrap_agent(&private("umount \"$0\"", Path::new("/sys/fs/bpf")));
        node.wait();
        agent
    }) else {
        return;
    };
    market.assert_enforced();
    assert!(!pins(&market.node).exists(), "it is a file system of its own");
    // Its mounts, and with them its pins, go with the agent.
    market.agent.stop();
}

#[test]
fn where_no_bpf_filesystem_can_be_mounted_the_agent_says_so() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    // All of /sys is gone but the cgroup tree, which is somewhere else.
    let tree = node.run_dir().with_file_name("cgroup");
    fs::create_dir(&tree).unwrap();
    let wrapper = private("mount -t cgroup2 none \"$0\" && mount -t tmpfs none /sys", &tree);
    let refused = node.refused_agent(&wrapper, &["--cgroup", &tree.display().to_string()]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("no BPF filesystem at /sys/fs/bpf"), "{}", text(&refused));
}

/// Where cgroup v2 is mounted: beside v1 on hybrid hosts.
fn root_of_the_tree(node: &Node) -> PathBuf {
    node.cgroup().ancestors().nth(2).unwrap().to_owned()
}

/// Where the node's pins are.
pub(crate) fn pins(node: &Node) -> PathBuf {
    Path::new("/sys/fs/bpf/weft").join(node.name())
}

/// Names of what is in a folder.
pub(crate) fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
