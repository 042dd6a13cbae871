//! Socket storage that counts against no control group's memory limit.
//!
//! The kernel charges what a map holds to the memory control group of the process that made the map, whoever fills it. Made by
//! the agent, the storage of every socket of the node's pods would count against the agent's own limit, and where that is
//! reached no pod could connect any more. So a short-lived process makes this map from the top of the memory hierarchy, which
//! has no limit and for which nothing is counted. A pod cannot use that to its own ends: the kernel gives out storage for
//! sockets alone, and those count against the pod.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use weft_abi::names::map;

use crate::{host, load, pins::Pins};

/// Why the map could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The top of the hierarchy cannot be entered.
    #[error("cannot enter {group}: {source}")]
    Enter {
        /// The control group.
        group: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The map cannot be made.
    #[error(transparent)]
    Load(#[from] load::Error),
}

/// Makes the socket storage at the path `pin`, where there is none, after having moved the calling process to the top of the
/// memory hierarchy that it sees. To be called by a process that does nothing else and ends.
///
/// # Kernel
/// `bpf_map_save_memcg` takes the maker's group (5.11). Without a memory controller nothing is charged in any case.
///
/// # Errors
/// Where the group cannot be entered, and those of the loader.
pub fn make_socket_storage(pin: &Path) -> Result<(), Error> {
    if let Some(top) = host::memory_mount() {
        let group = top.join("cgroup.procs");
        // 0 is whoever writes it.
        fs::write(&group, "0").map_err(|source| Error::Enter { group, source })?;
    }
    load::load_scratch(&[(map::SOCKETS, pin.to_owned())])?;
    Ok(())
}

/// Has `maker`, the words of a command that leads to [`make_socket_storage`], make the map of `pins` where there is none. What
/// it cannot do the loader does after it, within the agent's limit.
pub(crate) fn have_made(maker: &[OsString], pins: &Pins) {
    let pin = pins.maps().join(map::SOCKETS);
    let Some((program, arguments)) = maker.split_first().filter(|_| !pin.exists()) else { return };
    let output = Command::new(program).args(arguments).arg(&pin).stdin(Stdio::null()).output();
    let error = match output {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(
        error,
        "connections of the node's pods count against this agent's memory limit, 400 bytes each; to be let into the top of \
         the memory hierarchy it needs /sys/fs/cgroup of the node, writable"
    );
}
