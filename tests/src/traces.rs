//! What an agent has left in the kernel, told apart from what other tests have there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use serde_json::Value;

use crate::{Node, cgroup, sweep};

/// Programs that were seen on a node's links, by node: one that stays when its links are gone is a leak.
static SEEN: LazyLock<Mutex<BTreeMap<String, Vec<u64>>>> = LazyLock::new(Mutex::default);

/// One line for each pin, link and stray program of `node`.
pub(crate) fn of(node: &Node) -> Vec<String> {
    let mut traces: Vec<String> = files(&Path::new(sweep::PINS).join(node.name()))
        .iter()
        .map(|pin| format!("pin {}", pin.display()))
        .collect();
    let links: Vec<Value> = bpftool(&["link", "show"]).into_iter().filter(|link| is_on(link, node)).collect();
    traces.extend(links.iter().map(|link| format!("link {}", link["id"])));
    traces.extend(stray_programs(node, &links));
    traces
}

/// Whether `link` is attached to the node's cgroup or one of its pods', or to the namespaces of those.
fn is_on(link: &Value, node: &Node) -> bool {
    let groups = cgroup::groups(node.cgroup());
    let netns = groups.iter().filter_map(|group| Some(node.world.netns(group.file_name()?.to_str()?)));
    let netns: Vec<_> = netns.map(|name| Path::new(sweep::NAMESPACES).join(name)).collect();
    let is_one_of = |kind: &str, paths: &[PathBuf]| {
        let inode = link[kind].as_u64();
        inode.is_some() && paths.iter().any(|path| fs::metadata(path).ok().map(|file| file.ino()) == inode)
    };
    is_one_of("cgroup_id", &groups) || is_one_of("netns_ino", &netns)
}

fn stray_programs(node: &Node, links: &[Value]) -> Vec<String> {
    let linked: Vec<u64> = links.iter().filter_map(|link| link["prog_id"].as_u64()).collect();
    let mut seen = SEEN.lock().expect("no holder of this lock panics");
    let seen = seen.entry(node.name().into()).or_default();
    let loaded = bpftool(&["prog", "show"]);
    let stray = loaded.iter().filter(|program| {
        program["id"].as_u64().is_some_and(|id| seen.contains(&id) && !linked.contains(&id))
    });
    let stray = stray.map(|program| format!("program {} {}", program["id"], program["name"])).collect();
    seen.extend(linked);
    stray
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn bpftool(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new("bpftool").arg("-j").args(arguments).output();
    let output = output.expect("these tests need bpftool (`cargo xtask setup` installs it)");
    serde_json::from_slice(&output.stdout).expect("bpftool -j prints a list")
}
