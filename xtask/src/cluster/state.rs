//! What is known of the cluster between commands, and that one repository and one command at a time has to do with it.

use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::STATE;
use crate::repo;

/// How kube-proxy tells the kernel of Services.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
pub(crate) enum ProxyMode {
    Nftables,
    Iptables,
}

impl ProxyMode {
    /// As kube-proxy calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// What a cluster was asked to be.
#[derive(Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Options {
    pub(super) nodes: u8,
    pub(super) kube_proxy: Option<ProxyMode>,
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, kube_proxy } = self;
        write!(f, "{nodes} node{}", if *nodes == 1 { "" } else { "s" })?;
        match kube_proxy {
            Some(mode) => write!(f, " with kube-proxy ({})", mode.name()),
            None => f.write_str(" without kube-proxy"),
        }
    }
}

/// `target/cluster/state/cluster.json`.
#[derive(Deserialize, Serialize)]
pub(super) struct State {
    pub(super) options: Options,
    /// Of the parts that it was started from.
    pub(super) version: String,
    /// Whether `up` has come to its end.
    pub(super) complete: bool,
}

impl State {
    /// None: there is no cluster, not even a part of one.
    pub(super) fn read() -> Result<Option<Self>> {
        let path = Path::new(STATE).join(FILE);
        let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
        let state = serde_json::from_str(&text);
        state
            .with_context(|| format!("read {}: `cargo xtask cluster down` removes it", path.display()))
            .map(Some)
    }

    pub(super) fn write(&self) -> Result<()> {
        fs::create_dir_all(STATE).with_context(|| format!("create {STATE}"))?;
        let path = Path::new(STATE).join(FILE);
        let text = serde_json::to_string(self).context("write the cluster's state")?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// The state of a cluster that is there.
pub(super) fn running() -> Result<State> {
    State::read()?.context("there is no cluster: `cargo xtask cluster up`")
}

/// Writes a file of the cluster's, unless it says the same already: kube-proxy ends when its configuration is written anew.
pub(super) fn write(path: &Path, text: impl AsRef<str>) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text.as_ref()) {
        return Ok(());
    }
    fs::write(path, text.as_ref()).with_context(|| format!("write {}", path.display()))
}

/// The right to change this machine's cluster: its names and addresses are there once. Held until dropped, and by the
/// repository until released.
pub(super) struct Claim(File);

impl Claim {
    pub(super) fn take() -> Result<Self> {
        let ours = repo::absolute("")?;
        let file = File::options().create(true).truncate(false).read(true).write(true).open(CLAIM);
        let mut file = file.with_context(|| format!("open {CLAIM}"))?;
        if file.try_lock().is_err() {
            bail!("another `cargo xtask cluster` is at work: wait until it has ended");
        }
        let mut owner = String::new();
        file.read_to_string(&mut owner).with_context(|| format!("read {CLAIM}"))?;
        let owner = Path::new(owner.trim());
        // Of a repository that is no more, the cluster is whoever's finds it.
        if owner != ours && owner.join(STATE).exists() && !owner.as_os_str().is_empty() {
            bail!("this machine's cluster is that of {}: `cargo xtask cluster down` there", owner.display());
        }
        fs::write(CLAIM, ours.as_os_str().as_encoded_bytes()).with_context(|| format!("write {CLAIM}"))?;
        Ok(Self(file))
    }

    /// There is no cluster any more.
    pub(super) fn release(self) -> Result<()> {
        let Self(_locked) = self;
        fs::remove_file(CLAIM).with_context(|| format!("remove {CLAIM}"))
    }
}

const FILE: &str = "cluster.json";
const CLAIM: &str = "/run/weft-cluster";

#[cfg(test)]
mod tests {
    use super::{Options, ProxyMode};

    #[test]
    fn a_cluster_is_described_in_words() {
        let one = Options { nodes: 1, kube_proxy: Some(ProxyMode::Iptables) };
        assert_eq!(one.to_string(), "1 node with kube-proxy (iptables)");
        assert_eq!(Options { nodes: 2, kube_proxy: None }.to_string(), "2 nodes without kube-proxy");
    }
}
