//! What of the mesh is on a node of the machine's own cluster: in the kernel, on its disk, in its pods' networks.

use std::collections::HashSet;
use std::process::Command;

use serde_json::Value;

use crate::cluster;
use crate::stage::Stage;

/// One line for each thing.
#[track_caller]
pub(crate) fn on(node: &str) -> Vec<String> {
    let mut left: Vec<String> = script(node, FILES).lines().map(str::to_owned).collect();
    left.extend(links(node));
    left
}

/// How the node's runtime makes pods' networks: every byte of the configuration, and which plugins there are.
#[track_caller]
pub(crate) fn cni(node: &str) -> String {
    script(
        node,
        "cd /etc/cni/net.d; for file in $(ls -A); do echo $file; cat $file; done; ls -A /opt/cni/bin",
    )
}

/// Whether a connection that is made on the node is the mesh's.
#[track_caller]
pub(crate) fn is_redirected(node: &str) -> bool {
    !links(node).is_empty() || !script(node, "ls -A /sys/fs/bpf/weft 2>/dev/null; true").is_empty()
}

/// What rules, routes and settings each pod of the stage has.
#[track_caller]
pub(crate) fn networks(stage: &Stage) -> Vec<String> {
    let path = "--output=jsonpath={range .items[*]}{.metadata.uid} {.spec.nodeName} {.metadata.name}\n{end}";
    let pods = stage.ok(&["get", "pods", "--selector=app=api", path]);
    let mut all: Vec<_> = pods
        .lines()
        .map(|pod| {
            let mut words = pod.split(' ').map(str::to_owned);
            let [uid, node, name] = std::array::from_fn(|_| words.next().unwrap_or_default());
            format!("{name}\n{}", script(&node, &NETWORK.replace("UID", &uid)))
        })
        .collect();
    all.sort();
    all
}

/// Programs of ours on the node's control groups and its pods' namespaces. Other nodes' and other tests' are not looked at.
#[track_caller]
fn links(node: &str) -> Vec<String> {
    let numbers = |text: String| text.lines().filter_map(|line| line.parse().ok()).collect::<HashSet<u64>>();
    let groups = numbers(script(
        node,
        &format!("{GROUP} find $group -type d -exec stat --format=%i {{}} + 2>/dev/null; true"),
    ));
    let namespaces = numbers(script(node, NAMESPACES));
    assert!(!groups.is_empty() && !namespaces.is_empty(), "{node} runs pods");
    let ours: HashSet<_> = bpftool(&["prog", "show"])
        .iter()
        .filter(|program| program["name"].as_str().is_some_and(|name| name.starts_with("weft_")))
        .filter_map(|program| program["id"].as_u64())
        .collect();
    let is_in =
        |value: &Value, all: &HashSet<u64>| value.as_u64().is_some_and(|number| all.contains(&number));
    let links = bpftool(&["link", "show"]);
    let links = links.iter().filter(|link| {
        is_in(&link["prog_id"], &ours)
            && (is_in(&link["cgroup_id"], &groups) || is_in(&link["netns_ino"], &namespaces))
    });
    links.map(|link| format!("link {link}")).collect()
}

fn bpftool(args: &[&str]) -> Vec<Value> {
    let output = Command::new("bpftool").arg("-j").args(args).output();
    let output = output.expect("this test needs bpftool (`cargo xtask setup` installs it)");
    serde_json::from_slice(&output.stdout).expect("bpftool -j prints a list")
}

#[track_caller]
fn script(node: &str, script: &str) -> String {
    cluster::of_this_machine(&["exec", node, "sh", "-c", &script.replace("NODE", node)])
}

/// The node's own group, where control groups v2 are.
const GROUP: &str = "group=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts)/weft-cluster/NODE;";
const NAMESPACES: &str = "group=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts)/weft-cluster/NODE;
    find $group -name cgroup.procs -exec cat {} + | while read pid; do
        stat --dereference --format=%i /proc/$pid/ns/net 2>/dev/null; done | sort -u";
/// Its empty folders may stay, which are mounts of the agent's pod. A controller is a pod like any other.
const FILES: &str = "group=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts)/weft-cluster/NODE
    ls -d /sys/fs/bpf/weft $group/weft-proxy 2>/dev/null
    find /run/weft /var/lib/weft -mindepth 1 2>/dev/null
    grep -rl weft-cni /etc/cni/net.d
    ls -d /etc/cni/net.d/*weft-cni* /opt/cni/bin/*weft* 2>/dev/null
    for pid in $(find $group -name cgroup.procs -exec cat {} +); do
        line=$(tr '\\0' ' ' < /proc/$pid/cmdline)
        case $(readlink /proc/$pid/exe):$line in
            *:*'weft controller '*) ;;
            *weft:*) echo process $pid $line ;;
        esac
    done; true";
const NETWORK: &str = "group=$(awk '$3 == \"cgroup2\" {print $2; exit}' /proc/mounts)/weft-cluster/NODE
    pid=$(find $group -path '*UID*' -name cgroup.procs -exec cat {} + | head -1)
    enter=\"nsenter --net=/proc/$pid/ns/net\"
    $enter ip rule; $enter ip -6 rule; $enter ip route show table all; $enter ip -6 route show table all
    $enter sysctl net.ipv4.tcp_fwmark_accept net.ipv4.fwmark_reflect net.ipv6.fwmark_reflect \
        net.ipv4.ip_nonlocal_bind net.ipv4.conf.all.route_localnet";
