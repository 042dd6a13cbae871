//! The kubelet: its identity, its configuration, its place in the node's cgroup.

use anyhow::Result;
use serde_json::json;

use super::Node;
use crate::cluster::network::DNS_VIP;
use crate::cluster::pki::{self, Holder};
use crate::cluster::process::Process;
use crate::cluster::state;

/// Starts it on `node`, unless it runs.
pub(super) fn ensure(node: &Node, init: &Process) -> Result<()> {
    let name = node.name();
    let user = format!("system:node:{name}");
    let kubeconfig = pki::kubeconfig(&Holder { name: &name, user: &user, group: "system:nodes" })?;
    let config = node.folder()?.join("kubelet.json");
    state::write(&config, configuration(node)?)?;
    let kubelet = node.daemon("kubelet", init)?.arg("--config").arg(config);
    let kubelet = kubelet.arg("--kubeconfig").arg(kubeconfig).args(["--hostname-override", &name]);
    kubelet.arg(format!("--node-ip={},{}", node.address(), node.address_v6())).ensure().map(drop)
}

fn configuration(node: &Node) -> Result<String> {
    let nothing = "0%";
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": pki::file("ca.crt")? },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup().path(),
        "clusterDNS": [DNS_VIP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // Nodes share the developer's machine: how full its disk is, and that it swaps, is no concern of theirs.
        "evictionHard": {
            "memory.available": nothing, "nodefs.available": nothing, "nodefs.inodesFree": nothing,
            "imagefs.available": nothing, "imagefs.inodesFree": nothing,
        },
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": false,
        "failCgroupV1": false,
        "oomScoreAdj": 0,
        "staticPodPath": "/etc/kubernetes/manifests",
    });
    Ok(format!("{config:#}\n"))
}
