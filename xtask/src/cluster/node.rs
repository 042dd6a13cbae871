//! A node: network and mount namespaces of its own, a cgroup, and in them containerd, kubelet and kube-proxy.
//!
//! ```text
//! init ── holds the namespaces        /run         a tmpfs               /etc, /opt   the host's, changes apart
//!   ├─ containerd                     /sys/fs/bpf  a bpffs of its own    /var/{lib,log}   the node's folder
//!   ├─ kubelet                        all else     the host's
//!   └─ kube-proxy
//! ```
//! So every path is where it is on a real node, and what a DaemonSet puts into `/etc/cni/net.d` or `/opt/cni/bin` is on its
//! node alone. Nothing is mounted on the host: with the last process of a node its mounts are gone.

mod containerd;
mod kube_proxy;
mod kubelet;
mod namespaces;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cgroups::Cgroup;
use super::daemons::{self, Daemon};
use super::process::Process;
use super::state::ProxyMode;
use super::{STATE, network, parts};
use crate::repo;

/// One of the cluster's nodes, by its number from 1 on.
pub(super) struct Node(u8);

impl Node {
    /// The first `count` nodes.
    pub(super) fn first(count: u8) -> Vec<Self> {
        (1..=count).map(Self).collect()
    }

    /// The node called `node-N`.
    pub(super) fn named(name: &str) -> Result<Self> {
        let number = name.strip_prefix("node-").and_then(|number| number.parse().ok());
        number.map(Self).with_context(|| format!("no node is called {name}: they are node-1, node-2 ..."))
    }

    pub(super) fn number(&self) -> u8 {
        self.0
    }

    pub(super) fn name(&self) -> String {
        format!("node-{}", self.0)
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 0, self.0 + 1)
    }

    pub(super) fn address_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, u16::from(self.0) + 1)
    }

    /// Its pods' addresses.
    pub(super) fn pods(&self) -> String {
        format!("10.244.{}.0/24", self.0)
    }

    pub(super) fn pods_v6(&self) -> String {
        format!("fd00:10:244:{}::/64", self.0)
    }

    /// The host's end of the pair that connects it.
    pub(super) fn link(&self) -> String {
        format!("weft-{}", self.name())
    }

    /// Makes the node and starts all that runs there, or what of it does not run.
    pub(super) fn provide(&self, all: &[Self], kube_proxy: Option<ProxyMode>) -> Result<()> {
        let init = namespaces::ensure(self)?;
        network::connect(self, &init, all)?;
        containerd::ensure(self, &init)?;
        kubelet::ensure(self, &init)?;
        kube_proxy.map_or(Ok(()), |mode| kube_proxy::ensure(self, &init, mode))
    }

    /// The process that holds the node's namespaces.
    pub(super) fn running(&self) -> Result<Process> {
        let name = self.name();
        daemons::running(&name).with_context(|| format!("{name} does not run: `cargo xtask cluster up`"))
    }

    /// A program on this node.
    fn daemon(&self, name: &str, init: &Process) -> Result<Daemon> {
        let daemon = Daemon::new(format!("{}.{name}", self.name()), self.cgroup(), "nsenter");
        Ok(daemon.args(init.enter_args()).arg(parts::bin(name)?))
    }

    fn check(&self, name: &str) -> Result<()> {
        daemons::check(&format!("{}.{name}", self.name()))
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::of(&self.name())
    }

    /// What is the node's own on the host's disk.
    fn folder(&self) -> Result<PathBuf> {
        repo::absolute(Path::new(STATE).join(self.name()))
    }
}
