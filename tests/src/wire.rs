//! What goes over a pod's wire, byte for byte.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use weft_transport::Netns;

use crate::{Pod, soon};

/// Captures all TCP on a pod's `eth0` until it is dropped.
pub struct Wire {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<Taken>>,
    thread: Option<JoinHandle<()>>,
}

/// One direction of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Who sends.
    pub from: SocketAddr,
    /// Who receives.
    pub to: SocketAddr,
    /// All that was sent, from the first byte on.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Taken {
    directions: BTreeMap<(SocketAddr, SocketAddr), Direction>,
}

/// Payloads by the sequence number of their first byte, counted from the one behind the SYN.
struct Direction {
    first: u32,
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Wire {
    /// Captures what `pod` sends and receives from now on.
    pub fn new(pod: &Pod) -> Self {
        Self::within(&pod.netns())
    }

    /// Captures what goes over any interface of a network namespace from now on.
    pub fn within(netns: &Netns) -> Self {
        let open = || {
            socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        };
        let socket = netns.run(open).expect("root can enter a namespace").expect("root may capture");
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).expect("root may have a large buffer");
        let poll = TimeVal::new(0, 20_000);
        setsockopt(&socket, sockopt::ReceiveTimeout, &poll).expect("a time-out that is not zero is allowed");
        let (stop, taken) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Taken>>::default());
        let (stopped, into) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = thread::spawn(move || capture(&socket, &stopped, &into));
        Self { stop, taken, thread: Some(thread) }
    }

    /// Every direction of every connection so far that has carried a byte. One whose beginning was not seen, or of
    /// which a part is missing, ends there.
    pub fn streams(&self) -> Vec<Stream> {
        let taken = self.taken.lock().expect("no holder of this lock panics");
        let stream = |((from, to), direction): (&(SocketAddr, SocketAddr), &Direction)| {
            let bytes = direction.bytes();
            (!bytes.is_empty()).then_some(Stream { from: *from, to: *to, bytes })
        };
        taken.directions.iter().filter_map(stream).collect()
    }

    /// As [`Wire::streams`], once there are so many, each with the whole of its first record: who captures is behind who
    /// sends.
    #[track_caller]
    pub fn begun(&self, directions: usize) -> Vec<Stream> {
        soon(|| {
            let streams = self.streams();
            streams.len() >= directions && streams.iter().all(Stream::has_first_record)
        });
        self.streams()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

impl Stream {
    /// Whether all of it is TLS 1.3: records, and at their beginning a client that offers this version, or a server that
    /// selects it (RFC 8446 4.2.1).
    pub fn is_tls13(&self) -> bool {
        let Some((CLIENT_HELLO, [_, versions @ ..]) | (SERVER_HELLO, versions)) = self.hello() else {
            return false;
        };
        self.is_records() && versions.chunks(2).any(|version| version == TLS13)
    }

    /// The kind of the message that it begins with, and what that says of versions beside the old field, which is 1.2 in both.
    fn hello(&self) -> Option<(u8, &[u8])> {
        let [HANDSHAKE, _, _, high, low, body @ ..] = &*self.bytes else { return None };
        let message = body.get(..usize::from(u16::from_be_bytes([*high, *low])))?;
        let (kind, mut rest) = (*message.first()?, message.get(4 + 2 + 32..)?);
        skip(&mut rest, 1)?; // the session
        match kind {
            CLIENT_HELLO => {
                skip(&mut rest, 2)?; // cipher suites
                skip(&mut rest, 1)?; // compression
            }
            _ => rest = rest.get(3..)?,
        }
        let mut extensions = skip(&mut rest, 2)?;
        while let [high, low, behind @ ..] = extensions {
            extensions = behind;
            let body = skip(&mut extensions, 2)?;
            if u16::from_be_bytes([*high, *low]) == SUPPORTED_VERSIONS {
                return Some((kind, body));
            }
        }
        None
    }

    /// Whether what it begins with is there; of what is no record, anything is.
    fn has_first_record(&self) -> bool {
        match &*self.bytes {
            [HANDSHAKE, _, _, high, low, body @ ..] => {
                body.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            }
            [first, ..] => *first != HANDSHAKE,
            [] => false,
        }
    }

    /// Whether all of it parses as records of TLS that begin with a handshake (RFC 8446 5.1). The last one may be cut.
    fn is_records(&self) -> bool {
        let mut rest = &*self.bytes;
        let mut first = true;
        while let [kind, 3, 1 | 3, high, low, body @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let expected = if first { *kind == HANDSHAKE } else { (20..=23).contains(kind) };
            if !expected || length == 0 || length > LARGEST_RECORD {
                return false;
            }
            first = false;
            rest = body.get(length..).unwrap_or_default();
        }
        // A head that is not complete yet.
        rest.len() < 5 && rest.first().is_none_or(|kind| (20..=23).contains(kind)) && !first
    }

    /// Whether `text` stands in it.
    pub fn contains(&self, text: &[u8]) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text)
    }
}

