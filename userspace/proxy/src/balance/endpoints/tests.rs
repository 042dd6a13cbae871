use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use weft_model::{Distribution, Endpoint, HashKey, ObjectName};

use super::*;

/// A ready endpoint `10.0.0.<last>:80` with a pod of its own.
pub(in crate::balance) fn endpoint(last: u8) -> Endpoint {
    Endpoint {
        address: ([10, 0, 0, last], 80).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some("n1".into()),
        zone: Some("z1".into()),
        hints: None,
        pod: Some(ObjectName::new("shop", format!("web-{last}"))),
    }
}

pub(in crate::balance) fn group(endpoints: impl IntoIterator<Item = Endpoint>) -> EndpointGroup {
    EndpointGroup {
        service: ObjectName::new("shop", "web"),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: endpoints.into_iter().collect(),
    }
}

pub(in crate::balance) fn backend(group: &EndpointGroup, traffic: &TrafficSettings) -> Backend {
    Backend::new(&view(group, &here(), traffic), Moment::START)
}

fn view<'a>(group: &'a EndpointGroup, locality: &'a Locality, traffic: &'a TrafficSettings) -> View<'a> {
    View { group, locality, ipv6: false, traffic }
}

fn here() -> Locality {
    Locality { node: "n1".into(), zone: Some("z1".into()) }
}

fn lasts(states: &[Arc<EndpointState>]) -> Vec<u8> {
    let last = |state: &Arc<EndpointState>| match state.address() {
        SocketAddr::V4(address) => address.ip().octets()[3],
        SocketAddr::V6(_) => 0,
    };
    states.iter().map(last).collect()
}

fn at(seconds: u64) -> Moment {
    Moment::START.after(Duration::from_secs(seconds))
}

#[test]
fn an_endpoint_that_stays_keeps_its_state_and_one_that_leaves_drains() {
    let traffic = TrafficSettings::default();
    let backend = backend(&group([2, 1, 3].map(endpoint)), &traffic);
    let before: Vec<_> = backend.endpoints().all().to_vec();
    assert_eq!(lasts(&before), [1, 2, 3]);
    let serving = before[1].serve(at(0));
    let left = backend.update(&view(&group([2, 4].map(endpoint)), &here(), &traffic), at(9));
    assert_eq!(lasts(&left), [1, 3]);
    assert!(before[0].draining() && !before[1].draining() && before[2].draining());
    let now = backend.endpoints();
    assert_eq!(lasts(now.all()), [2, 4]);
    assert!(Arc::ptr_eq(&now.all()[0], &before[1]));
    assert_eq!(now.all()[0].active(), 1);
    assert_eq!((now.all()[0].joined(), now.all()[1].joined()), (None, Some(at(9))));
    drop(serving);
    assert_eq!(now.all()[0].active(), 0);
}

#[test]
fn another_pod_at_the_same_address_is_another_endpoint() {
    let traffic = TrafficSettings::default();
    let backend = backend(&group([1, 2].map(endpoint)), &traffic);
    let mut other = endpoint(1);
    other.pod = Some(ObjectName::new("shop", "web-other"));
    let left = backend.update(&view(&group([other, endpoint(2)]), &here(), &traffic), at(1));
    assert_eq!(lasts(&left), [1]);
    let now = backend.endpoints();
    assert!(left[0].draining() && !now.all()[0].draining());
    assert_eq!(now.named(left[0].id()).unwrap().joined(), Some(at(1)));
}

#[test]
fn who_is_eligible_is_what_the_kernel_path_says() {
    let traffic = TrafficSettings::default();
    let mut group = group([1, 2, 3].map(endpoint));
    group.endpoints[1].node = Some("n2".into());
    (group.endpoints[2].ready, group.endpoints[2].terminating) = (false, true);
    let backend = backend(&group, &traffic);
    assert_eq!(lasts(backend.endpoints().all()), [1, 2], "a terminating one serves no one beside ready ones");
    group.distribution = Distribution::PreferSameNode;
    assert_eq!(lasts(&backend.update(&view(&group, &here(), &traffic), at(1))), [2]);
    assert_eq!(lasts(backend.endpoints().all()), [1]);
    group.endpoints.truncate(0);
    backend.update(&view(&group, &here(), &traffic), at(2));
    assert!(backend.endpoints().all().is_empty());
}

