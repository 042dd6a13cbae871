//! Authorization, as rows.
//!
//! A pod's policies are one id. For each kind of source that they name there is a token; for each
//! token and protocol, rows by port prefix. Rows are complete: a longer prefix carries the bits of
//! every shorter one that covers it, so the longest match alone is the answer.
//!
//! Ports are looked up by hash, once for each length of prefix that the pod's policies have
//! ([`crate::pod_flags::prefix`]), longest first: mostly that is one, or two. A trie of all rows takes the longer
//! the more rows there are. There are five lengths and not seventeen: the verifier follows each, in every look-up.

use crate::{Addr, BePort};

abi_struct! {
    /// Key of `weft_policy`: some ports of those whom a row is about.
    pub struct PolicyKey {
        /// Id of the policies.
        pub policy: u64,
        /// Whom the row is about: [`token::ANY`], an identity, a namespace, or a [`CidrClass`].
        pub token: u64,
        /// The first of the pod's ports that it is about.
        pub port: BePort,
        /// [`crate::TCP`] or [`crate::UDP`].
        pub protocol: u8,
        /// How many of the port's leading bits those ports share: one of [`PolicyKey::LENGTHS`].
        pub length: u8,
        /// Zero.
        pub _pad: [u8; 4],
    }
}

impl PolicyKey {
    /// Of one port, of 16 in a row, of 256, of 4096, and of all.
    pub const LENGTHS: [u8; 5] = [16, 12, 8, 4, 0];

    /// The key whose ports share `length` bits, at most 16, with `port`.
    #[inline(always)]
    pub const fn around(self, port: BePort, length: u8) -> Self {
        let free = match u16::MAX.checked_shr(length as u32) {
            Some(free) => free,
            None => 0,
        };
        Self { port: BePort { be: port.be & !free.to_be() }, length, ..self }
    }
}

abi_struct! {
    /// Value of `weft_policy`.
    pub struct PolicyRow {
        /// [`policy_bits`].
        pub bits: u32,
        /// Id of the DENY rule, for events; 0 for none.
        pub deny_rule: u32,
        /// Id of the audited DENY rule, for events; 0 for none.
        pub audit_rule: u32,
        /// Zero.
        pub _pad: u32,
    }
}

abi_struct! {
    /// Data of the key of `weft_cidr` (longest prefix match).
    pub struct CidrMatch {
        /// Id of the policies.
        pub policy: u64,
        /// 4 or 6: a short IPv6 prefix must not cover mapped IPv4 addresses.
        pub family: u8,
        /// Zero.
        pub _pad: [u8; 7],
        /// The source address.
        pub addr: Addr,
    }
}

impl CidrMatch {
    /// Bits before the address.
    pub const ADDR_AT: u32 = 8 * 16;
    /// Bits of a whole key.
    pub const FULL: u32 = Self::ADDR_AT + 128;
}

abi_struct! {
    /// Value of `weft_cidr`.
    pub struct CidrClass {
        /// Token of the block.
        pub token: u64,
    }
}

/// Tokens with a fixed meaning.
pub mod token {
    /// Every source.
    pub const ANY: u64 = 0;
}

/// Bits of [`PolicyRow::bits`].
pub mod policy_bits {
    /// A DENY rule matches.
    pub const DENY: u32 = 1;
    /// An ALLOW rule matches.
    pub const ALLOW: u32 = 2;
    /// Some ALLOW policy protects this port. In rows of [`super::token::ANY`] only.
    pub const ISOLATED: u32 = 4;
    /// An audited DENY rule matches.
    pub const AUDIT_DENY: u32 = 8;
    /// An audited ALLOW rule matches.
    pub const AUDIT_ALLOW: u32 = 16;
    /// Some audited ALLOW policy protects this port. In rows of [`super::token::ANY`] only.
    pub const AUDIT_ISOLATED: u32 = 32;
    /// Enforced rules of this port ask for what only requests say: the node's proxy decides about each, and all else
    /// but [`DENY`] with it. In rows of [`super::token::ANY`] only.
    pub const JUDGED: u32 = 64;
    /// As [`JUDGED`], of audited rules: they decide nothing. In rows of [`super::token::ANY`] only.
    pub const WATCHED: u32 = 128;
    /// What an identity that is only derived from an address may still do.
    pub const UNPROVEN: u32 = DENY | AUDIT_DENY;
}
