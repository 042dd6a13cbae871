//! Run-time switches of the programs.

abi_struct! {
    /// The one entry of `weft_cfg`.
    pub struct Config {
        /// [`crate::SCHEMA`] of whoever wrote it.
        pub schema: u32,
        /// [`config_flags`].
        pub flags: u32,
        /// Id of the cgroup whose connections are probes; 0 for none.
        pub probe_cgroup: u64,
        /// Id of the cgroup of the node's proxy; 0 for none. Its own connections are not sent to it.
        pub proxy_cgroup: u64,
        /// How long the proxy counts as there after it renewed its lease, in nanoseconds.
        pub proxy_lease_ns: u64,
        /// How long after a datagram its replies may come in, in nanoseconds.
        pub udp_reply_ns: u64,
        /// How long an attestation holds after the client's last SYN, in nanoseconds: a SYN cookie's ACK reaches
        /// the server a round trip later.
        pub attest_grace_ns: u64,
        /// Bytes, what the kernel needs to hold them included, that one direction may redirect ahead of what
        /// its reader has taken.
        pub accelerate_budget: u32,
        /// Largest write that is worth redirecting, in bytes.
        pub accelerate_write: u32,
    }
}

/// Bits of [`Config::flags`].
pub mod config_flags {
    /// Balance for every socket under the cgroup, not only for enrolled pods.
    pub const SCOPE_NODE: u32 = 1;
    /// Same-node acceleration may start on new connections.
    pub const ACCELERATE: u32 = 2;
    /// What apps read of the node's proxy may be redirected without their Service asking for it, where the proxy
    /// says so.
    pub const ACCELERATE_APPS: u32 = 4;
    /// What the node's proxy reads may be redirected.
    pub const ACCELERATE_PROXY: u32 = 8;
    /// Policies of some pod of this node read requests: its connections are the node's proxy's.
    pub const READS: u32 = 16;
}
