//! How a socket is to be made, by the helper process inside a pod.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, listen, socket_with};
use serde::{Deserialize, Serialize};

/// One socket: made, bound, connected or listening, in that order, as far as it is asked for.
#[derive(Clone, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a socket's option, on or off by itself")]
pub struct SocketRequest {
    domain: u16,
    kind: u32,
    protocol: u32,
    bind: Option<SocketAddr>,
    connect: Option<SocketAddr>,
    listen: bool,
    reuse_port: bool,
    port_at_connect: bool,
    non_blocking: bool,
    device: Option<String>,
}

impl SocketRequest {
    /// A socket as by socket(2), with `libc`'s numbers.
    pub fn new(domain: i32, kind: i32, protocol: i32) -> Self {
        Self {
            domain: domain.try_into().expect("an address family fits in 16 bits"),
            kind: kind.cast_unsigned(),
            protocol: protocol.cast_unsigned(),
            bind: None,
            connect: None,
            listen: false,
            reuse_port: false,
            port_at_connect: false,
            non_blocking: false,
            device: None,
        }
    }

    /// A TCP connection to `to`. An IPv4 address mapped into IPv6 takes an IPv6 socket.
    pub fn tcp(to: SocketAddr) -> Self {
        Self { connect: Some(to), ..Self::new(family(to), libc::SOCK_STREAM, libc::IPPROTO_TCP) }
    }

    /// An MPTCP connection to `to`.
    pub fn mptcp(to: SocketAddr) -> Self {
        Self { connect: Some(to), ..Self::new(family(to), libc::SOCK_STREAM, libc::IPPROTO_MPTCP) }
    }

    /// A TCP listener on `at`.
    pub fn tcp_listener(at: SocketAddr) -> Self {
        Self { bind: Some(at), listen: true, ..Self::new(family(at), libc::SOCK_STREAM, libc::IPPROTO_TCP) }
    }

    /// A UDP socket bound to `at`.
    pub fn udp(at: SocketAddr) -> Self {
        Self { bind: Some(at), ..Self::new(family(at), libc::SOCK_DGRAM, libc::IPPROTO_UDP) }
    }

    /// Bound to `address` first.
    #[must_use]
    pub fn from(self, address: SocketAddr) -> Self {
        Self { bind: Some(address), ..self }
    }

    /// Then connected to `address`.
    #[must_use]
    pub fn to(self, address: SocketAddr) -> Self {
        Self { connect: Some(address), ..self }
    }

    /// Bound to a device, by `SO_BINDTODEVICE`.
    #[must_use]
    pub fn device(self, device: &str) -> Self {
        Self { device: Some(device.into()), ..self }
    }

    /// With `SO_REUSEPORT`.
    #[must_use]
    pub fn reuse_port(self) -> Self {
        Self { reuse_port: true, ..self }
    }

    /// Bound to an address without a port, which `connect` chooses: `IP_BIND_ADDRESS_NO_PORT`.
    #[must_use]
    pub fn port_at_connect(self) -> Self {
        Self { port_at_connect: true, ..self }
    }

    /// Non-blocking; a connection that is under way counts as made.
    #[must_use]
    pub fn non_blocking(self) -> Self {
        Self { non_blocking: true, ..self }
    }

    /// Makes the socket in the calling process.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = if self.non_blocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
        let socket = socket_with(
            AddressFamily::from_raw(self.domain),
            SocketType::from_raw(self.kind),
            flags | SocketFlags::CLOEXEC,
            NonZeroU32::new(self.protocol).map(Protocol::from_raw),
        )?;
        if let Some(device) = &self.device {
            setsockopt(&socket, sockopt::BindToDevice, &device.into())?;
        }
        if self.listen {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        }
        if self.reuse_port {
            setsockopt(&socket, sockopt::ReusePort, &true)?;
        }
        if self.port_at_connect {
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        }
        if let Some(address) = self.bind {
            bind(&socket, &address)?;
        }
        if self.listen {
            listen(&socket, BACKLOG)?;
        }
        if let Some(address) = self.connect {
            self.connect(&socket, address)?;
        }
        Ok(socket)
    }

    /// A silent drop must not hold the helper for ever.
    fn connect(&self, socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
        set_socket_timeout(socket.as_fd(), Timeout::Send, Some(CONNECT_LIMIT))?;
        match connect(socket, &address) {
            Err(rustix::io::Errno::INPROGRESS) if self.non_blocking => Ok(()),
            Err(rustix::io::Errno::INPROGRESS) => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(set_socket_timeout(socket.as_fd(), Timeout::Send, None)?),
        }
    }
}

fn family(address: SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// A SYN that is lost is sent again after 1 s and after 3 s; since Linux 6.5 each second.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const BACKLOG: i32 = 4096;
