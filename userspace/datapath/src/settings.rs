//! What an agent is told about its machine.

use std::path::PathBuf;

use crate::load::MapSizes;

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
    /// Whether Services may have same-node acceleration where the kernel can.
    pub acceleration: bool,
    /// The kernel's version, where it is to be taken for another one.
    pub kernel: Option<(u32, u32, u32)>,
    /// Maximum entries by map name, where they differ from the built-in ones.
    pub map_sizes: MapSizes,
}
