//! What can go wrong with a namespace or its sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use nix::errno::Errno;

/// What was tried, on what, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path of a namespace cannot be opened.
    #[error("cannot open the network namespace {}: {source}", path.display())]
    Open {
        /// The path that was given.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path leads to something else.
    #[error("{} is not a network namespace; name a file such as /run/netns/NAME", path.display())]
    NotANetns {
        /// The path that was given.
        path: PathBuf,
    },
    /// Another process sent something else.
    #[error(
        "the descriptor that was sent is no network namespace; the sender has to open one, such as /run/netns/NAME"
    )]
    NotANetnsFd,
    /// The namespace cannot be entered.
    #[error("cannot enter a network namespace (it takes CAP_SYS_ADMIN): {0}")]
    Enter(#[source] Errno),
    /// The thread's own namespace cannot be opened, so there would be no way back.
    #[error(
        "cannot open /proc/thread-self/ns/net, the way back from a network namespace (is /proc mounted?): {0}"
    )]
    Home(#[source] io::Error),
    /// No listening socket could be made.
    #[error(
        "cannot listen on {address} inside a pod's network namespace (does the pod have that address?): {source}"
    )]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No socket for a connection could be made.
    #[error("cannot make a socket from {} to {to} inside a pod's network namespace (does the pod have that address?): {source}", source_address(*.from))]
    Outgoing {
        /// Where the connection should go.
        to: SocketAddr,
        /// The source address that was asked for.
        from: Option<IpAddr>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Rules and routes of a namespace cannot be asked for.
    #[error("cannot talk to rtnetlink inside a pod's network namespace: {0}")]
    Routing(#[source] Errno),
    /// A rule or a route by which answers would come back.
    #[error(
        "cannot {attempt} {what} inside a pod's network namespace (it takes CAP_NET_ADMIN, and lo has to be up): {source}"
    )]
    Route {
        /// `add` or `remove`.
        attempt: &'static str,
        /// `a rule` or `a route`.
        what: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// What answers cannot be made to take the mark of what it answers to.
    #[error("cannot use {name} of a pod's network namespace (can /proc/sys be written?): {source}")]
    MarkSetting {
        /// The setting.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// What the connect hook wrote cannot be read.
    #[error("cannot look up what {peer} dialled (is the agent's map of origins still there?): {source}")]
    Origin {
        /// The client's address.
        peer: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The connect hook cannot be told that the proxy is there.
    #[error("cannot renew the proxy's lease (is the agent's map of it still there?): {0}")]
    Lease(#[source] io::Error),
    /// No thread could be started to enter the namespace.
    #[error("cannot start a thread for a network namespace: {0}")]
    Thread(#[source] io::Error),
    /// The cookie of the namespace cannot be read.
    #[error("cannot read the cookie of a network namespace (it takes Linux 5.14): {0}")]
    Cookie(#[source] Errno),
    /// The `sock_diag` socket cannot be opened or used.
    #[error("cannot talk to sock_diag: {0}")]
    Netlink(#[source] Errno),
    /// The kernel refuses to list sockets.
    #[error(
        "cannot list {protocol} sockets; CONFIG_INET_DIAG or the module {protocol}_diag may be missing: {source}"
    )]
    Dump {
        /// `tcp` or `udp`.
        protocol: super::Protocol,
        /// The kernel's answer.
        source: Errno,
    },
    /// The table of sockets kept changing while it was listed.
    #[error("the list of {protocol} sockets was interrupted {attempts} times")]
    Interrupted {
        /// `tcp` or `udp`.
        protocol: super::Protocol,
        /// How often it was tried.
        attempts: u32,
    },
    /// The kernel's answer has another form than the one known.
    #[error("sock_diag answered with a message that cannot be read")]
    Malformed,
    /// This kernel cannot end another process's sockets.
    #[error("this kernel cannot end sockets: it is built without CONFIG_INET_DIAG_DESTROY")]
    DestroyUnsupported,
    /// The socket could not be ended.
    #[error("cannot end the {protocol} socket {local} -> {remote} (it takes CAP_NET_ADMIN): {source}")]
    Destroy {
        /// `tcp` or `udp`.
        protocol: super::Protocol,
        /// The socket's own address.
        local: SocketAddr,
        /// The address of the other end.
        remote: SocketAddr,
        /// The kernel's answer.
        source: Errno,
    },
}

fn source_address(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "any address".to_owned(), |address| address.to_string())
}
