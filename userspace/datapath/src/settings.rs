//! What an agent is told about its machine.

use std::{ffi::OsString, path::PathBuf};

use weft_abi::config_flags;

use crate::load::MapSizes;

/// What is accelerated within a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acceleration {
    /// Nothing.
    Off,
    /// Connections to Services that ask for it.
    Services,
    /// And what the node's proxy reads.
    ProxyReads,
    /// And what apps read of it, where the kernel can: nobody has asked.
    #[default]
    Auto,
    /// And what apps read of it: a kernel that cannot is a degradation.
    All,
}

impl Acceleration {
    /// [`config_flags`] of it.
    pub(crate) fn flags(self) -> u32 {
        let services = config_flags::ACCELERATE;
        let reads = services | config_flags::ACCELERATE_PROXY;
        match self {
            Self::Off => 0,
            Self::Services => services,
            Self::ProxyReads => reads,
            Self::Auto | Self::All => reads | config_flags::ACCELERATE_APPS,
        }
    }

    /// Whether a pod that comes to the node's proxy is reason enough to try, without a Service that asks.
    pub(crate) fn is_for_proxy(self) -> bool {
        matches!(self, Self::ProxyReads | Self::Auto | Self::All)
    }

    /// Whether somebody has asked for it, without a Service that does.
    pub(crate) fn is_asked_for(self) -> bool {
        matches!(self, Self::ProxyReads | Self::All)
    }
}

/// Settings of the data path.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this node: it names the pins.
    pub node: String,
    /// Version of weft, for `weft status`.
    pub version: String,
    /// The cgroup whose sockets are seen; `None` is the root of the host's v2 tree.
    pub cgroup: Option<PathBuf>,
    /// Balance for every socket under the cgroup, not only for enrolled pods'.
    pub balance_everyone: bool,
    /// The cgroup whose connections are probes.
    pub probe_cgroup: Option<PathBuf>,
    /// Whether there is, or may be, a node proxy: without one, Services that need it take the kernel path.
    pub proxy: bool,
    /// What is accelerated within the node, where the kernel can.
    pub acceleration: Acceleration,
    /// The kernel's version, where it is to be taken for another one.
    pub kernel: Option<(u32, u32, u32)>,
    /// Maximum entries by map name, where they differ from the built-in ones.
    pub map_sizes: MapSizes,
    /// The words of a command that calls [`make_socket_storage`](crate::make_socket_storage) with the path that it is given;
    /// none: the agent's memory limit bounds the node's connections.
    pub storage_maker: Vec<OsString>,
}
