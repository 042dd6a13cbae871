//! The node's proxy, as `weft status` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Failure, Time};

/// How the node's proxy is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// In one word.
    pub state: ProxyState,
    /// Since when no proxy is in force though one is needed.
    pub without_since: Option<Time>,
    /// Version of the configuration that it should decide by.
    pub snapshot_version: Option<u64>,
    /// Version of the certificates that it should show.
    #[serde(default)]
    pub identities_version: Option<u64>,
    /// Pods whose connections can go to it.
    pub pods: usize,
    /// How often it ended without being told to.
    pub restarts: u64,
    /// Milliseconds since a proxy said last that it serves; `null` where none has yet. After 5000 the kernel takes it
    /// for gone.
    #[serde(default)]
    pub lease_age_ms: Option<u64>,
    /// Records of requests and connections that were lost, as far as proxies say: what flows and metrics lack.
    #[serde(default)]
    pub records_lost: u64,
    /// What went wrong last, and has not gone right since.
    pub failure: Option<Failure>,
    /// The processes, oldest first.
    pub generations: Vec<GenerationStatus>,
}

/// One proxy process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerationStatus {
    /// A number that is higher for each later one.
    pub generation: u64,
    /// Its process.
    pub pid: u32,
    /// Its build.
    pub build: String,
    /// The version of the protocol that the agent speaks with it.
    pub protocol: u32,
    /// How far it is.
    pub state: GenerationState,
    /// Pods that it serves.
    pub pods: usize,
    /// Version of the configuration by which it decides.
    pub snapshot_version: Option<u64>,
    /// Version of the certificates that it shows.
    #[serde(default)]
    pub identities_version: Option<u64>,
    /// Identities of which it has a valid certificate, where it says.
    #[serde(default)]
    pub certificates: Option<u64>,
    /// Connections that it carries, where it says.
    pub connections: Option<u64>,
    /// Since when this agent knows it.
    pub since: Time,
    /// What it refused.
    pub detail: Option<String>,
}

/// How the node's proxy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyState {
    /// Nothing needs it, and none runs.
    #[default]
    Idle,
    /// One is being started or filled.
    Starting,
    /// One is in force.
    Active,
    /// None is in force, and the last one failed: another is tried.
    Failing,
}

/// How far a proxy process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenerationState {
    /// It is given what it needs.
    Filling,
    /// It has all.
    Active,
    /// It finishes its connections and accepts none.
    Draining,
}

/// The answer to `weft proxy upgrade`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyUpgraded {
    /// The process that has taken over.
    pub pid: u32,
    /// Its build.
    pub build: String,
    /// The processes that finish what they carry.
    pub draining: Vec<u32>,
    /// Seconds after which they end at the latest.
    pub drain_seconds: u64,
}

impl fmt::Display for ProxyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Starting => "Starting",
            Self::Active => "Active",
            Self::Failing => "Failing",
        })
    }
}

impl fmt::Display for GenerationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filling => "Filling",
            Self::Active => "Active",
            Self::Draining => "Draining",
        })
    }
}
