//! `weft status`.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use weft_model::Problem;

use super::{CertificatesView, Failure, JwksView, ProxyStatus, SourceView};

/// How an agent is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// The node that it stands for.
    pub node: String,
    /// The cgroup whose sockets it sees.
    pub cgroup: String,
    /// Version of the kernel maps' layout.
    pub schema: u32,
    /// Where the configuration is read, and how that is.
    #[serde(default)]
    pub source: Option<SourceView>,
    /// Version of the configuration that was read last.
    pub snapshot_version: u64,
    /// Version of the configuration that the kernel enforces.
    pub enforced_version: u64,
    /// Why the version read last is not enforced.
    pub failure: Option<Failure>,
    /// The enrolled pods of this node.
    pub pods: Vec<PodStatus>,
    /// The node's proxy; `null` where the agent runs without.
    #[serde(default)]
    pub proxy: Option<ProxyStatus>,
    /// The certificates of this node's pods; `null` where the agent issues none.
    #[serde(default)]
    pub certificates: Option<CertificatesView>,
    /// The keys of the providers of tokens that this node fetches.
    #[serde(default)]
    pub jwks: Vec<JwksView>,
    /// The eBPF programs.
    pub programs: Vec<ProgramStatus>,
    /// The eBPF maps.
    pub maps: Vec<MapStatus>,
    /// What the programs counted since they were first attached, by name.
    pub counters: BTreeMap<String, u64>,
    /// What this node cannot do.
    pub degradations: Vec<Degradation>,
    /// What is wrong with the configuration.
    pub problems: Vec<Problem>,
}

/// An enrolled pod of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodStatus {
    /// `namespace/name`.
    pub name: String,
    /// Path of its network namespace.
    pub netns: String,
    /// Whether its policies hold.
    pub state: PodState,
    /// Why they do not.
    pub detail: Option<String>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Names of the policies that protect it.
    pub policies: Vec<String>,
    /// Whose address its apps see as their peer where the node's proxy connects to them for a client, for each family;
    /// empty where it never does.
    #[serde(default)]
    pub peers: Vec<PeerAddress>,
}

/// Whose address apps see as their peer in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddress {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Whose.
    pub shown: Shown,
    /// Why it is not the client's.
    pub why: Option<String>,
    /// Ports at which it is the pod's own all the same: the app does not answer its clients' addresses by the way that the
    /// agent has made, as one that sets `SO_MARK` does not. Known since the last connection, for a minute.
    #[serde(default)]
    pub except: Vec<u16>,
}

/// [`PodStatus::peers`] of many pods, by their names.
pub type Peers = BTreeMap<String, Vec<PeerAddress>>;

/// Whose address an app sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shown {
    /// That of the client.
    Client,
    /// The pod's own, for all clients: see `x-forwarded-for`, or the flows, for theirs.
    Pod,
}

/// Whether a pod's policies hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodState {
    /// They hold.
    Enforced,
    /// Its network namespace is not there yet.
    Waiting,
    /// Its network namespace went away.
    Gone,
}

/// An eBPF program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// Its name in the kernel.
    pub name: String,
    /// Where it is attached: a cgroup, or the number of network namespaces.
    pub attach: String,
    /// Its id in the kernel.
    pub id: u32,
    /// `attached`, or why it is not.
    pub state: String,
    /// How many instructions the kernel's verifier followed to accept it, of a million that it may (kernel
    /// 5.2). `None` before kernel 5.16, which does not tell.
    #[serde(default)]
    pub verified: Option<u32>,
}

/// An eBPF map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapStatus {
    /// Its name in the kernel.
    pub name: String,
    /// What is in it; `null` where the kernel keeps no count.
    pub entries: Option<u64>,
    /// What fits.
    pub max: u64,
}

/// Something that this node cannot do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Degradation {
    /// What is off.
    pub feature: String,
    /// Why.
    pub reason: String,
    /// What would turn it on.
    pub remedy: String,
}

/// The answer to a request to read the configuration now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// The version that holds everything that was there at the time of asking.
    pub version: u64,
}

impl fmt::Display for PodState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforced => "Enforced",
            Self::Waiting => "Waiting",
            Self::Gone => "Gone",
        })
    }
}
