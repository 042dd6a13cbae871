//! Why there is no source.

use std::{io, path::PathBuf};

use weft_model::ServiceAccount;

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
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {message}; name another one with --kubeconfig")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// There is neither a directory nor an API server to read.
    #[error(
        "there is no cluster to ask: give --kubeconfig FILE, or run in a pod that has a ServiceAccount's token ({message}); \
         agents can read a directory as well, by --manifests DIR"
    )]
    NoCluster {
        /// What a pod would have.
        message: String,
    },
    /// No client can be made of what is known of the API server.
    #[error("cannot speak to the API server {server}: {message}")]
    Client {
        /// Its URL.
        server: String,
        /// What is wrong.
        message: String,
    },
    /// The API server gives no token of a ServiceAccount.
    #[error(
        "cannot have a token of the ServiceAccount {account}: {message}; `weft install` makes the account, and lets the agent \
         ask for its tokens"
    )]
    Token {
        /// The account.
        account: ServiceAccount,
        /// What the API server says.
        message: String,
    },
    /// A kubeconfig cannot be written, or what is to be in it cannot be read.
    #[error("cannot read or write {path}: {source}")]
    Lent {
        /// The file.
        path: PathBuf,
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
