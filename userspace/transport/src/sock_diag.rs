//! The sockets of one network namespace, as `ss` sees them, by `NETLINK_SOCK_DIAG`.

mod entry;
pub(crate) mod wire;

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

pub use entry::{Protocol, Socket, State, States, TcpInfo};

use crate::{Error, Netns};
use wire::Message;

/// Lists and ends sockets of one namespace. It keeps the namespace alive, as every socket does.
#[derive(Debug)]
pub struct Diag {
    netlink: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Which sockets to list, of both address families, and what to tell of each.
#[derive(Debug, Clone, Copy)]
pub struct Query<'fd> {
    protocol: Protocol,
    states: States,
    info: bool,
    storage: Option<BorrowedFd<'fd>>,
}

impl Diag {
    /// Opens a handle on the sockets of `netns`.
    pub fn open(netns: &Netns) -> Result<Self, Error> {
        let open = || {
            socket(
                AddressFamily::Netlink,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkSockDiag,
            )
        };
        let netlink = netns.run(open)?.map_err(Error::Netlink)?;
        Ok(Self { netlink, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// The sockets that `query` asks for. A socket that comes or goes meanwhile may be missed.
    pub fn sockets(&mut self, query: &Query<'_>) -> Result<Vec<Socket>, Error> {
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            self.family(family, query, &mut sockets)?;
        }
        Ok(sockets)
    }

    /// Ends `socket`: its owner's calls fail with ECONNABORTED, and TCP sends the peer a reset.
    ///
    /// False when it was gone already: the cookie makes sure that a socket that took over its
    /// addresses meanwhile is left alone.
    pub fn destroy(&mut self, socket: &Socket) -> Result<bool, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&wire::destroy(self.sequence, socket))?;
        match self.acknowledgement()? {
            Ok(()) => Ok(true),
            // ESTALE: another cookie at these addresses.
            Err(Errno::ENOENT | Errno::ESTALE) => Ok(false),
            Err(Errno::EOPNOTSUPP) => Err(Error::DestroyUnsupported),
            Err(source) => {
                let (local, remote) = (socket.local, socket.remote);
                Err(Error::Destroy { protocol: socket.protocol, local, remote, source })
            }
        }
    }

    fn family(&mut self, family: i32, query: &Query<'_>, sockets: &mut Vec<Socket>) -> Result<(), Error> {
        let known = sockets.len();
        for _ in 0..DUMP_ATTEMPTS {
            sockets.truncate(known);
            self.sequence = self.sequence.wrapping_add(1);
            self.send(&wire::dump(self.sequence, family, query))?;
            if self.dump(query, sockets)? == Dump::Whole {
                return Ok(());
            }
        }
        Err(Error::Interrupted { protocol: query.protocol, attempts: DUMP_ATTEMPTS })
    }

    /// Reads one dump to its end, even past a message that cannot be read: the kernel refuses the
    /// next dump on this socket before.
    fn dump(&mut self, query: &Query<'_>, sockets: &mut Vec<Socket>) -> Result<Dump, Error> {
        let mut dump = Dump::Whole;
        let mut malformed = false;
        loop {
            let len = self.receive()?;
            for message in wire::messages(&self.buffer[..len], self.sequence) {
                if message.interrupted() {
                    dump = Dump::Interrupted;
                }
                match message {
                    Message::Entry { payload, .. } => match wire::entry(query.protocol, payload) {
                        Some(socket) => sockets.push(socket),
                        None => malformed = true,
                    },
                    Message::End { result: Err(source), .. } => {
                        return Err(Error::Dump { protocol: query.protocol, source });
                    }
                    Message::End { .. } if malformed => return Err(Error::Malformed),
                    Message::End { .. } => return Ok(dump),
                }
            }
        }
    }

    /// The kernel's answer to a request that is no dump.
    fn acknowledgement(&mut self) -> Result<Result<(), Errno>, Error> {
        loop {
            let len = self.receive()?;
            for message in wire::messages(&self.buffer[..len], self.sequence) {
                if let Message::End { result, .. } = message {
                    return Ok(result);
                }
            }
        }
    }

    fn send(&self, request: &[u8]) -> Result<(), Error> {
        send(self.netlink.as_raw_fd(), request, MsgFlags::empty()).map(drop).map_err(Error::Netlink)
    }

    /// Takes one datagram, whole: a storage value may need more than the kernel's usual 32 KiB.
    fn receive(&mut self) -> Result<usize, Error> {
        let len =
            retry(|| recv(self.netlink.as_raw_fd(), &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC))?;
        if len > self.buffer.len() {
            self.buffer.resize(len, 0);
        }
        retry(|| recv(self.netlink.as_raw_fd(), &mut self.buffer, MsgFlags::empty()))
    }
}

impl<'fd> Query<'fd> {
    /// TCP sockets in one of `states`.
    pub fn tcp(states: States) -> Self {
        Self { protocol: Protocol::Tcp, states, info: false, storage: None }
    }

    /// UDP sockets that are connected. An unconnected one has no peer to be judged by.
    pub fn connected_udp() -> Self {
        let states = States::of(&[State::Established]);
        Self { protocol: Protocol::Udp, states, info: false, storage: None }
    }

    /// UDP sockets that have a port and no peer.
    pub fn unconnected_udp() -> Self {
        Self { states: States::of(&[State::Close]), ..Self::connected_udp() }
    }

    /// UDP sockets that have a port, with a peer or without.
    pub fn udp() -> Self {
        Self { states: States::of(&[State::Established, State::Close]), ..Self::connected_udp() }
    }

    /// Tells the bytes, round-trip time and retransmits of TCP sockets too.
    #[must_use]
    pub fn with_info(self) -> Self {
        Self { info: true, ..self }
    }

    /// Tells what the `sk_storage` map behind `map` holds for each TCP socket. Takes `CAP_BPF`.
    ///
    /// The kernel (since 5.6) leaves UDP sockets and those without a full socket out.
    #[must_use]
    pub fn with_storage(self, map: BorrowedFd<'fd>) -> Self {
        Self { storage: Some(map), ..self }
    }
}

#[derive(PartialEq, Eq)]
enum Dump {
    Whole,
    Interrupted,
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> Result<T, Error> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result.map_err(Error::Netlink),
        }
    }
}

/// The kernel fills at most 32 KiB at once.
const RECEIVE_BUFFER: usize = 64 << 10;
const DUMP_ATTEMPTS: u32 = 5;
