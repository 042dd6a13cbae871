//! Flows: what the kernel attests about them, and what it tells user space.

use crate::{Addr, BePort, limits};

abi_struct! {
    /// Key of `weft_flow`: one direction of a flow.
    pub struct FlowKey {
        /// Sender.
        pub src: Addr,
        /// Receiver.
        pub dst: Addr,
        /// Sender's port.
        pub src_port: BePort,
        /// Receiver's port.
        pub dst_port: BePort,
        /// [`crate::TCP`] or [`crate::UDP`].
        pub protocol: u8,
        /// Zero.
        pub _pad: [u8; 3],
    }
}

impl FlowKey {
    /// The key of the other direction.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port, ..self }
    }

    /// Where in `weft_attested` it belongs. Others may belong there, too.
    ///
    /// A client's connections to one server are neighbours, in the order of their ports: the kernel gives one port
    /// after the other, and so a new connection's place is in the cache, as that of the one before was.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is left of it is less than the number of places"
    )]
    pub const fn place(&self) -> u32 {
        const { assert!(limits::ATTESTED.is_power_of_two()) };
        let (src, dst) = (folded(&self.src), folded(&self.dst));
        let mixed = src.wrapping_mul(ODD) ^ dst;
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(ODD) ^ self.dst_port.be as u64;
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(ODD);
        let row = (mixed >> (64 - limits::ATTESTED.ilog2())) as u32;
        // connect(2) gives even ports first, then odd ones.
        let port = self.src_port.get() as u32;
        let turn = (port >> 1) + (port & 1) * PLACES / 2;
        (row + turn) & (PLACES - 1)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are some thousands")]
const PLACES: u32 = limits::ATTESTED as u32;

abi_struct! {
    /// Value of `weft_flow`: the kernel saw an enrolled pod of this node, or a probe, send this.
    pub struct FlowRecord {
        /// Token of the sender's ServiceAccount.
        pub identity: u64,
        /// Token of its namespace.
        pub namespace: u64,
        /// When the client's last SYN, or its last datagram, was sent, in nanoseconds since boot.
        pub used_ns: u64,
        /// Id of the pair that the client wants to form with the server's socket; 0 for none.
        pub pair: u64,
        /// Id of the policies that are known to let this very connection in, and none of them audits it; 0 for
        /// none.
        pub allowed: u64,
        /// [`flow_flags`].
        pub flags: u32,
        /// Zero.
        pub _pad: u32,
    }
}

/// Both halves of an address.
#[inline(always)]
const fn folded(addr: &Addr) -> u64 {
    let words = addr.v6_words();
    (words[0] ^ words[3]) as u64 | ((words[1] ^ words[2]) as u64) << 32
}

/// 2^64 / φ, odd: the upper bits of its multiples are spread evenly (Knuth, vol. 3, 6.4).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

abi_struct! {
    /// Value of `weft_attested`, at [`FlowKey::place`]: what `weft_flow` would say of a TCP connection.
    ///
    /// It is somebody's where `record.used_ns` is neither of [`attested_by`].
    pub struct Attested {
        /// Whose it is.
        pub key: FlowKey,
        /// What is attested.
        pub record: FlowRecord,
    }
}

/// Values of [`FlowRecord::used_ns`] in `weft_attested` that are no times.
pub mod attested_by {
    /// The place is free.
    pub const NOBODY: u64 = 0;
    /// Somebody is about to have it.
    pub const COMING: u64 = 1;
}

/// [`FlowKey::protocol`] of a row that says: a connected UDP socket of the sender takes answers from this
/// receiver. The socket's own port, 0 in the key, was not chosen when it connected.
pub const CONNECTED_UDP: u8 = crate::UDP | 0x80;

/// Bits of [`FlowRecord::flags`].
pub mod flow_flags {
    /// Sent by the probe cgroup.
    pub const PROBE: u32 = 1;
    /// Sent by the node's proxy on behalf of the pod.
    pub const BY_PROXY: u32 = 2;
    /// Sent by the node's proxy, inside the pod that it goes to and from another's address: it has let in who is behind it.
    pub const LET_IN: u32 = 4;
}

abi_struct! {
    /// What `weft_events` carries.
    pub struct FlowEvent {
        /// Nanoseconds since boot; of an opened connection, when it was dialled, or accepted by the server.
        pub time_ns: u64,
        /// [`crate::SocketState::connection`] of a TCP connection that is established; else 0.
        pub connection: u64,
        /// Network namespace of the pod that saw it; 0 where the hook does not know.
        pub netns: u64,
        /// Id of the frontend; 0 for none.
        pub service: u64,
        /// Payload bytes from client to server.
        pub sent: u64,
        /// Payload bytes from server to client.
        pub received: u64,
        /// Since the connection was made, in nanoseconds.
        pub duration_ns: u64,
        /// Of `sent` and `received`, what was redirected between sockets.
        pub redirected: u64,
        /// Client.
        pub src: Addr,
        /// Server.
        pub dst: Addr,
        /// What the client dialled.
        pub dialled: Addr,
        /// Client's port.
        pub src_port: BePort,
        /// Server's port.
        pub dst_port: BePort,
        /// Port of `dialled`.
        pub dialled_port: BePort,
        /// [`crate::TCP`] or [`crate::UDP`].
        pub protocol: u8,
        /// [`event_kind`].
        pub kind: u8,
        /// [`crate::Reason`].
        pub reason: u8,
        /// [`path`].
        pub path: u8,
        /// 1 when the client's side saw it, 0 when the server's did.
        pub client_side: u8,
        /// 1 when the kernel attested the client's identity.
        pub attested: u8,
        /// Id of the rule that decided; 0 for none.
        pub rule: u32,
        /// Smoothed round-trip time in microseconds.
        pub rtt_us: u32,
        /// Segments sent again.
        pub retransmits: u32,
    }
}

/// Values of [`FlowEvent::kind`].
pub mod event_kind {
    /// A TCP connection was established, or a first datagram sent.
    pub const OPENED: u8 = 1;
    /// It ended.
    pub const CLOSED: u8 = 2;
    /// It was refused.
    pub const DENIED: u8 = 3;
    /// An audit policy would have refused it.
    pub const AUDIT: u8 = 4;
}

/// Values of [`FlowEvent::path`].
pub mod path {
    /// The app's socket talks to the backend.
    pub const KERNEL: u8 = 0;
    /// As `KERNEL`, with redirection between the sockets of this node.
    pub const ACCELERATED: u8 = 1;
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn connections_that_differ_in_little_seldom_meet_in_a_place() {
        let one = |n: u32| key(Ipv4Addr::new(10, 244, 1, 7).into(), 32_768 + 2 * port(n));
        assert_spread("ports of one client", one);
        assert_spread("clients with one port", |n| key(Ipv4Addr::from(0x0af4_0000 + n).into(), 40_000));
        let low = |n: u32| Ipv6Addr::from(0xfd00_0010_0244_u128 << 80 | u128::from(n));
        assert_spread("clients over IPv6", |n| key(low(n).into(), 40_000));
        let high = |n: u32| Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(n) << 64 | 7);
        assert_spread("networks of IPv6", |n| key(high(n).into(), 40_000));
        assert_spread("ports of servers", |n| FlowKey { dst_port: BePort::new(1_000 + port(n)), ..one(0) });
        let servers = |n: u32| Addr::from(Ipv4Addr::from(0x0af4_0000 + n));
        assert_spread("servers", |n| FlowKey { dst: servers(n), ..one(0) });
    }

    #[test]
    fn the_next_connection_of_a_client_to_a_server_is_beside_its_last_and_odd_ports_are_no_ones_neighbours() {
        let client = Ipv4Addr::new(10, 244, 1, 7).into();
        let place = |port: u16| key(client, port).place();
        for port in (32_768..60_000).step_by(2) {
            assert_eq!(place(port + 2), (place(port) + 1) % PLACES);
            assert_eq!(place(port + 1), (place(port) + PLACES / 2) % PLACES);
        }
    }

    /// Of a thousand, thrown at random, some 970 would have a place of their own or be the first there.
    #[track_caller]
    fn assert_spread(what: &str, key: impl Fn(u32) -> FlowKey) {
        let mut taken = [false; limits::ATTESTED];
        let firsts = (0..1_000).filter(|n| !core::mem::replace(&mut taken[key(*n).place() as usize], true));
        let firsts = firsts.count();
        assert!(firsts > 940, "{what}: {firsts}");
    }

    fn port(n: u32) -> u16 {
        n.try_into().unwrap()
    }

    fn key(src: IpAddr, src_port: u16) -> FlowKey {
        FlowKey {
            src: src.into(),
            dst: Ipv4Addr::new(10, 244, 1, 9).into(),
            src_port: BePort::new(src_port),
            dst_port: BePort::new(8080),
            protocol: crate::TCP,
            _pad: [0; 3],
        }
    }
}
