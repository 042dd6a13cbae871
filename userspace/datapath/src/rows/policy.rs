//! The rows by which the kernel decides what [`weft_policy::open`] decides.
//!
//! A rule becomes bits. They stand under a token for each of its sources, on every port prefix of its
//! ranges. The kernel takes one row a token, that of the longest prefix, and ORs their bits; so a row
//! carries the bits of every shorter prefix too, and a CIDR's rows those of every block around it.

mod effects;
mod ports;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use weft_abi::{Addr, BePort, CidrClass, CidrMatch, PolicyKey, PolicyRow, pod_flags, policy_bits};
use weft_policy::{Protection, RuleName};

use self::effects::Effects;
use super::token;

/// What the kernel needs to know of one [`Protection`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRows {
    /// Hash of all that follows; 0 when nothing protects.
    pub id: u64,
    /// [`pod_flags`]: which kinds of sources and lengths of port prefixes have rows, and whether all that rows do is
    /// to allow.
    pub flags: u32,
    /// Rows of `weft_policy`.
    pub policy: Vec<(PolicyKey, PolicyRow)>,
    /// Rows of `weft_cidr`, each after its prefix length.
    pub cidr: Vec<((u32, CidrMatch), CidrClass)>,
    /// The names of the DENY rules that rows point to.
    pub rules: Vec<(u32, RuleName)>,
}

/// Compiles `protection`. Equal content gives equal rows, in the same order.
pub fn compile(protection: &Protection) -> PolicyRows {
    let mut effects = Effects::of(protection);
    let blocks = inherit(std::mem::take(&mut effects.blocks));
    let cidr = blocks.iter().map(|(block, list)| (cidr_key(*block), CidrClass { token: class(list) }));
    let mut rows = PolicyRows { flags: effects.flags, cidr: cidr.collect(), ..PolicyRows::default() };
    if !rows.cidr.is_empty() {
        rows.flags |= pod_flags::BY_CIDR;
    }
    effects.tokens.extend(blocks.into_values().map(|list| (class(&list), list)));
    for (&token, list) in &effects.tokens {
        let of_token = ports::table(&effects.all, list).into_iter();
        rows.policy.extend(of_token.map(|(prefix, row)| (policy_key(token, prefix), row)));
    }
    if !rows.policy.is_empty() && rows.policy.iter().all(|(_, row)| row.bits & !JUST_ALLOWING == 0) {
        rows.flags |= pod_flags::ONLY_ALLOWS;
    }
    rows.flags |= rows.policy.iter().fold(0, |flags, (key, _)| flags | pod_flags::prefix(key.length));
    rows.rules = effects.rules;
    rows.identify();
    rows
}

impl PolicyRows {
    /// Hashes the content and writes the hash into the keys, where it keeps policies apart.
    fn identify(&mut self) {
        if self.policy.is_empty() {
            return;
        }
        let mut content = Vec::with_capacity(32 * (self.policy.len() + self.cidr.len()));
        for (key, row) in &self.policy {
            content.extend(key.token.to_be_bytes());
            content.extend([key.protocol, key.length]);
            content.extend(key.port.get().to_be_bytes());
            for number in [row.bits, row.deny_rule, row.audit_rule] {
                content.extend(number.to_be_bytes());
            }
        }
        for ((length, key), class) in &self.cidr {
            content.extend(length.to_be_bytes());
            content.push(key.family);
            content.extend(key.addr.octets());
            content.extend(class.token.to_be_bytes());
        }
        self.id = token::id("policy", [&*content]);
        self.policy.iter_mut().for_each(|(key, _)| key.policy = self.id);
        self.cidr.iter_mut().for_each(|((_, key), _)| key.policy = self.id);
    }
}

/// Adds to each block the effects of every block around it.
fn inherit(blocks: BTreeMap<IpNet, BTreeSet<usize>>) -> BTreeMap<IpNet, BTreeSet<usize>> {
    let mut complete: BTreeMap<IpNet, BTreeSet<usize>> = BTreeMap::new();
    let mut around: Vec<IpNet> = Vec::new(); // in this order a block comes right after what is around it
    for (block, mut list) in blocks {
        while around.pop_if(|outer| !outer.contains(&block)).is_some() {}
        if let Some(outer) = around.last() {
            list.extend(&complete[outer]);
        }
        around.push(block);
        complete.insert(block, list);
    }
    complete
}

/// The token of all blocks with these effects.
fn class(list: &BTreeSet<usize>) -> u64 {
    let list: Vec<_> = list.iter().map(|&effect| (effect as u64).to_be_bytes()).collect();
    token::id("cidr", list.iter().map(<[u8; 8]>::as_slice))
}

fn policy_key(token: u64, prefix: ports::Prefix) -> PolicyKey {
    let ports::Prefix { protocol, start, length } = prefix;
    PolicyKey { token, protocol, length, port: BePort::new(start), ..PolicyKey::zeroed() }
}

fn cidr_key(block: IpNet) -> (u32, CidrMatch) {
    let (family, mapped) = if block.addr().is_ipv4() { (4, 96) } else { (6, 0) };
    let key = CidrMatch { family, addr: Addr::from(block.network()), ..CidrMatch::zeroed() };
    (CidrMatch::ADDR_AT + mapped + u32::from(block.prefix_len()), key)
}

/// What rows of enforced ALLOW policies have.
const JUST_ALLOWING: u32 = policy_bits::ALLOW | policy_bits::ISOLATED;

#[cfg(test)]
mod tests;
