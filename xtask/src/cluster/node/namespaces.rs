//! What makes a part of this machine a node: namespaces, and in them the folders that are the node's own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::Node;
use crate::cluster::daemons::{self, Daemon};
use crate::cluster::process::Process;
use crate::cluster::{network, parts, wait};
use crate::shell;

/// The process that holds the namespaces; where it has ended, what is left of the node ends before it is started anew.
pub(super) fn ensure(node: &Node) -> Result<Process> {
    if let Some(process) = daemons::running(&node.name()) {
        return Ok(process);
    }
    network::disconnect(node)?;
    node.cgroup().kill()?;
    let folder = node.folder()?;
    fill(node, &folder)?;
    let init = Daemon::new(node.name(), node.cgroup(), "unshare");
    let init = init.args(["--mount", "--propagation", "slave", "--net", "sh", "-ec", MOUNT, "sh"]);
    let init = init.arg(&folder).arg(parts::bin("pause")?).ensure()?;
    wait::until("the node's folders are mounted", Duration::from_secs(20), || {
        daemons::check(&node.name())?;
        shell::capture(init.enter("test").args(["-e", READY])).map(drop)
    })?;
    Ok(init)
}

/// The folders before they are mounted. What is there stays: a plugin that was chained in is part of the node.
fn fill(node: &Node, folder: &Path) -> Result<()> {
    for name in [
        "etc/cni/net.d",
        "etc/kubernetes/manifests",
        "etc.work",
        "opt/cni/bin",
        "opt.work",
        "var/lib",
        "var/log",
    ] {
        let path = folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    for plugin in parts::CNI_PLUGINS {
        let to = folder.join("opt/cni/bin").join(plugin);
        fs::copy(parts::bin(plugin)?, &to).with_context(|| format!("copy {}", to.display()))?;
    }
    let conflist = folder.join("etc/cni/net.d/10-weft-cluster.conflist");
    if conflist.exists() {
        return Ok(());
    }
    fs::write(&conflist, pod_network(node)).with_context(|| format!("write {}", conflist.display()))
}

/// Pods on a bridge of the node's, with their own addresses to the outside, and host ports.
fn pod_network(node: &Node) -> String {
    let network = json!({
        "cniVersion": "1.1.0",
        "name": "weft-cluster",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": node.pods() }], [{ "subnet": node.pods_v6() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            },
            { "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } },
        ],
    });
    format!("{network:#}\n")
}

const READY: &str = "/run/weft-node-is-ready";
/// What a kubelet expects of a host, and a file that says that it is all there. The mounts are shared with containers, and
/// none of them with the host.
const MOUNT: &str = r#"
mount --make-rshared /
mount -t tmpfs -o mode=755 node /run
mkdir -p /run/lock /run/netns
for folder in /etc /opt; do
    mount -t overlay -o "lowerdir=$folder,upperdir=$1$folder,workdir=$1$folder.work" node "$folder"
done
mount --bind "$1/var/lib" /var/lib
mount --bind "$1/var/log" /var/log
mount -t bpf bpf /sys/fs/bpf
touch /run/weft-node-is-ready
exec "$2"
"#;
