//! The messages of `linux/netlink.h`, `inet_diag.h` and `sock_diag.h`, in host byte order but for
//! ports and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::{Protocol, Query, Socket, State, TcpInfo};

/// One message of an answer.
pub(crate) enum Message<'a> {
    /// An `inet_diag_msg` with its attributes.
    Entry { flags: u16, payload: &'a [u8] },
    /// The end of a dump, an error or an acknowledgement.
    End { flags: u16, result: Result<(), Errno> },
}

impl Message<'_> {
    /// The kernel noticed that its table changed during the dump.
    pub(super) fn interrupted(&self) -> bool {
        let (Self::Entry { flags, .. } | Self::End { flags, .. }) = self;
        flags & NLM_F_DUMP_INTR != 0
    }
}

/// The request for all sockets of `family` that `query` asks for.
pub(super) fn dump(sequence: u32, family: i32, query: &Query<'_>) -> Vec<u8> {
    let extensions = if query.info { 1 << (INET_DIAG_INFO - 1) } else { 0 };
    let mut request = header(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence);
    request.extend([family_byte(family), protocol_byte(query.protocol), extensions, 0]);
    request.extend(query.states.bits().to_ne_bytes());
    request.extend([0; SOCKET_ID_LEN]);
    if let Some(map) = query.storage {
        request.extend(storage_attribute(map));
    }
    sealed(request)
}

/// The request to end one socket.
pub(super) fn destroy(sequence: u32, socket: &Socket) -> Vec<u8> {
    let family = if socket.local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut request = header(SOCK_DESTROY, NLM_F_ACK, sequence);
    request.extend([family_byte(family), protocol_byte(socket.protocol), 0, 0]);
    request.extend((1_u32 << socket.state as u8).to_ne_bytes());
    request.extend(socket.local.port().to_be_bytes());
    request.extend(socket.remote.port().to_be_bytes());
    request.extend(address_bytes(socket.local.ip()));
    request.extend(address_bytes(socket.remote.ip()));
    request.extend(socket.interface.to_ne_bytes());
    request.extend(cookie_bytes(socket.cookie));
    sealed(request)
}

/// The messages in `datagram` that answer request `sequence`.
pub(crate) fn messages(datagram: &[u8], sequence: u32) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let message = rest.get(..len).filter(|message| message.len() >= HEADER_LEN)?;
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some(message)
    })
    .filter(move |message| u32_at(message, 8) == Some(sequence))
    .filter_map(message)
}

/// Reads an `inet_diag_msg`; `None` when it is too short or names what is not known.
pub(super) fn entry(protocol: Protocol, payload: &[u8]) -> Option<Socket> {
    let family = i32::from(*payload.first()?);
    let state = State::from_kernel(*payload.get(1)?)?;
    let mut socket = Socket {
        protocol,
        state,
        local: SocketAddr::new(address(family, payload.get(8..24)?)?, port_at(payload, 4)?),
        remote: SocketAddr::new(address(family, payload.get(24..40)?)?, port_at(payload, 6)?),
        interface: u32_at(payload, 40)?,
        cookie: u64::from(u32_at(payload, 44)?) | u64::from(u32_at(payload, 48)?) << 32,
        uid: u32_at(payload, 64)?,
        inode: u32_at(payload, 68)?,
        cgroup: 0,
        info: None,
        storage: None,
    };
    for (kind, value) in attributes(payload.get(ENTRY_LEN..)?) {
        match kind {
            INET_DIAG_INFO_REPLY => socket.info = tcp_info(value),
            INET_DIAG_CGROUP_ID => socket.cgroup = u64_at(value, 0)?,
            INET_DIAG_SK_BPF_STORAGES => socket.storage = storage(value),
            _ => {}
        }
    }
    Some(socket)
}

fn message(message: &[u8]) -> Option<Message<'_>> {
    let (kind, flags) = (u16_at(message, 4)?, u16_at(message, 6)?);
    let payload = &message[HEADER_LEN..];
    match kind {
        SOCK_DIAG_BY_FAMILY => Some(Message::Entry { flags, payload }),
        NLMSG_ERROR | NLMSG_DONE => {
            // A dump's end carries no number on some old kernels, which means success.
            let code = u32_at(payload, 0).unwrap_or_default().cast_signed();
            let result = if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code)) };
            Some(Message::End { flags, result })
        }
        _ => None,
    }
}

