//! Pods, by network namespace and by address.

use crate::{Addr, BePort};

abi_struct! {
    /// Key of `weft_pod`: a network namespace on this node.
    pub struct NetnsKey {
        /// Its cookie (`SO_NETNS_COOKIE`): unique until the next boot.
        pub cookie: u64,
    }
}

abi_struct! {
    /// Value of `weft_pod`: an enrolled pod of this node.
    pub struct Pod {
        /// Its IPv4 address, or [`Addr::ANY`].
        pub ip4: Addr,
        /// Its IPv6 address, or [`Addr::ANY`].
        pub ip6: Addr,
        /// Token of its ServiceAccount.
        pub identity: u64,
        /// Token of its namespace.
        pub namespace: u64,
        /// Port of the listener, in its own namespace, by which its connections come to the node's proxy; 0
        /// for none.
        pub outbound: BePort,
        /// Zero.
        pub _pad: [u8; 6],
    }
}

abi_struct! {
    /// Value of `weft_pod_ip`: a pod of any node, by address.
    pub struct PodRow {
        /// Its network namespace when it is an enrolled pod of this node, else 0.
        pub netns: u64,
        /// Token of its ServiceAccount.
        pub identity: u64,
        /// Token of its namespace.
        pub namespace: u64,
        /// Id of the policies that protect it; 0 for none. Only pods of this node have one.
        pub policy: u64,
        /// [`pod_flags`].
        pub flags: u32,
        /// As [`Pod::outbound`]: nobody else may come to that port.
        pub outbound: BePort,
        /// Zero.
        pub _pad: u16,
    }
}

/// Bits of [`PodRow::flags`].
pub mod pod_flags {
    /// Enrolled in the mesh.
    pub const ENROLLED: u32 = 1;
    /// Its policies name ServiceAccounts.
    pub const BY_IDENTITY: u32 = 2;
    /// Its policies name namespaces.
    pub const BY_NAMESPACE: u32 = 4;
    /// Its policies name CIDRs.
    pub const BY_CIDR: u32 = 8;
    /// It has policies, or is about to: who dials it is attested.
    pub const GUARDED: u32 = 16;
    /// None of its policies denies, and none is audited: one row that allows is the whole answer.
    pub const ONLY_ALLOWS: u32 = 32;
}
