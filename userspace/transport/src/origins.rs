//! Who was dialled, before the connect hook sent the connection to the proxy.

use std::net::SocketAddr;

use crate::Error;

/// What the connect hook wrote down about connections that it redirected.
pub trait Origins: Send + Sync {
    /// Takes the record of the connection that comes from `peer` in the namespace with this cookie.
    ///
    /// A record is there once: the second call for the same connection finds none, and neither does
    /// one for a connection that no hook redirected. Whoever accepted it has to refuse it, for nobody
    /// may use a pod's listener directly.
    fn take(&self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<Origin>, Error>;
}

/// One redirected connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The address that the app gave to `connect`, such as a ClusterIP and its port.
    pub dialled: SocketAddr,
    /// Id of the frontend (address, port, protocol) that this was, as `ServiceRow::id`.
    pub frontend: u64,
    /// The pod that balancing chose, or that was dialled: it is to be reached by mutual TLS, and no other one.
    /// `None` where the proxy chooses.
    pub chosen: Option<SocketAddr>,
}
