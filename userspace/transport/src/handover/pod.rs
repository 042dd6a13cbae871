//! A pod as agent and proxy hold it: its namespace and the listeners inside.

use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::sockopt::socket_acceptconn;
use serde::{Deserialize, Serialize};
use weft_model::{ObjectName, ServiceAccount};

use super::message::PodFields;
use crate::{Netns, Transparent, netns_cookie};

/// A pod whose connections go through the proxy.
#[derive(Debug)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// The cookie of its namespace, by which both sides know it.
    pub cookie: u64,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whose certificate it shows; `None` where the peer is of a version that does not say it.
    pub service_account: Option<ServiceAccount>,
    /// Its namespace.
    pub netns: Netns,
    /// Where its connections are accepted.
    pub listeners: Vec<Listening>,
    /// In which families its app may be connected to from its clients' addresses; in none where the peer does not say it.
    pub transparent: Transparent,
}

/// One listening socket of a pod.
#[derive(Debug)]
pub struct Listening {
    /// Which connections come there.
    pub role: Role,
    /// The socket, inside the pod's namespace.
    pub socket: TcpListener,
}

/// Which connections a listener is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Those that the pod makes.
    Outbound,
    /// Those that are made to the pod.
    Inbound,
    /// One of a later version: keep the socket open, accept nothing, hand it back under this name.
    #[serde(untagged)]
    Later(String),
}

impl Pod {
    pub(super) fn fields(&self) -> PodFields {
        PodFields {
            name: self.name.to_string(),
            cookie: self.cookie,
            addresses: self.addresses.clone(),
            service_account: self.service_account.clone(),
            listeners: self.listeners.iter().map(|listening| listening.role.clone()).collect(),
            transparent: self.transparent,
        }
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let listeners = self.listeners.iter().map(|listening| listening.socket.as_fd());
        std::iter::once(self.netns.as_fd()).chain(listeners).collect()
    }

    /// Puts together what came; every descriptor has to be what it is said to be.
    pub(super) fn read(fields: PodFields, fds: Vec<OwnedFd>) -> Result<Self, Unfit> {
        let PodFields { name, cookie, addresses, service_account, listeners, transparent } = fields;
        let name = ObjectName::parse(&name).ok_or(Unfit::Name { name })?;
        let (wanted, found) = (listeners.len() + 1, fds.len());
        let mut fds = fds.into_iter();
        let netns = fds.next().filter(|_| wanted == found).ok_or(Unfit::Fds { wanted, found })?;
        let netns = Netns::from_fd(netns)?;
        let listening = |(role, fd): (Role, OwnedFd)| {
            let listens = matches!(socket_acceptconn(&fd), Ok(true));
            if !listens || netns_cookie(fd.as_fd()) != Ok(cookie) {
                return Err(Unfit::Listener { role, cookie });
            }
            Ok(Listening { role, socket: fd.into() })
        };
        let listeners = listeners.into_iter().zip(fds).map(listening).collect::<Result<_, _>>()?;
        Ok(Self { name, cookie, addresses, service_account, netns, listeners, transparent })
    }
}

/// The descriptors of a message that has so many.
pub(super) fn exactly<const N: usize>(fds: Vec<OwnedFd>) -> Result<[OwnedFd; N], Unfit> {
    fds.try_into().map_err(|fds: Vec<OwnedFd>| Unfit::Fds { wanted: N, found: fds.len() })
}

/// The descriptors of a message that has any number of pairs.
pub(super) fn in_pairs(fds: Vec<OwnedFd>) -> Result<Vec<[OwnedFd; 2]>, Unfit> {
    let found = fds.len();
    let mut fds = fds.into_iter();
    let pairs = std::iter::from_fn(|| Some([fds.next()?, fds.next()?])).collect();
    if found.is_multiple_of(2) { Ok(pairs) } else { Err(Unfit::Fds { wanted: found + 1, found }) }
}

/// Why a message that could be read cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("`{name}` is no pod's name (namespace/name)")]
    Name { name: String },
    #[error("the message needs {wanted} descriptors and has {found}")]
    Fds { wanted: usize, found: usize },
    #[error("the descriptor for role {role:?} is no listening socket of the namespace with cookie {cookie}")]
    Listener { role: Role, cookie: u64 },
    #[error(transparent)]
    Netns(#[from] crate::Error),
    #[error(transparent)]
    Memfd(#[from] crate::memfd::Error),
    #[error("a message of kind `{kind}` is not for this end, or of a later version")]
    Kind { kind: String },
    #[error("the fields of kind `{kind}` cannot be read: {source}")]
    Fields { kind: String, source: serde_json::Error },
}
