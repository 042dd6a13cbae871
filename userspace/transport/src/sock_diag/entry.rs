//! What is known of one socket.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A socket as the kernel lists it. Addresses that are IPv4 mapped into IPv6 are shown as IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its state. A connected UDP socket is `Established`.
    pub state: State,
    /// Its own address.
    pub local: SocketAddr,
    /// The address of the other end; unspecified for a listener.
    pub remote: SocketAddr,
    /// The number that eBPF programs know it by.
    pub cookie: u64,
    /// The inode behind its file descriptors; 0 when no process holds it any more.
    pub inode: u32,
    /// The user that made it.
    pub uid: u32,
    /// The id of the cgroup v2 that it was made in; 0 where the kernel does not tell.
    pub cgroup: u64,
    /// Set by [`super::Query::with_info`], for TCP in a state that has it.
    pub info: Option<TcpInfo>,
    /// Set by [`super::Query::with_storage`], where the map has a value for this socket.
    pub storage: Option<Vec<u8>>,
    /// The device it is bound to; 0 for none.
    pub(super) interface: u32,
}

/// The protocol of a socket. MPTCP is seen through its TCP subflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The state of a socket, numbered as in the kernel's `tcp_states.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Connected.
    Established = 1,
    /// Waits for the answer to its SYN.
    SynSent,
    /// Has answered a SYN.
    SynReceived,
    /// Has sent its FIN.
    FinWait1,
    /// Its FIN was acknowledged.
    FinWait2,
    /// Closed; remembered for stray segments.
    TimeWait,
    /// Not connected.
    Close,
    /// The other end has sent its FIN.
    CloseWait,
    /// Has sent its FIN after the other end's.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both ends have sent their FIN at once.
    Closing,
    /// Has answered a SYN that no socket of its own stands for yet.
    NewSynReceived,
}

/// A set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States(u32);

/// What TCP has counted and measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes of payload sent, each once.
    pub bytes_sent: u64,
    /// Bytes of payload received in order; one more once the other end's FIN was received.
    pub bytes_received: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Segments that were sent again.
    pub retransmits: u32,
}

impl State {
    pub(super) fn from_kernel(state: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u8 == state)
    }

    const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynReceived,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynReceived,
    ];
}

impl States {
    /// The states of a socket that has sent its end and has not got the other's.
    pub const SENT_END: Self = Self::of(&[State::FinWait1, State::FinWait2]);

    /// The states in which data may still be on its way: everything but listeners, sockets that are
    /// not connected, and those that only wait for stray segments.
    pub const LIVE: Self = Self::of(&[
        State::Established,
        State::SynSent,
        State::SynReceived,
        State::NewSynReceived,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::LastAck,
        State::Closing,
    ]);

    /// The set of `states`.
    pub const fn of(states: &[State]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < states.len() {
            bits |= 1 << states[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