#[test]
fn a_client_is_served_in_its_own_ip_family() {
    let traffic = TrafficSettings::default();
    let mut six = endpoint(9);
    six.address = "[fd00::9]:80".parse().unwrap();
    let both = group([endpoint(1), six.clone()]);
    let backend = Backend::new(&View { ipv6: true, ..view(&both, &here(), &traffic) }, at(0));
    assert_eq!(backend.endpoints().all()[0].address(), six.address);
    backend.update(&view(&both, &here(), &traffic), at(0));
    assert_eq!(lasts(backend.endpoints().all()), [1]);
}

#[test]
fn a_maglev_table_is_made_anew_only_when_its_choices_change() {
    let key = HashKey::SourceIp;
    let traffic = TrafficSettings {
        load_balancer: Some(HttpLoadBalancer::ConsistentHash { key, table_size: 1009 }),
        ..TrafficSettings::default()
    };
    let table = |backend: &Backend| match &backend.endpoints().algorithm {
        Algorithm::Hash(table) => Arc::clone(table),
        other => panic!("{other:?}"),
    };
    let backend = backend(&group([1, 2].map(endpoint)), &traffic);
    let first = table(&backend);
    backend.update(&view(&group([2, 1].map(endpoint)), &here(), &traffic), at(1));
    assert!(Arc::ptr_eq(&first, &table(&backend)));
    let load_balancer = Some(HttpLoadBalancer::ConsistentHash { key: HashKey::SourceIp, table_size: 2003 });
    let larger = TrafficSettings { load_balancer, ..traffic.clone() };
    backend.update(&view(&group([1, 2].map(endpoint)), &here(), &larger), at(1));
    assert_eq!(table(&backend).len(), 2003);
    backend.update(&view(&group([2, 3].map(endpoint)), &here(), &traffic), at(1));
    assert_eq!(table(&backend).len(), 1009);
    assert_ne!(first, table(&backend));
}

#[test]
fn workers_that_serve_while_endpoints_come_and_go_leave_nothing_behind() {
    let traffic = TrafficSettings::default();
    let backend = backend(&group((1..=8).map(endpoint)), &traffic);
    let mut all: Vec<_> = backend.endpoints().all().to_vec();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|seed| {
                let backend = &backend;
                scope.spawn(move || {
                    let mut dice = crate::draw::Dice::seeded(seed);
                    for n in 0..20_000 {
                        let now = Moment::from_nanos(n);
                        let set = backend.endpoints();
                        let ask = crate::balance::Ask { now, hash: None, tried: &[] };
                        let serving = set.pick(&ask, &mut dice).expect("one is always there").serve(now);
                        serving.answered(now);
                    }
                })
            })
            .collect();
        let mut turn = 0;
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            turn += 1;
            let some = (1..=8).filter(|n| (turn >> (n % 3)) % 2 == 0 || *n == 1).map(endpoint);
            backend.update(&view(&group(some), &here(), &traffic), at(1));
            all.extend(backend.endpoints().all().iter().cloned());
        }
    });
    let current: BTreeSet<_> = backend.endpoints().all().iter().map(Arc::as_ptr).collect();
    for endpoint in &all {
        assert_eq!(endpoint.active(), 0);
        assert_eq!(endpoint.draining(), !current.contains(&Arc::as_ptr(endpoint)));
    }
}

proptest! {
    #[test]
    fn after_any_updates_the_set_is_what_was_asked_for_and_all_others_drain(
        updates in proptest::collection::vec(proptest::collection::btree_set(1_u8..20, 0..10), 1..8)
    ) {
        let traffic = TrafficSettings::default();
        let backend = backend(&group([]), &traffic);
        let mut seen: Vec<Arc<EndpointState>> = Vec::new();
        for wanted in &updates {
            let before: Vec<_> = backend.endpoints().all().to_vec();
            let left = backend.update(&view(&group(wanted.iter().rev().map(|n| endpoint(*n))), &here(), &traffic), at(1));
            let now = backend.endpoints();
            prop_assert_eq!(lasts(now.all()), wanted.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(
                lasts(&left),
                lasts(&before).into_iter().filter(|n| !wanted.contains(n)).collect::<Vec<_>>()
            );
            for one in now.all() {
                prop_assert!(Arc::ptr_eq(now.named(one.id()).unwrap(), one));
                prop_assert!(!one.draining());
            }
            seen.extend(left);
            prop_assert!(seen.iter().all(|one| one.draining()));
        }
    }
}
