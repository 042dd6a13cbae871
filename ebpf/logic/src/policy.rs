//! Whether a pod's policies let a client in, from rows.

use weft_abi::{Addr, BePort, CidrMatch, PolicyKey, PolicyRow, Reason, TCP, pod_flags, policy_bits, token};

use crate::Tables;

/// Who asks for what.
pub struct Request {
    /// Id of the pod's policies, not 0.
    pub policy: u64,
    /// [`pod_flags`] of the pod.
    pub flags: u32,
    /// The client's address.
    pub source: Addr,
    /// Token of the client's ServiceAccount; 0 for unknown.
    pub identity: u64,
    /// Token of the client's namespace; 0 for unknown.
    pub namespace: u64,
    /// The identity is attested, not only derived from the address.
    pub proven: bool,
    /// [`weft_abi::TCP`] or [`weft_abi::UDP`].
    pub protocol: u8,
    /// The pod's port.
    pub port: BePort,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason.
    pub reason: Reason,
    /// Id of the rule; 0 where none stands for it.
    pub rule: u32,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What the policies in force say.
    pub verdict: Denial,
    /// What the audited policies, by themselves, would say.
    pub audit: Denial,
}

impl Ruling {
    /// Allowed, and no audit policy objects.
    pub const ALLOWED: Self = Self { verdict: Denial::NONE, audit: Denial::NONE };

    /// The refusal, if it is one.
    #[inline(always)]
    pub fn denial(&self) -> Option<Denial> {
        (self.verdict.reason != Reason::NONE).then_some(self.verdict)
    }
}

impl Denial {
    /// Not refused.
    pub const NONE: Self = Self { reason: Reason::NONE, rule: 0 };
    /// Not refused here: the node's proxy decides about each request.
    pub const JUDGED: Self = Self { reason: Reason::NONE, rule: 1 };
    /// Not refused: the node's proxy shows each request to audited policies.
    pub const WATCHED: Self = Self { reason: Reason::NONE, rule: 2 };
}

/// What rows say together.
#[derive(Clone, Copy)]
struct Found {
    bits: u32,
    /// Bits that an unproven identity would have had if it were proven.
    unproven: u32,
    deny_rule: u32,
    audit_rule: u32,
}

/// Decides by the rows of every token that the client answers to.
///
/// Hooks ask [`Tables::authorize`].
#[inline(always)]
pub fn authorize<T: Tables>(tables: &T, request: &Request) -> Ruling {
    let mut found = Found { bits: 0, unproven: 0, deny_rule: 0, audit_rule: 0 };
    // Who is named is allowed most often, and a block is looked up longest.
    if request.flags & pod_flags::BY_IDENTITY != 0 && request.identity != 0 {
        found.add(row(tables, request, request.identity), request.proven);
        if found.suffices(request) {
            return Ruling::ALLOWED;
        }
    }
    if request.flags & pod_flags::BY_NAMESPACE != 0 && request.namespace != 0 {
        found.add(row(tables, request, request.namespace), request.proven);
        if found.suffices(request) {
            return Ruling::ALLOWED;
        }
    }
    found.add(row(tables, request, token::ANY), true);
    if found.suffices(request) {
        return Ruling::ALLOWED;
    }
    if request.flags & pod_flags::BY_CIDR != 0
        && let Some(class) = tables.cidr(&block_key(request))
    {
        found.add(row(tables, request, class), true);
    }
    Ruling { verdict: found.verdict(), audit: found.audit() }
}

impl Found {
    #[inline(always)]
    fn add(&mut self, row: Option<PolicyRow>, proven: bool) {
        let Some(row) = row else { return };
        self.bits |= if proven { row.bits } else { row.bits & policy_bits::UNPROVEN };
        self.unproven |= if proven { 0 } else { row.bits };
        self.deny_rule = if row.deny_rule != 0 { row.deny_rule } else { self.deny_rule };
        self.audit_rule = if row.audit_rule != 0 { row.audit_rule } else { self.audit_rule };
    }

    /// Whether nothing that another row says can change the answer.
    #[inline(always)]
    fn suffices(&self, request: &Request) -> bool {
        request.flags & pod_flags::ONLY_ALLOWS != 0 && self.bits & policy_bits::ALLOW != 0
    }

    #[inline(always)]
    fn verdict(self) -> Denial {
        if self.bits & (policy_bits::JUDGED | policy_bits::DENY) == policy_bits::JUDGED {
            return Denial::JUDGED;
        }
        let said = self.judge(policy_bits::DENY, policy_bits::ISOLATED, policy_bits::ALLOW, self.deny_rule);
        match said.reason {
            Reason::NONE if self.bits & policy_bits::WATCHED != 0 => Denial::WATCHED,
            _ => said,
        }
    }

    #[inline(always)]
    fn audit(self) -> Denial {
        // What requests are shown to, connections are not.
        if self.bits & READ != 0 {
            return Denial::NONE;
        }
        let (deny, isolated) = (policy_bits::AUDIT_DENY, policy_bits::AUDIT_ISOLATED);
        self.judge(deny, isolated, policy_bits::AUDIT_ALLOW, self.audit_rule)
    }

    #[inline(always)]
    fn judge(self, deny: u32, isolated: u32, allow: u32, rule: u32) -> Denial {
        if self.bits & deny != 0 {
            Denial { reason: Reason::POLICY_DENIED, rule }
        } else if self.bits & isolated == 0 || self.bits & allow != 0 {
            Denial::NONE
        } else if self.unproven & allow != 0 {
            Denial { reason: Reason::IDENTITY_UNPROVEN, rule: 0 }
        } else {
            Denial { reason: Reason::NOT_ALLOWED, rule: 0 }
        }
    }
}

/// Whether the proxy reads what comes to a port of a pod with these policies.
///
/// A BPF function of its own: few pods have such policies, and none of the others shall need its stack.
#[inline(never)]
pub(crate) fn reads_requests<T: Tables>(tables: &T, policy: u64, flags: u32, port: BePort) -> bool {
    let key = PolicyKey { policy, token: token::ANY, protocol: TCP, ..PolicyKey::zeroed() };
    longest(tables, &key, flags, port).is_some_and(|row| row.bits & READ != 0)
}

#[inline(always)]
fn row<T: Tables>(tables: &T, request: &Request, token: u64) -> Option<PolicyRow> {
    let key = PolicyKey { policy: request.policy, token, protocol: request.protocol, ..PolicyKey::zeroed() };
    longest(tables, &key, request.flags, request.port).copied()
}

/// The row of the longest prefix that holds `port`, of the lengths that the policies have.
#[inline(always)]
fn longest<'a, T: Tables>(tables: &'a T, key: &PolicyKey, flags: u32, port: BePort) -> Option<&'a PolicyRow> {
    let mut i = 0;
    while i < PolicyKey::LENGTHS.len() {
        let length = PolicyKey::LENGTHS[i];
        if flags & pod_flags::prefix(length) != 0
            && let Some(row) = tables.policy(&key.around(port, length))
        {
            return Some(row);
        }
        i += 1;
    }
    None
}

const READ: u32 = policy_bits::JUDGED | policy_bits::WATCHED;

#[inline(always)]
fn block_key(request: &Request) -> CidrMatch {
    let family = if request.source.is_v4() { 4 } else { 6 };
    CidrMatch { policy: request.policy, family, _pad: [0; 7], addr: request.source }
}

#[cfg(test)]
mod tests;
