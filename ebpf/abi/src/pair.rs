//! Pairs: both sockets of a connection between two pods of one node.

abi_struct! {
    /// Key of `weft_pair`.
    pub struct PairKey {
        /// The cookie of the client's socket, and in the low 16 bits how often it has dialled.
        pub id: u64,
    }
}

abi_struct! {
    /// Value of `weft_pair`: what the two sockets must know of each other. Arrays go by [`side`].
    ///
    /// It is there from when the client's socket joined until that socket is closed.
    pub struct Pair {
        /// Bytes that each side has redirected to the other.
        pub redirected: [u64; 2],
        /// Where each side's socket is in the kernel's memory; 0 until it has joined.
        pub sockets: [u64; 2],
        /// 1 when each side has begun to redirect, or is about to.
        pub begun: [u64; 2],
        /// 1 where each side never redirects, whatever it sends.
        pub native: [u64; 2],
        /// 1 once each side has come to send through TCP: it redirects nothing any more.
        pub left: [u64; 2],
    }
}

abi_struct! {
    /// Key of `weft_pair_sock`: one socket of a pair.
    pub struct PairEnd {
        /// Id of the pair.
        pub id: u64,
        /// [`side`].
        pub side: u32,
        /// Zero.
        pub _pad: u32,
    }
}

/// The two ends of a pair.
pub mod side {
    /// Who dialled.
    pub const CLIENT: u32 = 0;
    /// Who accepted.
    pub const SERVER: u32 = 1;
}

/// `SO_PRIORITY` of a socket by which the node's proxy says that what it sends next may be redirected: its messages
/// are short. Its packets queue as those of priority 0 do (`TC_PRIO_INTERACTIVE_BULK`), and nobody needs a privilege
/// for it; of any other socket it means nothing.
pub const SHORT_MESSAGES: u32 = 4;

/// Values of [`crate::SocketState::latch`]. They only grow.
pub mod latch {
    /// Nothing was sent yet.
    pub const UNDECIDED: u32 = 0;
    /// Everything so far was redirected.
    pub const REDIRECT: u32 = 1;
    /// Through TCP from now on.
    pub const NATIVE: u32 = 2;
}
