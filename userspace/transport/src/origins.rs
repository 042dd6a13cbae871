//! Who was dialled, before the connect hook sent the connection to the proxy.

use std::net::SocketAddr;

use weft_model::ServiceAccount;

use crate::Error;

/// What the connect hook wrote down about connections that it redirected.
pub trait Origins: Send + Sync {
    /// Takes the record of the connection that comes from `peer` in the namespace with this cookie.
    ///
    /// A record is there once: the second call for the same connection finds none, and neither does
    /// one for a connection that no hook redirected. Whoever accepted it has to refuse it, for nobody
    /// may use a pod's listener directly.
    ///
    /// To be called of a connection that is not broken: of one that was reset the record is gone, and what stands there may be
    /// the next one's from the same port.
    fn take(&self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<Origin>, Error>;

    /// Takes what the kernel attests of the client of a connection from `peer` to this port of the pod, of which it was
    /// handed over before it came to the app.
    ///
    /// As with [`Origins::take`], it is there once. Where there is none, nothing proves who the client is.
    fn attested(&self, netns_cookie: u64, peer: SocketAddr, port: u16) -> Result<Option<Attested>, Error>;
}

/// Whose a client is: the kernel saw a pod of that ServiceAccount make the connection.
#[derive(Clone, Copy, Debug)]
pub struct Attested {
    token: u64,
    by_proxy: bool,
    token_of: fn(&ServiceAccount) -> u64,
}

impl Attested {
    /// Of the ServiceAccount with this token; `by_proxy` where the client's own proxy has made the connection.
    pub fn new(token: u64, by_proxy: bool, token_of: fn(&ServiceAccount) -> u64) -> Self {
        Self { token, by_proxy, token_of }
    }

    /// Whether the proxy of the client's node, which is this one, has made the connection in its place.
    pub fn by_proxy(&self) -> bool {
        self.by_proxy
    }

    /// Whether it is of this one.
    pub fn is(&self, account: &ServiceAccount) -> bool {
        (self.token_of)(account) == self.token
    }
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
