//! Whether a connection may be made.

use std::{fmt, net::IpAddr};

use weft_abi::Reason;
use weft_model::{Action, Mode, ObjectName, Protocol, Rule, ServiceAccount, Source};

use crate::{Applied, Protection};

/// A connection that wants to reach a protected workload.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The address it comes from. An IPv4-mapped one counts as IPv4.
    pub source: IpAddr,
    /// Who is behind that address.
    pub identity: Identity<'a>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The workload's port, after translation.
    pub port: u16,
}

/// How much is known of who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// A certificate or the kernel of this node proves it.
    Proven(&'a ServiceAccount),
    /// The address belongs to a pod with this ServiceAccount: enough to deny, not to allow.
    FromAddress(&'a ServiceAccount),
    /// Nothing.
    Unknown,
}

/// What [`decide`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why it is refused; [`Reason::NONE`] when it is allowed.
    pub reason: Reason,
    /// The rule that decided: the one that denies or allows, or the one that would have allowed a
    /// proven identity. `None` where it is the lack of rules that decides.
    pub rule: Option<RuleName>,
    /// What the audited policies alone would have refused.
    pub audit: Option<Audit>,
}

/// Why the audited policies would have refused a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Why; never [`Reason::NONE`].
    pub reason: Reason,
    /// The rule, as in [`Decision::rule`].
    pub rule: Option<RuleName>,
}

/// The name of a rule, shown as `namespace/policy rules[index]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName {
    /// Its policy.
    pub policy: ObjectName,
    /// Its place in `spec.rules`, from 0.
    pub index: usize,
}

/// Decides about `request`. Any DENY rule that matches refuses it; without an ALLOW policy for the
/// port it is allowed; else an ALLOW rule has to match. Enforced and audited policies are two sets
/// that do not see each other, and only the first one decides.
pub fn decide(protection: &Protection, request: &Request<'_>) -> Decision {
    let request = Request { source: request.source.to_canonical(), ..*request };
    let (reason, rule) = judge(protection, Mode::Enforce, &request);
    let (audit, audit_rule) = judge(protection, Mode::Audit, &request);
    let audit = (audit != Reason::NONE).then_some(Audit { reason: audit, rule: audit_rule });
    Decision { reason, rule, audit }
}

impl Decision {
    /// Whether the connection may be made.
    pub fn allowed(&self) -> bool {
        self.reason == Reason::NONE
    }
}

impl<'a> Identity<'a> {
    /// The ServiceAccount, where it is proven.
    pub fn proven(self) -> Option<&'a ServiceAccount> {
        match self {
            Self::Proven(account) => Some(account),
            Self::FromAddress(_) | Self::Unknown => None,
        }
    }

    /// The ServiceAccount, proven or not.
    pub fn claimed(self) -> Option<&'a ServiceAccount> {
        match self {
            Self::Proven(account) | Self::FromAddress(account) => Some(account),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules[{}]", self.policy, self.index)
    }
}

/// Decides by the policies of one mode.
fn judge(protection: &Protection, mode: Mode, request: &Request<'_>) -> (Reason, Option<RuleName>) {
    let of = |action| {
        protection.policies.iter().filter(move |applied| {
            applied.policy.mode == mode
                && applied.policy.action == action
                && applied.covers(request.protocol, request.port)
        })
    };
    let (proven, claimed) = (request.identity.proven(), request.identity.claimed());
    if let Some(rule) = of(Action::Deny).find_map(|denied| matching(denied, claimed, request)) {
        return (Reason::POLICY_DENIED, Some(rule));
    }
    if of(Action::Allow).next().is_none() {
        return (Reason::NONE, None);
    }
    if let Some(rule) = of(Action::Allow).find_map(|allowed| matching(allowed, proven, request)) {
        return (Reason::NONE, Some(rule));
    }
    match of(Action::Allow).find_map(|allowed| matching(allowed, claimed, request)) {
        Some(rule) => (Reason::IDENTITY_UNPROVEN, Some(rule)),
        None => (Reason::NOT_ALLOWED, None),
    }
}

/// The first rule of a policy that matches a connection from `identity`.
fn matching(applied: &Applied, identity: Option<&ServiceAccount>, request: &Request<'_>) -> Option<RuleName> {
    let policy = &applied.policy;
    // What a rule asks of a request cannot be seen here: fail closed.
    let visible = |rule: &Rule| !rule.l7 || policy.action == Action::Deny;
    let index = policy.rules.iter().position(|rule| visible(rule) && matches(rule, identity, request))?;
    Some(RuleName { policy: policy.name.clone(), index })
}

fn matches(rule: &Rule, identity: Option<&ServiceAccount>, request: &Request<'_>) -> bool {
    let from = |source: &Source| match source {
        Source::ServiceAccount(account) => identity == Some(account),
        Source::Namespace(namespace) => identity.is_some_and(|account| account.namespace == *namespace),
        Source::Spiffe(_) => false, // no workload of this mesh has it, and nobody else is proven at L4
        Source::Cidr(block) => block.contains(&request.source),
    };
    rule.sources.as_ref().is_none_or(|sources| sources.iter().any(from))
        && rule.ports.as_ref().is_none_or(|ports| ports.iter().any(|range| range.contains(request.port)))
}

#[cfg(test)]
mod tests;
