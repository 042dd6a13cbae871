//! The cluster as a whole: up, down, and what may happen to its programs between.

use std::fs;
use std::io::ErrorKind;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::cgroups::Cgroup;
use super::node::Node;
use super::state::{Claim, Options, State};
use super::{
    LOGS, MOST_NODES, STATE, addons, become_program, control_plane, daemons, host, images, kubectl, network,
    parts, pki, state,
};
use crate::screen;

/// Brings up what was asked for; what is there stays, and what has ended is started again.
pub(super) fn up(options: Options) -> Result<()> {
    let started = Instant::now();
    host::check()?;
    let _claim = Claim::take()?;
    screen::title(format_args!("cluster of {options}"));
    parts::provide()?;
    let version = parts::version()?;
    match State::read()? {
        None => remove_folder(LOGS)?,
        Some(there) if there.version != version => {
            screen::note(
                "its programs have changed: the one that was started from others is taken down first",
            );
            remove()?;
        }
        Some(there) if there.options != options => {
            bail!("there is a cluster of {}: `cargo xtask cluster down` first", there.options);
        }
        Some(there) if there.complete && daemons::all().iter().all(|(_, runs)| *runs) => {
            return ready("is up already", started);
        }
        Some(_) => screen::note("some of it is there: the rest is started"),
    }
    let mut state = State { options, version, complete: false };
    state.write()?;
    bring_up(&state.options)?;
    state.complete = true;
    state.write()?;
    ready("up", started)
}

/// Starts what does not run: `name`, that is.
pub(super) fn start(name: &str) -> Result<()> {
    let Options { nodes, kube_proxy } = state::running()?.options;
    let _claim = Claim::take()?;
    let nodes = Node::first(nodes);
    screen::step(format_args!("start {name}"), || {
        control_plane::provide()?;
        nodes.iter().try_for_each(|node| node.provide(&nodes, kube_proxy))
    })
}

/// Ends one of the cluster's programs.
pub(super) fn stop(name: &str) -> Result<()> {
    state::running()?;
    let _claim = Claim::take()?;
    screen::step(format_args!("stop {name}"), || daemons::stop(name))
}

/// Shows which programs run and what the nodes are; an error where one has ended.
pub(super) fn status() -> Result<()> {
    state::running()?;
    let all = daemons::all();
    for (name, runs) in &all {
        screen::line(format_args!("  {} {name}", if *runs { '✓' } else { '✗' }));
    }
    if let Some((name, _)) = all.iter().find(|(_, runs)| !runs) {
        bail!(
            "{name} has ended: {LOGS}/{name}.log has its last words, `cargo xtask cluster up` starts it again"
        );
    }
    become_program(kubectl()?.args(["get", "nodes", "--output=wide"]))
}

/// Ends and removes the cluster.
pub(super) fn down() -> Result<()> {
    host::check_root()?;
    let claim = Claim::take()?;
    screen::step("cluster down", remove)?;
    claim.release()
}

fn bring_up(options: &Options) -> Result<()> {
    let nodes = Node::first(options.nodes);
    screen::step("network", network::provide)?;
    screen::step("control plane", control_plane::provide)?;
    for node in &nodes {
        screen::step(node.name(), || node.provide(&nodes, options.kube_proxy))?;
    }
    screen::step("images", || images::provide(&nodes))?;
    screen::step("Gateway API, DNS, nodes are ready", addons::provide)?;
    let by = if options.kube_proxy.is_some() { "its Service's name" } else { "its address" };
    let proof = format!("a pod of node-1 reaches one of node-{} by {by}", options.nodes);
    screen::step(proof, || addons::prove(&nodes, options.kube_proxy.is_some()))
}

fn ready(what: &str, started: Instant) -> Result<()> {
    screen::done(format_args!("cluster {what}"), started.elapsed());
    screen::note(format_args!("export KUBECONFIG={}", pki::file("admin.kubeconfig")?.display()));
    screen::note("cargo xtask cluster kubectl get pods --all-namespaces");
    Ok(())
}

/// Everything but what was built and the logs. Also of a cluster that never came up.
fn remove() -> Result<()> {
    network::remove(&Node::first(MOST_NODES))?;
    let cluster = Cgroup::cluster();
    cluster.kill()?;
    cluster.remove()?;
    remove_folder(STATE)
}

fn remove_folder(folder: &str) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {folder}"))
        }
        _ => Ok(()),
    }
}
