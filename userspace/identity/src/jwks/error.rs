//! Why keys cannot be fetched.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use weft_model::JwksError;

/// Why keys cannot be fetched. Where they are is said by whoever shows it.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it is no URL to ask: {source}")]
    Url { source: http::Error },
    #[error("the address of {host} is not to be had: {source}; does this node's resolver know the name?")]
    Name { host: String, source: io::Error },
    #[error("nobody is there to ask: the Service has no such port, or no endpoint of it is ready")]
    Nobody,
    #[error("no connection to {to} came about: {source}")]
    Connect { to: SocketAddr, source: io::Error },
    #[error("TLS with {host} failed: {source}; a private authority needs --jwks-ca-bundle")]
    Tls { host: String, source: io::Error },
    #[error("the authorities in {} cannot be read: {source}", path.display())]
    Bundle { path: PathBuf, source: io::Error },
    #[error("there is no certificate in {}; it should have PEM blocks", path.display())]
    EmptyBundle { path: PathBuf },
    #[error("the server broke off: {source}")]
    Http { source: hyper::Error },
    #[error("the answer is {status}{}", if status.is_redirection() { "; name the place that it leads to" } else { "" })]
    Status { status: http::StatusCode },
    #[error("the document is larger than {} bytes", super::LARGEST)]
    TooLarge,
    #[error("it took longer than {within:?}")]
    Timeout { within: Duration },
    #[error("{source}")]
    Keys { source: JwksError },
    #[error(
        "keys are fetched from {} places at most; remove providers that nobody needs",
        super::MOST_PLACES
    )]
    TooMany,
}
