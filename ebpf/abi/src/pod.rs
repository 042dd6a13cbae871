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
        /// Port of the listener by which connections to it come to the node's proxy; 0 for none.
        pub inbound: BePort,
        /// Zero.
        pub _pad: [u8; 4],
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
        /// As [`Pod::inbound`]: nobody may come to that port.
        pub inbound: BePort,
    }
}

abi_struct! {
    /// Key of `weft_pod_port`: a port of a pod that has a mode of mutual TLS of its own.
    pub struct PodPortKey {
        /// The pod's address.
        pub addr: Addr,
        /// Its port.
        pub port: BePort,
        /// Zero.
        pub _pad: [u8; 6],
    }
}

abi_struct! {
    /// Value of `weft_pod_port`.
    pub struct PodPort {
        /// [`pod_flags::TLS`] and [`pod_flags::STRICT`], in the place of the pod's.
        pub flags: u32,
        /// Zero.
        pub _pad: u32,
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
    /// Between nodes it is spoken to by mutual TLS: its mode is not Disabled.
    pub const TLS: u32 = 32;
    /// From other nodes it takes nothing but mutual TLS.
    pub const STRICT: u32 = 64;
    /// Some of its ports have modes of their own.
    pub const BY_PORT: u32 = 128;
    /// None of its policies denies, and none is audited: one row that allows is the whole answer.
    pub const ONLY_ALLOWS: u32 = 256;
    /// Its policies ask for what only requests say, on some ports: connections to these come to the node's proxy.
    pub const BY_REQUEST: u32 = 512;
    /// It is on its way into the mesh, or out of it: it sends no mutual TLS, and not everybody sends it any.
    pub const PASSING: u32 = 1024;

    /// What its policies say, all of it: whoever keeps a pod's policies keeps these.
    pub const OF_POLICIES: u32 = !(ENROLLED | GUARDED | TLS | STRICT | BY_PORT | PASSING);

    /// Its policies have rows for port prefixes of this length, one of [`crate::PolicyKey::LENGTHS`].
    #[inline(always)]
    pub const fn prefix(length: u8) -> u32 {
        1 << (16 + length / 4)
    }
}
