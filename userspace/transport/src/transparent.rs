//! Connections inside a namespace from an address that is not its own: the server there sees its client's.
//!
//! ```text
//! proxy: bind(client), SO_MARK ──SYN, marked──► the server accepts, and its socket takes the mark of the SYN
//! server's answer to the client, marked ──► rule: by our table ──► table: everything is local ──► the proxy's socket
//! ```
//! Where nobody listens the kernel answers, and its reset takes the mark of the SYN.
//!
//! The agent puts rule, route and setting there, since they take `CAP_NET_ADMIN`; the proxy's socket takes
//! `CAP_NET_RAW`. The mark chooses a route and nothing else: a pod that may set marks reaches itself with this one.
//! All that is put there is found again by what it is, so it can be put there twice, and be removed by another process.
//!
//! # Kernel
//! `tcp_fwmark_accept` (3.15), for both families; `fwmark_reflect` (3.15), one for each; `SO_MARK` by `CAP_NET_RAW` (5.17); `IP_TRANSPARENT` as an option of
//! IPv6 sockets, too (5.9). A mark does not leave the namespace: a veth clears it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use rustix::net::{bind, sockopt as option};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;

use crate::sock_diag::wire::{self, Message};
use crate::sysctl;
use crate::tcp::send_unpaced;
use crate::{Error, Netns};

/// In which families a namespace is ready for connections from others' addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transparent {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// What has come of making a namespace ready, for each family.
#[derive(Debug)]
pub struct MadeTransparent {
    /// IPv4.
    pub v4: Result<(), Arc<Error>>,
    /// IPv6.
    pub v6: Result<(), Arc<Error>>,
}