/// Takes a part off the front of `bytes`, before which its length stands in so many bytes.
fn skip<'a>(bytes: &mut &'a [u8], head: usize) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(head)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (part, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(part)
}

impl Direction {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, part) in &self.parts {
            let at = *at as usize;
            if at > bytes.len() {
                break;
            }
            // What was sent again may begin before what is there.
            bytes.extend(part.get(bytes.len() - at..).unwrap_or_default());
        }
        bytes
    }
}

fn capture(socket: &OwnedFd, stop: &AtomicBool, into: &Mutex<Taken>) {
    let mut packet = vec![0; 1 << 17];
    while !stop.load(Ordering::Relaxed) {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok((length, Some(link))) if link.ifindex() != LOOPBACK => {
                if let Some(segment) = segment(&packet[..length]) {
                    into.lock().expect("no holder of this lock panics").take(&segment);
                }
            }
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => panic!("cannot capture: {error}"),
        }
    }
}

struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    is_syn: bool,
    payload: &'a [u8],
}

impl Taken {
    fn take(&mut self, segment: &Segment<'_>) {
        let key = (segment.from, segment.to);
        if segment.is_syn {
            let first = segment.sequence.wrapping_add(1);
            if self.directions.get(&key).is_none_or(|known| known.first != first) {
                self.directions.insert(key, Direction { first, parts: BTreeMap::new() });
            }
            return;
        }
        let Some(direction) = self.directions.get_mut(&key) else { return };
        let at = segment.sequence.wrapping_sub(direction.first);
        let known = direction.parts.get(&at).map_or(0, Vec::len);
        if segment.payload.len() > known {
            direction.parts.insert(at, segment.payload.to_vec());
        }
    }
}

/// A TCP segment in an IP packet without extension headers, as everything here is.
fn segment(packet: &[u8]) -> Option<Segment<'_>> {
    let (from, to, protocol, tcp) = match packet.first()? >> 4 {
        4 => {
            let length = usize::from(packet[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let address =
                |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            // Short packets are padded; one that is put together of several may be too long for its length to be said.
            let end = if total == 0 { packet.len() } else { total };
            (IpAddr::V4(address(12)?), IpAddr::V4(address(16)?), *packet.get(9)?, packet.get(length..end)?)
        }
        6 => {
            let address =
                |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (IpAddr::V6(address(8)?), IpAddr::V6(address(24)?), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    if protocol != TCP {
        return None;
    }
    let number = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    let is_syn = tcp.get(13)? & SYN != 0;
    let (from, to) = (SocketAddr::new(from, number(0)?), SocketAddr::new(to, number(2)?));
    Some(Segment { from, to, sequence, is_syn, payload })
}

const TCP: u8 = 6;
const SYN: u8 = 2;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS13: &[u8] = &[3, 4];
/// With what encryption adds.
const LARGEST_RECORD: usize = (1 << 14) + 256;
/// `lo` is the first interface of every namespace.
const LOOPBACK: usize = 1;
