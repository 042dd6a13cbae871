//! What is remembered of a socket.

use crate::{Addr, BePort};

abi_struct! {
    /// Value of `weft_sock`, in the storage of a socket.
    pub struct SocketState {
        /// The address that the app dialled, where the connection was translated.
        pub dialled: Addr,
        /// The address that the socket was sent to instead.
        pub peer: Addr,
        /// Port of `dialled`.
        pub dialled_port: BePort,
        /// Port of `peer`.
        pub peer_port: BePort,
        /// [`socket_flags`].
        pub flags: u32,
        /// Id of the frontend; 0 for none.
        pub service: u64,
        /// Id of the backend; 0 for none.
        pub backend: u64,
        /// Network namespace of the pod.
        pub netns: u64,
        /// When the connection was made, in nanoseconds since boot.
        pub since_ns: u64,
        /// Bytes that were redirected to the peer's socket, past TCP's own counters.
        pub redirected: u64,
        /// Bytes that the peer had redirected to this socket when the app last sent.
        pub arrived: u64,
        /// Id of the pair, where [`socket_flags::PAIRED`] is set; else of the last one.
        pub pair: u64,
        /// [`crate::latch`] of the sending direction.
        pub latch: u32,
        /// Messages redirected since the peer's app had last taken all of them.
        pub messages: u32,
        /// [`crate::side`] of the pair.
        pub side: u32,
        /// Rule of an audit policy that would have refused this connection; 0 for none.
        pub audit_rule: u32,
        /// That the server's policies let in what was dialled, bound to who dialled it; 0 for not known.
        pub grant: u64,
    }
}

impl SocketState {
    /// What tells this connection from all others of this boot: when it was made, and its socket's own `port`.
    ///
    /// The socket's cookie would do, too, but is made when somebody first asks for it, and that takes longer than
    /// anything else that is reported.
    #[inline(always)]
    pub const fn connection(&self, port: BePort) -> u64 {
        self.since_ns ^ (port.be as u64) << 48
    }
}

// With what the kernel adds, storage comes from the slab of 192 bytes; from the next one it costs every
// connection 0.2 µs more.
const _: () = assert!(size_of::<SocketState>() <= 120);

/// Bits of [`SocketState::flags`].
pub mod socket_flags {
    /// The destination was translated: `dialled` and `peer` hold.
    pub const TRANSLATED: u32 = 1;
    /// Counted in `weft_open`.
    pub const COUNTED: u32 = 2;
    /// The pod is the client.
    pub const CLIENT: u32 = 4;
    /// The pod is the server.
    pub const SERVER: u32 = 8;
    /// `weft_flow` has a row for this connection, which is the client's.
    pub const ATTESTED: u32 = 16;
    /// The connection was reported as opened.
    pub const REPORTED: u32 = 32;
    /// The Service asks for same-node acceleration.
    pub const ACCELERATE: u32 = 64;
    /// The client is a probe: policy changes do not end it.
    pub const PROBE: u32 = 128;
    /// In `weft_pair_sock`: bytes may pass from socket to socket.
    pub const PAIRED: u32 = 256;
    /// Whom it dials is told its pair: it joins when it is established.
    pub const PAIRS: u32 = 4096;
    /// Connected to the pod's own listener, by which it comes to the node's proxy.
    pub const PROXIED: u32 = 1024;
    /// Made by the node's proxy on behalf of the pod, or a server's that the proxy has let in: the proxy reports it.
    pub const BY_PROXY: u32 = 2048;
    /// With [`PROXIED`]: by mutual TLS, to the backend, or where it dialled if there is none.
    pub const TLS: u32 = 32768;
    /// The app sends datagrams to Services by address: `weft_udp_rev` has a row for each peer.
    pub const ASKS: u32 = 512;
    /// A server's: it is the node's proxy that has accepted.
    pub const ACCEPTED_BY_PROXY: u32 = 8192;
    /// A server's: it is the node's proxy that has dialled.
    pub const DIALLED_BY_PROXY: u32 = 16384;
    /// The connect hook has refused what the app dialled last.
    pub const REFUSED: u32 = 65536;
}

abi_struct! {
    /// Key of `weft_udp_rev`: who a datagram to an unconnected socket seems to come from.
    pub struct ReverseKey {
        /// Cookie of the socket.
        pub socket: u64,
        /// The backend's address.
        pub addr: Addr,
        /// The backend's port.
        pub port: BePort,
        /// Zero.
        pub _pad: [u8; 6],
    }
}

abi_struct! {
    /// Value of `weft_udp_rev`.
    pub struct ReverseRow {
        /// The address that the app sent to.
        pub addr: Addr,
        /// Its port.
        pub port: BePort,
        /// Zero.
        pub _pad: [u8; 6],
    }
}

abi_struct! {
    /// Key of `weft_udp_conn`: a UDP socket that is connected through a Service. Value: its backend's
    /// [`crate::BackendKey`].
    pub struct SocketKey {
        /// Its cookie.
        pub cookie: u64,
    }
}
