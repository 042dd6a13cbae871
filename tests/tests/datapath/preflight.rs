//! `weft check` on a machine that lacks something: what it says of that, and what to do about it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use weft_tests::{Node, World, private, text, weft};

#[test]
fn a_missing_bpf_filesystem_is_told_with_the_command_that_mounts_it_and_is_missing_afterwards() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let wrapper = private("umount \"$0\"", Path::new("/sys/fs/bpf"));
    let stays_away = "\"$@\"; code=$?; grep -q ' /sys/fs/bpf bpf ' /proc/mounts && exit 70; exit $code";
    let wrapper = [wrapper, ["sh", "-c", stays_away, "sh"].map(str::to_owned).to_vec()].concat();
    let (output, lines) = check(&node, &wrapper);
    assert_eq!(output.status.code(), Some(0), "the agent mounts it: {}", text(&output));
    assert_line(&lines, "BPF filesystem", "Warning", "not mounted", "mount -t bpf bpf /sys/fs/bpf");
    assert_line(&lines, "programs", "Ok", "all of them pass this kernel's verifier", "");
}

#[test]
fn a_kernel_without_btf_is_told_with_the_option_that_it_was_built_without() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let wrapper = private("mount -t tmpfs none \"$0\"", Path::new("/sys/kernel/btf"));
    let (output, lines) = check(&node, &wrapper);
    assert_eq!(output.status.code(), Some(0), "weft can do without: {}", text(&output));
    assert_line(&lines, "BTF", "Warning", "byte counts may be off", "CONFIG_DEBUG_INFO_BTF");
    assert_line(&lines, "programs", "Ok", "all of them pass this kernel's verifier", "");
}

#[test]
fn a_container_without_capabilities_is_told_which_and_who_is_to_grant_them() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let without = ["setpriv", "--bounding-set=-net_admin,-sys_admin"].map(str::to_owned);
    let (output, lines) = check(&node, &without);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let missing = "missing: CAP_NET_ADMIN, CAP_SYS_ADMIN";
    assert_line(&lines, "capabilities", "Failed", missing, "grant them to the agent's container");
    // What cannot be found out for that reason is not said to be well, nor taken for the kernel's fault.
    assert_line(&lines, "programs", "Failed", "", "see the line about capabilities");
    assert_line(
        &lines,
        "foreign programs",
        "Warning",
        "cannot be looked for",
        "see the line about capabilities",
    );

    let page = text(&run(&node, &without, "table"));
    let told = page.lines().position(|line| line.starts_with("FAIL  capabilities")).unwrap();
    let remedy = page.lines().nth(told + 1).unwrap();
    assert!(remedy.trim_start().starts_with("→ grant them to the agent's container"), "{page}");
}

#[test]
fn a_user_who_is_not_root_is_told_to_be() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    // With the right to read: the binary may be where only root can.
    let reads = "--inh-caps=+dac_read_search";
    let nobody = ["setpriv", "--reuid=65534", "--clear-groups", reads, "--ambient-caps=+dac_read_search"];
    let (output, lines) = check(&node, &nobody.map(str::to_owned));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let all = "missing: CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF";
    assert_line(&lines, "capabilities", "Failed", all, "run as root");
}

#[test]
fn the_preflight_says_the_same_in_each_format() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let said = |format| {
        let output = run(&node, &["env".to_owned()], format);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let (json, yaml, table) = (said("json"), said("yaml"), said("table"));
    let lines: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_yaml::from_str::<Vec<Value>>(&yaml).unwrap(), lines);
    for line in &lines {
        let (name, detail) = (line["name"].as_str().unwrap(), line["detail"].as_str().unwrap());
        assert!(table.lines().any(|row| row.contains(name) && row.contains(detail)), "{line}: {table}");
    }
}

/// What `weft check -o json` says of this node's cgroup, run by the command `wrapper`.
#[track_caller]
fn check(node: &Node, wrapper: &[String]) -> (Output, Vec<Value>) {
    let output = run(node, wrapper, "json");
    let lines = serde_json::from_slice(&output.stdout);
    (output.clone(), lines.unwrap_or_else(|error| panic!("{error}: {}", text(&output))))
}

fn run(node: &Node, wrapper: &[String], format: &str) -> Output {
    let mut command = Command::new(&wrapper[0]);
    command.args(&wrapper[1..]).arg(weft()).args(["check", "-o", format, "--cgroup"]);
    command.arg(node.cgroup()).output().unwrap()
}

/// The line called `name` has this outcome, and its detail and remedy contain these.
#[track_caller]
fn assert_line(lines: &[Value], name: &str, outcome: &str, detail: &str, remedy: &str) {
    let line = lines.iter().find(|line| line["name"] == name);
    let line = line.unwrap_or_else(|| panic!("no {name} in {lines:?}"));
    assert_eq!(line["outcome"], outcome, "{line}");
    assert!(line["detail"].as_str().unwrap().contains(detail), "{line}");
    assert!(line["remedy"].as_str().unwrap().contains(remedy), "{line}");
}
