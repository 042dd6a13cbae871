//! Which endpoints of a group take a new connection made on this node.
//!
//! The rules are kube-proxy's (`CategorizeEndpoints`): ready endpoints, else terminating ones that
//! still serve; `internalTrafficPolicy: Local`; topology hints, used only where every candidate has
//! them and one is for us. Every path of weft asks here, so they cannot differ.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Distribution, Endpoint, EndpointGroup};

/// Where this agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locality {
    /// The node's name.
    pub node: Arc<str>,
    /// Its zone (label `topology.kubernetes.io/zone`).
    pub zone: Option<Arc<str>>,
}

/// The endpoints of `group` that may take a new connection from a client at `locality`.
pub fn eligible<'a>(group: &'a EndpointGroup, locality: &Locality) -> Vec<&'a Endpoint> {
    if group.node_local {
        let here = group.endpoints.iter().filter(|e| e.node.as_deref() == Some(&*locality.node));
        return usable(here);
    }
    let usable = usable(group.endpoints.iter());
    by_node(group, &usable, locality).or_else(|| by_zone(group, &usable, locality)).unwrap_or(usable)
}

/// The ready ones, else those that terminate and still serve.
fn usable<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Vec<&'a Endpoint> {
    let ready: Vec<_> = endpoints.clone().filter(|e| e.ready).collect();
    if ready.is_empty() { endpoints.filter(|e| e.serving && e.terminating).collect() } else { ready }
}

fn by_node<'a>(group: &EndpointGroup, usable: &[&'a Endpoint], at: &Locality) -> Option<Vec<&'a Endpoint>> {
    if hinted(usable, |hints| !hints.nodes.is_empty()) {
        return chosen(usable, |e| e.hints.as_ref().is_some_and(|h| h.nodes.contains(&at.node)));
    }
    let unhinted = usable.iter().all(|e| e.hints.is_none() && e.node.is_some());
    if group.distribution == Distribution::PreferSameNode && unhinted {
        return chosen(usable, |e| e.node.as_deref() == Some(&*at.node));
    }
    None
}

/// Without an EndpointSlice controller nobody writes hints: they are derived as it derives them.
fn by_zone<'a>(group: &EndpointGroup, usable: &[&'a Endpoint], at: &Locality) -> Option<Vec<&'a Endpoint>> {
    let zone = at.zone.as_ref()?;
    if hinted(usable, |hints| !hints.zones.is_empty()) {
        return chosen(usable, |e| e.hints.as_ref().is_some_and(|h| h.zones.contains(zone)));
    }
    let unhinted = usable.iter().all(|e| e.hints.is_none() && e.zone.is_some());
    if group.distribution != Distribution::Any && unhinted {
        return chosen(usable, |e| e.zone.as_ref() == Some(zone));
    }
    None
}

fn hinted(usable: &[&Endpoint], has: impl Fn(&crate::Hints) -> bool) -> bool {
    !usable.is_empty() && usable.iter().all(|e| e.hints.as_deref().is_some_and(&has))
}

fn chosen<'a>(usable: &[&'a Endpoint], keep: impl Fn(&Endpoint) -> bool) -> Option<Vec<&'a Endpoint>> {
    let chosen: Vec<_> = usable.iter().copied().filter(|e| keep(e)).collect();
    (!chosen.is_empty()).then_some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hints, ObjectName};

    fn endpoint(last: u8, node: &str, zone: &str) -> Endpoint {
        Endpoint {
            address: ([10, 0, 0, last], 80).into(),
            ready: true,
            serving: true,
            terminating: false,
            node: Some(node.into()),
            zone: Some(zone.into()),
            hints: None,
            pod: None,
        }
    }

    fn group(endpoints: Vec<Endpoint>) -> EndpointGroup {
        EndpointGroup {
            service: ObjectName::new("shop", "web"),
            weight: 1,
            node_local: false,
            distribution: Distribution::Any,
            endpoints,
        }
    }

    fn here() -> Locality {
        Locality { node: "n1".into(), zone: Some("z1".into()) }
    }

    fn last(group: &EndpointGroup) -> Vec<u8> {
        let octet = |e: &&Endpoint| match e.address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        eligible(group, &here()).iter().map(octet).collect()
    }

    #[test]
    fn a_terminating_endpoint_serves_only_while_none_is_ready() {
        let mut going = endpoint(1, "n1", "z1");
        (going.ready, going.terminating) = (false, true);
        assert_eq!(last(&group(vec![going.clone()])), [1]);
        assert_eq!(last(&group(vec![going.clone(), endpoint(2, "n1", "z1")])), [2]);
        going.serving = false;
        assert!(last(&group(vec![going])).is_empty());
    }

    #[test]
    fn an_endpoint_that_is_not_ready_and_not_terminating_serves_nothing() {
        let mut starting = endpoint(1, "n1", "z1");
        starting.ready = false;
        assert!(last(&group(vec![starting])).is_empty());
    }

    #[test]
    fn local_traffic_policy_never_leaves_the_node() {
        let mut local = group(vec![endpoint(1, "n1", "z1"), endpoint(2, "n2", "z1")]);
        local.node_local = true;
        assert_eq!(last(&local), [1]);
        local.endpoints.remove(0);
        assert!(last(&local).is_empty());
    }

    #[test]
    fn hints_hold_only_when_every_endpoint_has_them_and_one_is_for_us() {
        let hint = |zone: &str| Some(Arc::new(Hints { zones: vec![zone.into()], nodes: vec![] }));
        let mut hinted = group(vec![endpoint(1, "n1", "z1"), endpoint(2, "n2", "z2")]);
        hinted.endpoints[0].hints = hint("z1");
        assert_eq!(last(&hinted), [1, 2], "one has no hint");
        hinted.endpoints[1].hints = hint("z2");
        assert_eq!(last(&hinted), [1]);
        hinted.endpoints[0].hints = hint("z3");
        assert_eq!(last(&hinted), [1, 2], "none is for this zone");
    }

    #[test]
    fn preferences_without_hints_follow_the_endpoints_own_node_and_zone() {
        let mut spread =
            group(vec![endpoint(1, "n1", "z1"), endpoint(2, "n2", "z1"), endpoint(3, "n3", "z2")]);
        assert_eq!(last(&spread), [1, 2, 3]);
        spread.distribution = Distribution::PreferSameZone;
        assert_eq!(last(&spread), [1, 2]);
        spread.distribution = Distribution::PreferSameNode;
        assert_eq!(last(&spread), [1]);
        spread.endpoints.remove(0);
        assert_eq!(last(&spread), [2], "no endpoint on this node: its zone");
    }
}
