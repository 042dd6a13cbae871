//! Flows: what the kernel attests about them, and what it tells user space.

use crate::{Addr, BePort};

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
}

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
