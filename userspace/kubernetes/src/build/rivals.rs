//! Policies of which pods have one for each level: what of them another one for the very same target has taken, and
//! targets that are not there.

use std::{collections::BTreeSet, sync::Arc};

use weft_model::{ObjectName, PolicyTarget, Selector};

use super::{
    notice::{self, Notice},
    objects::{Dirty, Objects, within},
};
use crate::object::{AuthenticationPolicy, Created, Key, Kind, TelemetryPolicy};

/// The policies of which this may have changed.
pub(super) fn touched(objects: &Objects, dirty: &Dirty) -> BTreeSet<Key> {
    let namespaces = |changed: &BTreeSet<ObjectName>| -> BTreeSet<Arc<str>> {
        let changed = changed.iter().chain(&dirty.redefined);
        changed.map(|name| Arc::clone(&name.namespace)).collect()
    };
    let key = |kind| move |name: &ObjectName| Key { kind, name: name.clone() };
    let mut touched = BTreeSet::new();
    for namespace in namespaces(&dirty.telemetry) {
        let beside = within(&objects.telemetry, &namespace).map(|(name, _)| name);
        touched.extend(beside.map(key(Kind::TelemetryPolicy)));
    }
    for namespace in namespaces(&dirty.authentication) {
        let beside = within(&objects.authentication, &namespace).map(|(name, _)| name);
        touched.extend(beside.map(key(Kind::AuthenticationPolicy)));
    }
    // Those that went have nothing to be told any more.
    touched.extend(dirty.telemetry.iter().map(key(Kind::TelemetryPolicy)));
    touched.extend(dirty.authentication.iter().map(key(Kind::AuthenticationPolicy)));
    touched
}

/// What is to be told of the policy `key`.
pub(super) fn notices(objects: &Objects, key: &Key) -> Vec<Notice> {
    let all = Rival::beside(objects, key);
    let Some(policy) = all.iter().find(|rival| *rival.name == key.name) else { return Vec::new() };
    let older: Vec<_> = all.iter().filter(|other| other.order() < policy.order()).collect();
    let mut notices = Vec::new();
    for (field, target) in policy.targets() {
        if let Target::Service(name) = target {
            let name = ObjectName::new(Arc::clone(&key.name.namespace), Arc::clone(name));
            if !objects.services.contains_key(&name) {
                let message = format!("there is no {}", notice::service(&name));
                let remedy =
                    "add the Service, or correct the name; it takes effect as soon as the Service is there";
                notices.push(Notice::missing(key.clone(), &field, message, remedy));
            }
        }
        notices.extend(policy.lost(key, &field, target, &older));
    }
    notices
}

/// A policy as others of its kind see it.
struct Rival<'o> {
    name: &'o ObjectName,
    created: &'o Created,
    target: &'o PolicyTarget,
    /// The sections that it has; of each a pod has one policy.
    sections: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq)]
enum Target<'o> {
    Pods(&'o Selector),
    Service(&'o Arc<str>),
}

impl<'o> Rival<'o> {
    /// All policies of this kind and namespace.
    fn beside(objects: &'o Objects, key: &Key) -> Vec<Self> {
        let namespace = &key.name.namespace;
        match key.kind {
            Kind::TelemetryPolicy => {
                within(&objects.telemetry, namespace).map(|(_, policy)| (&**policy).into()).collect()
            }
            Kind::AuthenticationPolicy => {
                within(&objects.authentication, namespace).map(|(_, policy)| (&**policy).into()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn order(&self) -> (&Created, &ObjectName) {
        (self.created, self.name)
    }

    /// Each target, and its place in the object.
    fn targets(&self) -> Vec<(String, Target<'o>)> {
        match self.target {
            PolicyTarget::Pods(selector) => vec![("spec.targetRefs".to_owned(), Target::Pods(selector))],
            PolicyTarget::Services(names) => {
                let names = names.iter().enumerate();
                names.map(|(i, name)| (format!("spec.targetRefs[{i}]"), Target::Service(name))).collect()
            }
            PolicyTarget::Routes(_) => Vec::new(),
        }
    }

    /// What `older` have of it at `target`.
    fn lost(&self, key: &Key, field: &str, target: Target<'_>, older: &[&Self]) -> Option<Notice> {
        let holder = |section: &&str| {
            let holders = older.iter().filter(|other| other.sections.contains(section));
            let holders = holders.filter(|other| other.targets().iter().any(|(_, at)| *at == target));
            holders.min_by_key(|other| other.order())
        };
        let lost: Vec<_> =
            self.sections.iter().filter_map(|section| Some((*section, holder(section)?))).collect();
        let (_, winner) = lost.first()?;
        let winner = Key { kind: key.kind, name: winner.name.clone() };
        let target = match target {
            Target::Pods(_) => "the same target".to_owned(),
            Target::Service(name) => format!("Service {}/{name}", key.name.namespace),
        };
        if lost.len() == self.sections.len() {
            return Some(Notice::conflicted(key.clone(), field, target, winner));
        }
        let sections: Vec<_> = lost.into_iter().map(|(section, _)| section).collect();
        let message = format!("{winner} holds for {target} already, as to {}", sections.join(" and "));
        let remedy = "the oldest wins, then the first by name: merge the two, or remove that section";
        Some(Notice::warning(key.clone(), field, message, remedy))
    }
}

impl<'o> From<&'o TelemetryPolicy> for Rival<'o> {
    fn from(policy: &'o TelemetryPolicy) -> Self {
        let TelemetryPolicy { name, created, target, .. } = policy;
        Self { name, created, target, sections: vec!["telemetry"] }
    }
}

impl<'o> From<&'o AuthenticationPolicy> for Rival<'o> {
    fn from(policy: &'o AuthenticationPolicy) -> Self {
        let AuthenticationPolicy { name, created, target, mode, ports, jwt } = policy;
        let sections = [("mtls", mode.is_some() || !ports.is_empty()), ("jwt", jwt.is_some())];
        let sections = sections.into_iter().filter(|(_, there)| *there).map(|(section, _)| section);
        Self { name, created, target, sections: sections.collect() }
    }
}
