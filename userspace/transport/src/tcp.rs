//! TCP sockets that live in a pod's namespace and are served by a thread outside of it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use rustix::net::{bind, listen, sockopt as option};
use tokio::net::TcpSocket;

use crate::visit::visit;
use crate::{Error, Netns};

impl Netns {
    /// A listening socket inside this namespace, on a free port if that of `address` is 0: the
    /// `local_addr` of what is returned tells which.
    ///
    /// `[::]` takes IPv4 too, every other address only its own family. The socket is non-blocking and
    /// not inherited by children. [`BACKLOG`] connections wait in it; the namespace's
    /// `net.core.somaxconn` may allow fewer. An IPv6 address that is still tentative cannot be
    /// listened on, the wildcard can.
    ///
    /// # Cost
    /// The calling thread enters the namespace and leaves it again around `socket(2)`, see
    /// [`Netns::outgoing`].
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        let failed = |source| Error::Listen { address, source };
        let socket = self.tcp_socket(address).and_then(|socket| socket.map_err(failed))?;
        listening(&socket, address).map_err(failed)?;
        Ok(TcpListener::from(socket))
    }

    /// A socket inside this namespace for a connection to `to`; `connect(to)` on it is awaited on the
    /// caller's runtime, outside of the namespace.
    ///
    /// `from` is one of the pod's addresses; the kernel chooses without it. The source port is chosen
    /// at `connect`, so that all ports are free for every destination (`IP_BIND_ADDRESS_NO_PORT`).
    ///
    /// # Cost
    /// Entering the namespace and leaving it again costs about 6 µs: made and closed again, this takes 12
    /// to 16 µs, `socket(2)` in the thread's own namespace 7 to 10, and on a thread of its own, as
    /// [`Netns::run`] has, 65 to 94 (medians of three runs of `--example visit`, Linux 6.18 on 2 busy cores).
    pub fn outgoing(&self, to: SocketAddr, from: Option<IpAddr>) -> Result<TcpSocket, Error> {
        let failed = |source| Error::Outgoing { to, from, source };
        let socket = self.tcp_socket(to).and_then(|socket| socket.map_err(failed))?;
        prepared(&socket, from).map_err(failed)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }

    /// Everything after `socket(2)` concerns the socket's namespace and not the thread's.
    pub(crate) fn tcp_socket(&self, address: SocketAddr) -> Result<io::Result<OwnedFd>, Error> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = visit(self, || socket(family, SockType::Stream, flags, SockProtocol::Tcp))?;
        Ok(made.map_err(io::Error::from))
    }
}

/// Sets the priority of what `socket` sends (`SO_PRIORITY`). Up to 6 it needs no privilege.
pub fn set_priority(socket: &impl AsFd, priority: u32) -> io::Result<()> {
    let priority = i32::try_from(priority).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(setsockopt(socket, sockopt::Priority, &priority)?)
}

/// Has TCP send whatever `socket` is given as fast as its peer takes it: for a peer on this node, and before there is a
/// connection. What a listener accepts has this from the listener.
///
/// Where the machine's congestion control is BBR, timers pace each sender, to keep queues short on a network that these
/// bytes never come to. Reno sends when it may; it is in every kernel and needs no privilege.
pub fn send_unpaced(socket: &impl AsFd) -> io::Result<()> {
    Ok(option::set_tcp_congestion(socket, "reno")?)
}

fn listening(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        option::set_ipv6_v6only(socket, !address.ip().is_unspecified())?;
    }
    // What it accepts inherits this. Such a connection may have an app's port as its own, where a hook has brought it here,
    // and then keeps an app that starts again from that port as little as the app's own connections would.
    option::set_socket_reuseaddr(socket, true)?;
    bind(socket, &address)?;
    Ok(listen(socket, BACKLOG)?)
}

fn prepared(socket: &OwnedFd, from: Option<IpAddr>) -> io::Result<()> {
    option::set_tcp_nodelay(socket, true)?;
    if let Some(from) = from {
        setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
        bind(socket, &SocketAddr::new(from, 0))?;
    }
    Ok(())
}

/// Connections that may wait for `accept` in one listener: the kernel's own default limit.
pub const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn what_a_listener_accepts_is_sent_as_the_listener_was_told() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        send_unpaced(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(option::tcp_congestion(&accepted).unwrap(), "reno");
    }
}
