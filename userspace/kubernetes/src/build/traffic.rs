//! Which TrafficPolicy holds for a Service, a route and a rule, and what they come to together.

use std::sync::Arc;

use weft_model::{RouteName, TrafficSettings};

use super::{notice::Notice, objects::Objects};
use crate::object::{Key, Kind, Service, TrafficPolicy, traffic::Fields};

/// The policies of one route: each rule's own settings over the route's.
#[derive(Debug)]
pub(super) struct RoutePolicies<'o> {
    /// Section and policy, the one that wins first.
    policies: Vec<(Option<&'o str>, &'o TrafficPolicy)>,
}

/// The TrafficPolicy that holds for `service`: the oldest, then the first by name.
pub(super) fn of_service<'o>(
    objects: &'o Objects,
    service: &Service,
    notices: &mut Vec<Notice>,
) -> Option<&'o TrafficPolicy> {
    let keys = objects.references_to(&service.name).filter(|key| key.kind == Kind::TrafficPolicy);
    let mut policies: Vec<_> = keys.filter_map(|key| objects.traffic.get(&key.name)).collect();
    policies.sort_by_key(|policy| policy.order());
    let (winner, losers) = policies.split_first()?;
    let target = super::notice::service(&service.name);
    for loser in losers {
        let field = loser.field_of(&target, None);
        notices.push(Notice::conflicted(loser.key(), field, &target, winner.key()));
    }
    Some(winner)
}

/// Says what of a Service's policy has no effect: what only the proxy can do, where no connection takes it.
pub(super) fn note_idle(policy: &TrafficPolicy, routed: bool, notices: &mut Vec<Notice>) {
    let settings = &policy.settings;
    if !settings.need_proxy() && !routed {
        let said = [
            ("timeouts.connect", settings.timeouts.connect.is_some()),
            ("timeouts.idle", settings.timeouts.idle.is_some()),
            ("loadBalancer.slowStart", settings.slow_start.is_some()),
            ("retryConstraint", settings.retry_budget.is_some()),
        ];
        let said: Vec<_> = said.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect();
        if !said.is_empty() {
            let message = format!(
                "{} has no effect on connections to the Service: they stay in the kernel",
                said.join(" and ")
            );
            let remedy = "it counts for requests that another Service's route sends here, and once a route or \
                          another section takes connections to the proxy";
            notices.push(Notice::warning(policy.key(), "spec", message, remedy));
        }
    }
}

/// The policies that hold for `route`, or for what would be a route of that name.
pub(super) fn of_route<'o>(
    objects: &'o Objects,
    route: &RouteName,
    notices: &mut Vec<Notice>,
) -> RoutePolicies<'o> {
    let target = Key::from(route);
    let mut policies: Vec<_> = objects.policies_for(route).collect();
    policies.sort_by_key(|policy| policy.order());
    let mut held: Vec<(Option<&str>, &TrafficPolicy)> = Vec::new();
    for policy in policies {
        for at in policy.targets.iter().filter(|at| at.key == target) {
            let section = at.section.as_deref();
            if let Some((_, winner)) = held.iter().find(|(other, _)| *other == section) {
                let section = section.map(|name| format!(" rule {name}")).unwrap_or_default();
                let target = format!("{target}{section}");
                notices.push(Notice::conflicted(policy.key(), &at.field, target, winner.key()));
            } else {
                held.push((section, policy));
            }
        }
    }
    RoutePolicies { policies: held }
}

impl RoutePolicies<'_> {
    /// What holds for the rule `name` behind a Service with `service` settings and `fields`; the same allocation where
    /// no policy says anything of the route.
    pub(super) fn over(
        &self,
        name: Option<&str>,
        service: &Arc<TrafficSettings>,
        fields: &Fields,
    ) -> (Arc<TrafficSettings>, Fields) {
        let at = |section: Option<&str>| self.policies.iter().find(|(other, _)| *other == section);
        let rule = name.and_then(|name| at(Some(name)));
        let (mut settings, mut fields) = (Arc::clone(service), fields.clone());
        for (_, policy) in at(None).into_iter().chain(rule) {
            fields = policy.fields.over(fields);
            settings = Arc::new(fields.within(policy.settings.over(&settings)));
        }
        (settings, fields)
    }

    /// Says of every policy that has no effect for want of its target, or none in what the route says itself.
    pub(super) fn note(&self, objects: &Objects, route: &RouteName, notices: &mut Vec<Notice>) {
        let found = objects.routes.get(route);
        for (section, policy) in &self.policies {
            let target = Key::from(route);
            let field = policy.field_of(&target, *section);
            let named = |rule: &crate::object::RouteRule| rule.name.as_deref() == *section;
            let (message, remedy) = match found {
                None => (format!("there is no {target}"), "add the route, or correct the name"),
                Some(route) if section.is_some() && !route.rules.iter().any(named) => {
                    let name = section.unwrap_or_default();
                    (format!("{target} has no rule {name}"), "correct sectionName, or name the rule so")
                }
                Some(route) => {
                    notices.extend(overridden(policy, *section, route, field));
                    continue;
                }
            };
            notices.push(Notice::missing(policy.key(), field, message, remedy));
        }
    }
}

/// What the route's own fields say in place of `policy`, in each rule that this is for.
fn overridden(
    policy: &TrafficPolicy,
    section: Option<&str>,
    route: &crate::object::Route,
    field: &str,
) -> Option<Notice> {
    let named = |rule: &&crate::object::RouteRule| section.is_none() || rule.name.as_deref() == section;
    let rules: Vec<_> = route.rules.iter().filter(named).collect();
    let (said, times) = (&policy.settings.timeouts, |of: fn(&weft_model::Timeouts) -> bool| {
        rules.iter().all(|rule| of(&rule.timeouts))
    });
    let parts = [
        ("retry", policy.fields.retry.is_some() && rules.iter().all(|rule| rule.retry.is_some())),
        ("timeouts.request", said.request.is_some() && times(|own| own.request.is_some())),
        (
            "timeouts.backendRequest",
            said.backend_request.is_some() && times(|own| own.backend_request.is_some()),
        ),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(_, lost)| *lost).map(|(name, _)| name).collect();
    if parts.is_empty() || rules.is_empty() {
        return None;
    }
    let message = format!("{} overridden by {}", parts.join(" and "), Key::from(&route.name));
    let remedy = "a route's own fields go before policies: say it in one of the two places";
    Some(Notice::warning(policy.key(), field, message, remedy))
}

impl TrafficPolicy {
    fn order(&self) -> (&crate::object::Created, &weft_model::ObjectName) {
        (&self.created, &self.name)
    }

    fn key(&self) -> Key {
        Key { kind: Kind::TrafficPolicy, name: self.name.clone() }
    }

    /// The place of a target in the object.
    fn field_of(&self, key: &Key, section: Option<&str>) -> &str {
        let same = |at: &&crate::object::PolicyTargetRef| at.key == *key && at.section.as_deref() == section;
        self.targets.iter().find(same).map(|at| at.field.as_str()).unwrap_or_default()
    }
}
