//! What rules do, and for which sources.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use weft_abi::{TCP, UDP, pod_flags, policy_bits, token::ANY};
use weft_model::{Action, Mode, PortRange, Protocol, Rule, Source};
use weft_policy::{Applied, Protection, RuleName};

use crate::rows::token;

/// Every rule of a protection that can match, and who answers to it.
#[derive(Default)]
pub(super) struct Effects {
    /// In the order of policies and rules.
    pub(super) all: Vec<Effect>,
    /// By token, the effects on whoever answers to it.
    pub(super) tokens: BTreeMap<u64, BTreeSet<usize>>,
    /// By block, the effects on the addresses in it, without those of blocks around it.
    pub(super) blocks: BTreeMap<IpNet, BTreeSet<usize>>,
    /// Kinds of tokens that are there, but for blocks.
    pub(super) flags: u32,
    /// The names of DENY rules.
    pub(super) rules: Vec<(u32, RuleName)>,
}

/// Bits on ports.
pub(super) struct Effect {
    /// [`policy_bits`].
    pub(super) bits: u32,
    /// The DENY rule, 0 otherwise.
    pub(super) rule: u32,
    /// Where: protocol and ports.
    pub(super) ports: Vec<(u8, PortRange)>,
}

impl Effects {
    pub(super) fn of(protection: &Protection) -> Self {
        let mut effects = Self::default();
        if protection.tokens {
            effects.flags |= pod_flags::BY_REQUEST;
            let ports = vec![(TCP, PortRange { start: 0, end: u16::MAX })];
            effects.push(Effect { bits: policy_bits::JUDGED, rule: 0, ports }, None);
        }
        for applied in &protection.policies {
            effects.isolate(applied);
            for (index, rule) in applied.policy.rules.iter().enumerate() {
                effects.add(applied, index, rule);
            }
        }
        effects
    }

    /// What an ALLOW policy does by being there.
    fn isolate(&mut self, applied: &Applied) {
        let bits = match (applied.policy.action, applied.policy.mode) {
            (Action::Deny, _) => return,
            (Action::Allow, Mode::Enforce) => policy_bits::ISOLATED,
            (Action::Allow, Mode::Audit) => policy_bits::AUDIT_ISOLATED,
        };
        self.push(Effect { bits, rule: 0, ports: ports(applied, None) }, None);
    }

    fn add(&mut self, applied: &Applied, index: usize, rule: &Rule) {
        if rule.l7 {
            self.read(applied, rule);
        }
        let bits = match (applied.policy.action, applied.policy.mode) {
            (Action::Allow, _) if rule.l7 => return, // nobody here can see that it holds
            (Action::Allow, Mode::Enforce) => policy_bits::ALLOW,
            (Action::Allow, Mode::Audit) => policy_bits::AUDIT_ALLOW,
            (Action::Deny, Mode::Enforce) => policy_bits::DENY,
            (Action::Deny, Mode::Audit) => policy_bits::AUDIT_DENY,
        };
        let mut ports = ports(applied, rule.ports.as_deref());
        // What TCP carries, the proxy reads.
        ports.retain(|(protocol, _)| !rule.l7 || *protocol != TCP);
        let mut effect = Effect { bits, rule: 0, ports };
        if applied.policy.action == Action::Deny && !effect.ports.is_empty() {
            let name = RuleName { policy: applied.policy.name.clone(), index };
            effect.rule = token::rule(&name);
            self.rules.push((effect.rule, name));
        }
        self.push(effect, rule.sources.as_deref());
    }

    /// What a rule does by asking for what only requests say, whoever it is about.
    fn read(&mut self, applied: &Applied, rule: &Rule) {
        let bits = match applied.policy.mode {
            Mode::Enforce => policy_bits::JUDGED,
            Mode::Audit => policy_bits::WATCHED,
        };
        let mut ports = ports(applied, rule.ports.as_deref());
        ports.retain(|(protocol, _)| *protocol == TCP);
        if !ports.is_empty() {
            self.flags |= pod_flags::BY_REQUEST;
        }
        self.push(Effect { bits, rule: 0, ports }, None);
    }

    /// Files an effect under each of its sources; `None` is anybody.
    fn push(&mut self, effect: Effect, sources: Option<&[Source]>) {
        if effect.ports.is_empty() {
            return;
        }
        let index = self.all.len();
        self.all.push(effect);
        let Some(sources) = sources else {
            self.tokens.entry(ANY).or_default().insert(index);
            return;
        };
        for source in sources {
            let (flag, token) = match source {
                Source::ServiceAccount(account) => (pod_flags::BY_IDENTITY, token::service_account(account)),
                Source::Namespace(name) => (pod_flags::BY_NAMESPACE, token::namespace(name)),
                Source::Spiffe(_) => continue, // nobody here is proven to have it
                Source::Cidr(block) => {
                    self.blocks.entry(block.trunc()).or_default().insert(index);
                    continue;
                }
            };
            self.flags |= flag;
            self.tokens.entry(token).or_default().insert(index);
        }
    }
}

/// Ports that both the policy's target and the rule leave; a rule's ranges hold for every protocol.
fn ports(applied: &Applied, ranges: Option<&[PortRange]>) -> Vec<(u8, PortRange)> {
    let ranges = ranges.unwrap_or(&[PortRange { start: 0, end: u16::MAX }]);
    match &applied.ports {
        None => [TCP, UDP].iter().flat_map(|&tcp| ranges.iter().map(move |range| (tcp, *range))).collect(),
        Some(ports) => {
            let within = ports.iter().filter(|(_, port)| ranges.iter().any(|range| range.contains(*port)));
            within.map(|&(protocol, port)| (number(protocol), port.into())).collect()
        }
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}
