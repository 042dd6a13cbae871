//! The mesh on the cluster, by the steps that a user takes: image, definitions, objects.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::network::API_SERVER;
use super::node::Node;
use super::{images, kubectl, state, wait};
use crate::{image, screen, shell};

/// Has `weft install` with `flags` on the cluster, of an image that is made first; what runs of another image or with other
/// flags is replaced. Waits until every node enforces.
pub(crate) fn install(flags: &[&str], of: image::Of) -> Result<()> {
    image::run(of)?;
    let options = state::running()?.options;
    let nodes = Node::first(options.nodes);
    let was_there = is_installed()?;
    images::load(&nodes, &[PathBuf::from(image::ARCHIVE)])?;
    screen::step("weft install | kubectl apply -f -", || {
        shell::capture(kubectl()?.args([
            "apply",
            "--server-side",
            "--force-conflicts",
            "--kustomize",
            CRDS,
        ]))?;
        let mut weft = Command::new(image::BINARY);
        weft.arg("install").args(flags);
        if options.kube_proxy.is_none() {
            // The Service's address is what the agents are about to bring.
            weft.arg(format!("--api-server={API_SERVER}:6443"));
        }
        apply(&shell::capture(&mut weft)?)?;
        if was_there {
            // The image's name says nothing of what it is built of.
            shell::capture(kubectl()?.args(["rollout", "restart", "daemonset/weft", NAMESPACE]))?;
        }
        wait_for_all()?;
        if was_there { upgrade_proxies() } else { Ok(()) }
    })
}

/// Whether there is a mesh on the cluster, or a part of one.
pub(crate) fn is_installed() -> Result<bool> {
    let name =
        shell::capture(kubectl()?.args(["get", "namespace", "weft-system", "--ignore-not-found", "-oname"]))?;
    Ok(!name.trim().is_empty())
}

/// Applies a manifest.
pub(crate) fn apply(manifest: &str) -> Result<()> {
    feed(&["apply", "--server-side", "--force-conflicts", "--filename=-"], manifest)
}

fn feed(args: &[&str], manifest: &str) -> Result<()> {
    let mut child =
        kubectl()?.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().context("start kubectl")?;
    let mut stdin = child.stdin.take().context("stdin was piped above")?;
    stdin.write_all(manifest.as_bytes()).context("hand kubectl a manifest")?;
    drop(stdin);
    let status = child.wait().context("wait for kubectl")?;
    if !status.success() {
        bail!("kubectl {} failed ({status}): what it said is above", args[0]);
    }
    Ok(())
}

fn wait_for_all() -> Result<()> {
    for kind in ["daemonset", "deployment"] {
        let names = shell::capture(kubectl()?.args(["get", kind, NAMESPACE, "--output=name"]))?;
        for name in names.lines() {
            let rollout = ["rollout", "status", name, NAMESPACE, "--timeout=180s"];
            if let Err(error) = shell::capture(kubectl()?.args(rollout)) {
                let pods = shell::capture(kubectl()?.args(["get", "pods", NAMESPACE, "--output=wide"]))?;
                return Err(error).with_context(|| format!("roll {name} out; there are:\n{pods}"));
            }
        }
    }
    // Without them it lets nobody of another node in.
    wait::until("every agent knows the roots of the mesh", Duration::from_mins(2), || {
        // Anew each time: those that were replaced are still listed for a while.
        for pod in &agents()? {
            let ask = ["exec", NAMESPACE, pod, "--container=agent", "--", "/weft", "get", "certificates"];
            let said = shell::capture(kubectl()?.args(ask))?;
            let roots = said.lines().find_map(|line| line.strip_prefix("Trusted roots:"));
            ensure!(roots.is_some_and(|count| count.trim() != "0"), "{pod} says: {said}");
        }
        Ok(())
    })
}

/// By the version alone an agent cannot tell that the proxy it finds was built of something else.
fn upgrade_proxies() -> Result<()> {
    for pod in agents()? {
        let upgrade = ["exec", NAMESPACE, &pod, "--container=agent", "--", "/weft", "proxy", "upgrade"];
        shell::capture(kubectl()?.args(upgrade))?;
    }
    Ok(())
}

/// The agents' pods, as kubectl names them.
fn agents() -> Result<Vec<String>> {
    let all = ["get", "pods", NAMESPACE, "--selector=app.kubernetes.io/component=agent", "--output=name"];
    Ok(shell::capture(kubectl()?.args(all))?.lines().map(str::to_owned).collect())
}

const CRDS: &str = "deploy/crds";
const NAMESPACE: &str = "--namespace=weft-system";
