//! Packets made by hand: what a pod with raw sockets can send and see.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::Pod;

/// A header between that of IPv6 and the segment, as small as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Options for each hop: padding.
    HopByHop = 0,
    /// A route that has been gone to its end.
    Routing = 43,
    /// The only fragment of its packet (RFC 6946).
    Fragment = 44,
    /// Options for the destination: padding.
    Destination = 60,
}

/// Sends one SYN from `pod` that claims to come from `source`.
pub fn send_syn(pod: &Pod, source: SocketAddr, destination: SocketAddr) -> io::Result<()> {
    send_syn_behind(pod, &[], source, destination)
}

/// As [`send_syn`], behind IPv6 extension headers.
pub fn send_syn_behind(
    pod: &Pod,
    headers: &[Extension],
    source: SocketAddr,
    destination: SocketAddr,
) -> io::Result<()> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend(1_u32.to_be_bytes());
    segment.extend(0_u32.to_be_bytes());
    segment.extend([5 << 4, Segment::SYN]);
    segment.extend(65_535_u16.to_be_bytes());
    segment.extend([0; 4]);
    send(pod, headers, (source.ip(), destination.ip()), TCP, segment, 16)
}

/// Sends one datagram from `pod` that claims to come from `source`.
pub fn send_datagram(
    pod: &Pod,
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
) -> io::Result<()> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend(u16::try_from(8 + payload.len()).map_err(io::Error::other)?.to_be_bytes());
    datagram.extend([0; 2]);
    datagram.extend(payload);
    send(pod, &[], (source.ip(), destination.ip()), UDP, datagram, 6)
}

impl Extension {
    /// Before what has the number `next`. All are of eight bytes, so that their length is zero where they have one.
    fn bytes(self, next: u8) -> [u8; 8] {
        match self {
            // PadN with four bytes.
            Self::HopByHop | Self::Destination => [next, 0, 1, 4, 0, 0, 0, 0],
            // A type for experiments, of which no segment is left.
            Self::Routing => [next, 0, 253, 0, 0, 0, 0, 0],
            // No offset, and no more of it to come.
            Self::Fragment => [next, 0, 0, 0, 0, 0, 0, 1],
        }
    }
}

/// Sees the TCP segments of one address family that reach a pod from its making on.
pub struct Sniffer {
    socket: UdpSocket,
    v4: bool,
}

/// A TCP segment that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it, by its header.
    pub source: SocketAddr,
    /// The port it was sent to.
    pub destination_port: u16,
    /// Its flags.
    pub flags: u8,
}

impl Segment {
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Resets a connection.
    pub const RST: u8 = 4;
    /// Acknowledges.
    pub const ACK: u8 = 16;

    /// Whether it accepts a connection.
    pub fn accepts(&self) -> bool {
        self.flags & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    /// Whether it resets a connection.
    pub fn resets(&self) -> bool {
        self.flags & Self::RST != 0
    }
}

impl Sniffer {
    /// Begins to look at what reaches `pod`, on the address family of `address`.
    pub fn new(pod: &Pod, address: IpAddr) -> io::Result<Self> {
        let v4 = address.is_ipv4();
        let domain = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let socket = pod.socket(domain, libc::SOCK_RAW, libc::IPPROTO_TCP)?;
        // A raw socket reads like a UDP one: whole packets, with their sender.
        Ok(Self { socket: UdpSocket::from(socket), v4 })
    }

    /// The next segment for which `wanted` holds; none within `limit`.
    pub fn wait(&self, limit: Duration, wanted: impl Fn(&Segment) -> bool) -> io::Result<Option<Segment>> {
        let deadline = Instant::now() + limit;
        let mut packet = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut packet) {
                Ok((len, from)) => {
                    let segment = self.segment(&packet[..len], from.ip()).filter(&wanted);
                    if segment.is_some() {
                        return Ok(segment);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// An IPv4 raw socket gives the IP header too, an IPv6 one does not.
    fn segment(&self, packet: &[u8], from: IpAddr) -> Option<Segment> {
        let header = if self.v4 { usize::from(packet.first()? & 15) * 4 } else { 0 };
        let tcp = packet.get(header..)?;
        let port = |at: usize| Some(u16::from_be_bytes([*tcp.get(at)?, *tcp.get(at + 1)?]));
        Some(Segment {
            source: SocketAddr::new(from, port(0)?),
            destination_port: port(2)?,
            flags: *tcp.get(13)?,
        })
    }
}

/// Puts an IP header and `headers` before `payload`, its checksum at `checksum_at`, and sends it from one address to
/// another.
fn send(
    pod: &Pod,
    headers: &[Extension],
    (source, destination): (IpAddr, IpAddr),
    protocol: u8,
    mut payload: Vec<u8>,
    checksum_at: usize,
) -> io::Result<()> {
    let sum = checksum(source, destination, protocol, &payload);
    payload[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let numbers = headers.iter().map(|header| *header as u8).chain([protocol]);
    let first = headers.first().map_or(protocol, |header| *header as u8);
    let extensions = headers.iter().zip(numbers.skip(1)).flat_map(|(header, next)| header.bytes(next));
    let rest: Vec<u8> = extensions.chain(payload).collect();
    let mut packet = ip_header(source, destination, first, rest.len())?;
    packet.extend(rest);
    let domain = if destination.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = UdpSocket::from(pod.socket(domain, libc::SOCK_RAW, libc::IPPROTO_RAW)?);
    socket.send_to(&packet, SocketAddr::new(destination, 0)).map(drop)
}

fn ip_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> io::Result<Vec<u8>> {
    let len = u16::try_from(len).map_err(io::Error::other)?;
    let mut header = Vec::with_capacity(40);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // The kernel fills in the checksum, and the identification where it is zero.
            header.extend([4 << 4 | 5, 0]);
            header.extend((20 + len).to_be_bytes());
            header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            header.extend([6 << 4, 0, 0, 0]);
            header.extend(len.to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(source.octets());
            header.extend(destination.octets());
        }
        _ => return Err(io::Error::other("both addresses must be of one family")),
    }
    Ok(header)
}

/// The checksum of TCP and UDP, over the pseudo header and `payload`, whose own checksum is zero.
fn checksum(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut bytes = [octets(source), octets(destination), payload.to_vec()].concat();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let words = bytes.chunks_exact(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u64>() + u64::from(protocol) + payload.len() as u64;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded into 16 bits")
}

const TCP: u8 = 6;
const UDP: u8 = 17;
