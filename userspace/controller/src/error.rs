//! Why a controller ends.

use std::{io, net::SocketAddr};

use weft_runtime::Ended;

/// Why a controller cannot begin, or has to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to read.
    #[error("{0}")]
    Cluster(#[from] weft_kubernetes::Error),
    /// A port could not be opened.
    #[error("cannot listen on {address} for {purpose}: {source}; choose another address with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Whom it is for.
        purpose: &'static str,
        /// The flag that names it.
        flag: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A part of it ended.
    #[error("{0}")]
    Ended(#[from] Ended),
}
