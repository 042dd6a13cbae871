//! containerd, with the paths that it has by default: the node has its own of each.

use std::time::Duration;

use anyhow::Result;

use super::Node;
use crate::cluster::images::PAUSE;
use crate::cluster::process::Process;
use crate::cluster::{parts, state, wait};
use crate::shell;

/// Starts it on `node`, unless it runs, and waits until it answers.
pub(super) fn ensure(node: &Node, init: &Process) -> Result<()> {
    let config = node.folder()?.join("containerd.toml");
    state::write(&config, configuration()?)?;
    node.daemon("containerd", init)?.arg("--config").arg(config).ensure()?;
    wait::until("containerd answers", Duration::from_mins(1), || {
        node.check("containerd")?;
        shell::capture(init.enter(parts::bin("ctr")?).arg("version")).map(drop)
    })
}

/// Without `CAP_SYS_RESOURCE` nobody may make a process less likely to be killed, so containerd is told not to try.
fn configuration() -> Result<String> {
    let runc = parts::bin("runc")?;
    Ok(format!(
        r"version = 3
[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
tolerate_missing_hugetlb_controller = true
disable_hugetlb_controller = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/opt/cni/bin']
conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{}'
SystemdCgroup = false
",
        runc.display()
    ))
}