impl Transparent {
    /// Whether a connection to `to` may come from another's address.
    pub fn reaches(self, to: SocketAddr) -> bool {
        if to.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl MadeTransparent {
    /// What is ready.
    pub fn families(&self) -> Transparent {
        Transparent { v4: self.v4.is_ok(), v6: self.v6.is_ok() }
    }
}

impl Netns {
    /// Makes this namespace ready. What is there already stays. Takes `CAP_NET_ADMIN` and a `/proc/sys` that can be
    /// written.
    pub fn make_transparent(&self) -> MadeTransparent {
        let make = || {
            let mut routing = Routing::open()?;
            routing.switch_on(&ACCEPTED)?;
            let v6 = routing.switch_on(&REFLECTED_V6).and_then(|()| routing.add_route(Family::V6));
            let v4 = routing.switch_on(&REFLECTED_V4).and_then(|()| routing.add_route(Family::V4));
            Ok(MadeTransparent { v4: v4.map_err(Arc::new), v6: v6.map_err(Arc::new) })
        };
        self.run(make).and_then(|made| made).unwrap_or_else(|error| {
            let error = Arc::new(error);
            MadeTransparent { v4: Err(Arc::clone(&error)), v6: Err(error) }
        })
    }

    /// Removes what [`Netns::make_transparent`] has put here. Connections from others' addresses stand still then: end
    /// them before.
    pub fn end_transparent(&self) -> Result<(), Error> {
        self.run(|| {
            let mut routing = Routing::open()?;
            for family in [Family::V4, Family::V6] {
                routing.remove("a route", &route(RTM_DELROUTE, 0, family))?;
            }
            for setting in [REFLECTED_V6, REFLECTED_V4, ACCEPTED] {
                routing.remove_rule(setting.family, setting.found_on())?;
                if routing.remove_rule(setting.family, setting.by_us)? {
                    setting.switch(false)?;
                }
            }
            Ok(())
        })?
    }

    /// A socket inside this namespace for a connection to `to`, one of its own addresses, from `from`, which is another's;
    /// for a namespace that is ready. `connect(to)` on it is awaited outside.
    ///
    /// The port of `from` may be that of earlier connections, and of one that lives to another port.
    pub fn outgoing_from(&self, from: SocketAddr, to: SocketAddr) -> Result<TcpSocket, Error> {
        let failed = |source| Error::Outgoing { to, from: Some(from.ip()), source };
        let socket = self.tcp_socket(to).and_then(|socket| socket.map_err(failed))?;
        disguised(&socket, from).map_err(failed)?;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

fn disguised(socket: &OwnedFd, from: SocketAddr) -> io::Result<()> {
    option::set_tcp_nodelay(socket, true)?;
    option::set_socket_reuseaddr(socket, true)?;
    setsockopt(socket, sockopt::IpTransparent, &true)?;
    setsockopt(socket, sockopt::Mark, &MARK)?;
    send_unpaced(socket)?;
    Ok(bind(socket, &from)?)
}

/// Rules and routes of the calling thread's namespace.
struct Routing {
    netlink: OwnedFd,
    sequence: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Routing {
    fn open() -> Result<Self, Error> {
        let (family, kind, flags) = (AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC);
        let netlink = socket(family, kind, flags, SockProtocol::NetlinkRoute).map_err(Error::Routing)?;
        Ok(Self { netlink, sequence: 0 })
    }

    /// Switches `setting` on, and adds its rule, whose number says for later whether it was on before.
    fn switch_on(&mut self, setting: &Setting) -> Result<(), Error> {
        let was_on = setting.is_on()?;
        let is_new = self.add_rule(setting.family, setting.by_us)?;
        if !was_on {
            return setting.switch(true);
        }
        if is_new {
            // It was on before anything of ours was here.
            self.add_rule(setting.family, setting.found_on())?;
            self.remove_rule(setting.family, setting.by_us)?;
        }
        Ok(())
    }

    /// Whether it was not there.
    fn add_rule(&mut self, family: Family, priority: u32) -> Result<bool, Error> {
        self.add("a rule", &rule(RTM_NEWRULE, NEW, family, priority))
    }

    /// Whether it was there.
    fn remove_rule(&mut self, family: Family, priority: u32) -> Result<bool, Error> {
        self.remove("a rule", &rule(RTM_DELRULE, 0, family, priority))
    }

    fn add_route(&mut self, family: Family) -> Result<(), Error> {
        self.add("a route", &route(RTM_NEWROUTE, NEW, family)).map(drop)
    }

    fn add(&mut self, what: &'static str, request: &Request) -> Result<bool, Error> {
        match self.ask(request)? {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(source) => Err(Error::Route { attempt: "add", what, source }),
        }
    }

    /// Whether it was there.
    fn remove(&mut self, what: &'static str, request: &Request) -> Result<bool, Error> {
        match self.ask(request)? {
            Ok(()) => Ok(true),
            // Not there, or in a family that the namespace does not have.
            Err(Errno::ENOENT | Errno::ESRCH | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::ENETDOWN) => {
                Ok(false)
            }
            Err(source) => Err(Error::Route { attempt: "remove", what, source }),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Result<(), Errno>, Error> {
        self.sequence += 1;
        let mut bytes = wire::header(request.kind, request.flags | wire::NLM_F_ACK, self.sequence);
        bytes.extend(request.head);
        for (kind, value) in &request.attributes {
            bytes.extend([8_u16, *kind].map(u16::to_ne_bytes).concat());
            bytes.extend(value.to_ne_bytes());
        }
        let fd = self.netlink.as_raw_fd();
        send(fd, &wire::sealed(bytes), MsgFlags::empty()).map_err(Error::Routing)?;
        let mut answer = [0; 4096];
        loop {
            let len = match recv(fd, &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                received => received.map_err(Error::Routing)?,
            };
            for message in wire::messages(&answer[..len], self.sequence) {
                if let Message::End { result, .. } = message {
                    return Ok(result);
                }
            }
        }
    }
}

/// A message of `linux/rtnetlink.h` or `fib_rules.h`, whose attributes are all numbers.
struct Request {
    kind: u16,
    flags: u16,
    head: [u8; 12],
    attributes: Vec<(u16, u32)>,
}

/// What has our mark goes by our table: before any rule of the pod's own, behind the kernel's for local addresses.
fn rule(kind: u16, flags: u16, family: Family, priority: u32) -> Request {
    let mut head = [0; 12];
    (head[0], head[7]) = (family.byte(), FR_ACT_TO_TBL);
    let attributes =
        vec![(FRA_PRIORITY, priority), (FRA_FWMARK, MARK), (FRA_FWMASK, u32::MAX), (FRA_TABLE, TABLE)];
    Request { kind, flags, head, attributes }
}

/// In our table everything is here.
fn route(kind: u16, flags: u16, family: Family) -> Request {
    let mut head = [0; 12];
    (head[0], head[5], head[6], head[7]) = (family.byte(), RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL);
    Request { kind, flags, head, attributes: vec![(RTA_OIF, LOOPBACK), (RTA_TABLE, TABLE)] }
}

impl Family {
    fn byte(self) -> u8 {
        let family = if self == Self::V4 { libc::AF_INET } else { libc::AF_INET6 };
        u8::try_from(family).expect("AF_INET and AF_INET6 fit in a byte")
    }
}

/// A setting of the thread's own namespace.
struct Setting {
    name: &'static str,
    /// Whose rule says whether it was on.
    family: Family,
    /// The number of that rule where the setting was off before us.
    by_us: u32,
}

impl Setting {
    /// The number of the rule where it was on.
    fn found_on(&self) -> u32 {
        self.by_us + 1
    }

    fn is_on(&self) -> Result<bool, Error> {
        let value = sysctl::read(self.name).map_err(|source| self.failed(source))?;
        Ok(value != "0")
    }

    fn switch(&self, on: bool) -> Result<(), Error> {
        sysctl::write(self.name, if on { "1" } else { "0" }).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::MarkSetting { name: self.name.replace('/', "."), source }
    }
}

/// Accepted sockets take the mark of the SYN, of either family.
const ACCEPTED: Setting = Setting { name: "net/ipv4/tcp_fwmark_accept", family: Family::V4, by_us: 1 };
/// What the kernel itself answers takes the mark of what it answers to.
const REFLECTED_V4: Setting = Setting { name: "net/ipv4/fwmark_reflect", family: Family::V4, by_us: 3 };
/// As [`REFLECTED_V4`].
const REFLECTED_V6: Setting = Setting { name: "net/ipv6/fwmark_reflect", family: Family::V6, by_us: 1 };
/// "weft" in ASCII. Chooses a route; nobody is trusted for it.
const MARK: u32 = 0x7765_6674;
const TABLE: u32 = 0x7765;

/// `NLM_F_CREATE | NLM_F_EXCL`.
const NEW: u16 = 0x600;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const FR_ACT_TO_TBL: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const RTA_OIF: u16 = 4;
const RTA_TABLE: u16 = 15;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;
/// Every namespace's `lo`.
const LOOPBACK: u32 = 1;