/// The fields of `struct tcp_info` by their offsets, which never change.
fn tcp_info(info: &[u8]) -> Option<TcpInfo> {
    Some(TcpInfo {
        // bytes_sent counts what was sent again; its FIN and SYN it does not.
        bytes_sent: u64_at(info, 200)?.saturating_sub(u64_at(info, 208)?),
        bytes_received: u64_at(info, 128)?,
        rtt: Duration::from_micros(u32_at(info, 68)?.into()),
        retransmits: u32_at(info, 100)?,
    })
}

/// The value in the answer to a request that names one map.
fn storage(nested: &[u8]) -> Option<Vec<u8>> {
    let (_, storage) = attributes(nested).find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE)?;
    let (_, value) = attributes(storage).find(|(kind, _)| *kind == SK_DIAG_BPF_STORAGE_MAP_VALUE)?;
    Some(value.to_vec())
}

fn storage_attribute(map: BorrowedFd<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    for part in [12, INET_DIAG_REQ_SK_BPF_STORAGES, 8, SK_DIAG_BPF_STORAGE_REQ_MAP_FD] {
        bytes.extend(part.to_ne_bytes());
    }
    bytes.extend(map.as_raw_fd().to_ne_bytes());
    bytes
}

/// A netlink header whose length [`sealed`] fills in.
pub(crate) fn header(kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

pub(crate) fn sealed(mut request: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(request.len()).expect("a request has less than 100 bytes");
    request[..4].copy_from_slice(&len.to_ne_bytes());
    request
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..len)?;
        rest = rest.get(aligned(len)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn address(family: i32, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
    }
}

/// Two u32, the low half first whatever the byte order of the machine.
fn cookie_bytes(cookie: u64) -> [u8; 8] {
    let [low, high] = [cookie & 0xffff_ffff, cookie >> 32]
        .map(|half| u32::try_from(half).expect("a half of 64 bits fits in 32").to_ne_bytes());
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&low);
    bytes[4..].copy_from_slice(&high);
    bytes
}

fn family_byte(family: i32) -> u8 {
    u8::try_from(family).expect("AF_INET and AF_INET6 fit in a byte")
}

fn protocol_byte(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

fn port_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

const HEADER_LEN: usize = 16;
const SOCKET_ID_LEN: usize = 48;
const ENTRY_LEN: usize = 72;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLA_TYPE_MASK: u16 = 0x3fff;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;

const INET_DIAG_INFO: u8 = 2;
const INET_DIAG_INFO_REPLY: u16 = 2;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const INET_DIAG_CGROUP_ID: u16 = 21;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::States;

    #[test]
    fn a_dump_of_plain_tcp_is_72_bytes_and_says_so() {
        let request = dump(7, libc::AF_INET6, &Query::tcp(States::LIVE).with_info());
        assert_eq!(request.len(), 72);
        assert_eq!(u32_at(&request, 0), Some(72));
        assert_eq!(request[16..20], [10, 6, 1 << 1, 0]);
    }

    #[test]
    fn an_entry_that_is_cut_off_anywhere_is_no_socket() {
        let mut whole = vec![0_u8; ENTRY_LEN];
        whole[0] = 2;
        whole[1] = 1;
        assert!(entry(Protocol::Tcp, &whole).is_some());
        for len in 0..ENTRY_LEN {
            assert_eq!(entry(Protocol::Tcp, &whole[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn a_length_of_zero_ends_the_messages_instead_of_looping() {
        assert_eq!(messages(&[0; 64], 0).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }

    #[test]
    fn an_answer_to_another_request_is_left_out() {
        let answer = sealed(header(NLMSG_DONE, 0, 3));
        assert_eq!(messages(&answer, 3).count(), 1);
        assert_eq!(messages(&answer, 4).count(), 0);
    }

    #[test]
    fn a_v4_mapped_address_is_shown_as_ipv4() {
        let mapped = Ipv4Addr::new(10, 77, 0, 2).to_ipv6_mapped().octets();
        assert_eq!(address(libc::AF_INET6, &mapped), Some(IpAddr::from([10, 77, 0, 2])));
    }

    #[test]
    fn a_cookie_survives_the_way_there_and_back() {
        let cookie = 0x0123_4567_89ab_cdef;
        let mut payload = vec![0_u8; ENTRY_LEN];
        payload[0] = 2;
        payload[1] = 1;
        payload[44..52].copy_from_slice(&cookie_bytes(cookie));
        assert_eq!(entry(Protocol::Udp, &payload).map(|socket| socket.cookie), Some(cookie));
    }
}
