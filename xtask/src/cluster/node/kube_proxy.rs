//! kube-proxy, which gives Services their addresses for who is in no mesh.

use anyhow::Result;
use serde_json::json;

use super::Node;
use crate::cluster::network::PODS;
use crate::cluster::pki::{self, Holder};
use crate::cluster::process::Process;
use crate::cluster::state::{self, ProxyMode};

/// Starts it on `node`, unless it runs.
pub(super) fn ensure(node: &Node, init: &Process, mode: ProxyMode) -> Result<()> {
    let holder = Holder { name: "kube-proxy", user: "system:kube-proxy", group: "system:node-proxier" };
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode.name(),
        "clusterCIDR": PODS,
        "hostnameOverride": node.name(),
        "clientConnection": { "kubeconfig": pki::kubeconfig(&holder)? },
        // These limits are the whole machine's.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    });
    let path = node.folder()?.join("kube-proxy.json");
    state::write(&path, format!("{config:#}\n"))?;
    node.daemon("kube-proxy", init)?.arg("--config").arg(path).ensure().map(drop)
}
