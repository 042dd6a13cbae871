//! What is applied to a cluster that runs: the Gateway API's CRDs and the cluster's DNS; and the proof that it all works.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::images::{COREDNS, HELLO};
use super::network::{API_SERVER, DNS_VIP};
use super::node::Node;
use super::{kubectl, parts};
use crate::shell;

/// Applies both, and waits for nodes and DNS.
pub(super) fn provide() -> Result<()> {
    let crds = parts::bin(parts::GATEWAY_CRDS)?;
    let mut apply = kubectl()?;
    apply.args(["apply", "--server-side", "--force-conflicts", "--kustomize"]).arg(crds);
    shell::capture(&mut apply)?;
    let dns = include_str!("manifests/coredns.yaml");
    let (api_server, dns_vip) = (API_SERVER.to_string(), DNS_VIP.to_string());
    apply_text(&filled(dns, &[("IMAGE", COREDNS), ("API_SERVER", &api_server), ("DNS_VIP", &dns_vip)]))?;
    shell::capture(kubectl()?.args(["wait", "node", "--all", "--for=condition=Ready", "--timeout=120s"]))?;
    let rollout = ["rollout", "status", "--namespace=kube-system", "deployment/coredns", "--timeout=120s"];
    shell::capture(kubectl()?.args(rollout)).map(drop)
}

/// A pod on the first node asks a pod on the last one for a page: by its Service's name, or else by its own address,
/// which needs no kube-proxy. The namespace of both is removed again.
pub(super) fn prove(nodes: &[Node], by_name: bool) -> Result<()> {
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else { bail!("a cluster has nodes") };
    // Its own each time: the last one may still be about to go.
    let proof = format!("weft-cluster-proof-{}", std::process::id());
    let namespace = format!("--namespace={proof}");
    apply_text(&filled(
        include_str!("manifests/proof-server.yaml"),
        &[("NAMESPACE", &proof), ("IMAGE", HELLO), ("NODE", &last.name())],
    ))?;
    let ready = ["wait", "pod/server", "--for=condition=Ready", "--timeout=120s", &namespace];
    shell::capture(kubectl()?.args(ready)).context("start a pod")?;
    let host = if by_name {
        format!("server.{proof}.svc.cluster.local")
    } else {
        shell::capture(kubectl()?.args([
            "get",
            "pod/server",
            "--output=jsonpath={.status.podIP}",
            &namespace,
        ]))?
    };
    apply_text(&filled(
        include_str!("manifests/proof-client.yaml"),
        &[("NAMESPACE", &proof), ("IMAGE", HELLO), ("NODE", &first.name()), ("HOST", &host)],
    ))?;
    let succeeded =
        ["wait", "pod/client", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s", &namespace];
    if let Err(error) = shell::capture(kubectl()?.args(succeeded)) {
        let said = shell::capture(kubectl()?.args(["logs", "pod/client", "--tail=1", &namespace]))
            .unwrap_or_default();
        let said = said.trim();
        let what = format!(
            "ask http://{host}:8080/ on {} from {}; the client said: {said}",
            last.name(),
            first.name()
        );
        return Err(error).context(what);
    }
    let remove = ["delete", "namespace", &proof, "--wait=false"];
    shell::capture(kubectl()?.args(remove)).map(drop)
}

fn apply_text(manifest: &str) -> Result<()> {
    let mut apply = kubectl()?;
    let mut child = apply
        .args(["apply", "--server-side", "--filename=-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("start kubectl")?;
    let mut stdin = child.stdin.take().context("stdin was piped above")?;
    stdin.write_all(manifest.as_bytes()).context("hand kubectl a manifest")?;
    drop(stdin);
    let status = child.wait().context("wait for kubectl")?;
    if !status.success() {
        bail!("kubectl apply failed ({status}): what it said is above");
    }
    Ok(())
}

/// With `${NAME}` replaced.
fn filled(manifest: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(manifest.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn every_place_is_filled() {
        let values = [
            ("NAMESPACE", "n"),
            ("IMAGE", "i"),
            ("NODE", "o"),
            ("HOST", "h"),
            ("API_SERVER", "a"),
            ("DNS_VIP", "d"),
        ];
        for manifest in [
            include_str!("manifests/coredns.yaml"),
            include_str!("manifests/proof-server.yaml"),
            include_str!("manifests/proof-client.yaml"),
        ] {
            let text = filled(manifest, &values);
            assert!(text.contains("image: i") && !text.contains("${"), "{text}");
        }
    }
}
