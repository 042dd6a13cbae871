//! Whether a connection may be made, or a request answered.

use std::{fmt, net::IpAddr};

use weft_abi::Reason;
use weft_model::{Action, Mode, ObjectName, Protocol, Rule, ServiceAccount, Source};

use crate::{Applied, HttpRequest, Protection, request};

/// A connection that wants to reach a protected workload, or a request on one.
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
    /// What is asked for, where that is seen. Without it a rule that asks something of the request never allows, and
    /// denies by its other parts.
    pub http: Option<HttpRequest<'a>>,
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

/// What is decided about a connection before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether it may be made. Where [`Opening::requests`] are read, no more is refused than what no request could
    /// change, and nothing is audited: both are the requests'.
    pub decision: Decision,
    /// Who reads what comes on it.
    pub requests: Requests,
}

/// Whether policies of a port ask for what only the requests say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// None does.
    Unread,
    /// Audited ones do: they are shown what there is, and decide nothing.
    Watched,
    /// Enforced ones do: each request is decided about.
    Judged,
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

/// Decides about a connection of which nothing has come yet.
pub fn open(protection: &Protection, request: &Request<'_>) -> Opening {
    let request = Request { source: request.source.to_canonical(), http: None, ..*request };
    let requests = protection.requests(request.protocol, request.port);
    let decision = match requests {
        Requests::Unread => decide(protection, &request),
        Requests::Watched => {
            let (reason, rule) = judge(protection, Mode::Enforce, &request);
            Decision { reason, rule, audit: None }
        }
        Requests::Judged => {
            let denied = denied(protection, &request);
            let reason = if denied.is_some() { Reason::POLICY_DENIED } else { Reason::NONE };
            Decision { reason, rule: denied, audit: None }
        }
    };
    Opening { decision, requests }
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

/// The enforced rule that denies a connection whatever is asked on it.
fn denied(protection: &Protection, request: &Request<'_>) -> Option<RuleName> {
    let policies = protection.policies.iter();
    let denying = policies.filter(|applied| {
        let policy = &applied.policy;
        policy.mode == Mode::Enforce
            && policy.action == Action::Deny
            && applied.covers(request.protocol, request.port)
    });
    let identity = request.identity.claimed();
    let mut denying = denying.map(|applied| &applied.policy);
    denying.find_map(|policy| {
        let mut rules = policy.rules.iter();
        let index = rules.position(|rule| !rule.l7 && matches(rule, identity, request))?;
        Some(RuleName { policy: policy.name.clone(), index })
    })
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
    let asks = |rule: &Rule| match policy.action {
        Action::Allow => request::surely(rule, request.http.as_ref()),
        Action::Deny => request::possibly(rule, request.http.as_ref()),
    };
    let index = policy.rules.iter().position(|rule| matches(rule, identity, request) && asks(rule))?;
    Some(RuleName { policy: policy.name.clone(), index })
}

fn matches(rule: &Rule, identity: Option<&ServiceAccount>, request: &Request<'_>) -> bool {
    let from = |source: &Source| match source {
        Source::ServiceAccount(account) => identity == Some(account),
        Source::Namespace(namespace) => identity.is_some_and(|account| account.namespace == *namespace),
        Source::Spiffe(_) => false, // no workload of this mesh has it, and nobody else is proven at L4
        Source::Cidr(block) => block.contains(&request.source),
    };
    rule.sources.as_ref().is_none_or(|sources| sources.iter().any(from)) && rule.covers(request.port)
}

#[cfg(test)]
mod tests;
