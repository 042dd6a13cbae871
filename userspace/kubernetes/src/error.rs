use std::{io, path::PathBuf};

/// Why a source of objects cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifests directory cannot be listed.
    #[error(
        "cannot read the manifests directory {directory}: {source}; does it exist, and may this user list it?"
    )]
    Directory {
        /// The directory asked for.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifests directory cannot be watched.
    #[error(
        "cannot watch the manifests directory {directory}: {source}; if it exists, raise fs.inotify.max_user_instances"
    )]
    Watch {
        /// The directory asked for.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
