use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use weft_model::{HashKey, HttpLoadBalancer, OutlierDetection, TrafficSettings};

use super::*;
use crate::{
    balance::{
        Backend,
        endpoints::{
            View,
            tests::{backend, endpoint, group},
        },
    },
    draw::{Dice, tests::Script},
    limits::Observed,
};

fn by(load_balancer: HttpLoadBalancer) -> TrafficSettings {
    TrafficSettings { load_balancer: Some(load_balancer), ..TrafficSettings::default() }
}

fn maglev() -> HttpLoadBalancer {
    HttpLoadBalancer::ConsistentHash { key: HashKey::SourceIp, table_size: 1009 }
}

fn every_algorithm() -> [HttpLoadBalancer; 5] {
    use HttpLoadBalancer::{LeastRequest, PeakEwma, Random, RoundRobin};
    [LeastRequest, RoundRobin, Random, PeakEwma, maglev()]
}

fn of(last: u8, traffic: &TrafficSettings) -> Backend {
    backend(&group((1..=last).map(endpoint)), traffic)
}

fn ask(tried: &[SocketAddr]) -> Ask<'_> {
    Ask { now: Moment::START, hash: None, tried }
}

fn at(seconds: u64) -> Moment {
    Moment::START.after(Duration::from_secs(seconds))
}

fn last(endpoint: &EndpointState) -> u8 {
    match endpoint.address().ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

/// How often each is picked, of `picks`.
fn shares(backend: &Backend, ask: &Ask<'_>, picks: u32) -> BTreeMap<u8, u32> {
    let (mut dice, mut shares) = (Dice::seeded(1), BTreeMap::new());
    for n in 0..picks {
        let hash = ask.hash.map(|hash| hash.wrapping_add(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let set = backend.endpoints();
        let picked = set.pick(&Ask { hash, ..*ask }, &mut dice).unwrap();
        *shares.entry(last(picked)).or_default() += 1;
    }
    shares
}

fn eject(backend: &Backend, lasts: &[u8], now: Moment) {
    let set = backend.endpoints();
    for endpoint in set.all().iter().filter(|one| lasts.contains(&last(one))) {
        (0..5).for_each(|_| _ = set.observe(endpoint, Observed::Error, now));
        assert!(endpoint.ejected(now), "{}", endpoint.address());
    }
}

fn lenient(load_balancer: HttpLoadBalancer, min_health_percent: u8) -> TrafficSettings {
    let outliers =
        OutlierDetection { max_ejection_percent: 100, min_health_percent, ..OutlierDetection::default() };
    TrafficSettings { outlier_detection: Some(outliers), ..by(load_balancer) }
}

#[test]
fn idle_endpoints_get_equal_shares_whatever_the_algorithm() {
    for algorithm in every_algorithm() {
        let backend = of(8, &by(algorithm.clone()));
        let shares = shares(&backend, &Ask { hash: Some(7), ..ask(&[]) }, 80_000);
        assert!(shares.values().all(|n| n.abs_diff(10_000) < 500), "{algorithm:?}: {shares:?}");
    }
}

#[test]
fn least_request_takes_the_one_of_two_that_has_fewer_under_way() {
    let backend = of(4, &by(HttpLoadBalancer::LeastRequest));
    let set = backend.endpoints();
    let _busy: Vec<_> = [0, 0, 2, 2, 2].map(|at| set.all()[at].serve(Moment::START)).into();
    for (draws, expected) in [
        ([0.1, 0.1], 2), // 1 has two, and 2 none
        ([0.3, 0.1], 2), // the other way round
        ([0.1, 0.4], 1), // 3 has three
        ([0.3, 0.9], 2), // none and none: the first
        ([0.9, 0.4], 4),
    ] {
        let picked = set.pick(&ask(&[]), &mut Script(draws.to_vec())).unwrap();
        assert_eq!(last(picked), expected, "{draws:?}");
    }
}

#[test]
fn a_slow_endpoint_gets_less_by_least_request_and_by_peak_ewma() {
    for algorithm in [HttpLoadBalancer::LeastRequest, HttpLoadBalancer::PeakEwma] {
        let backend = of(5, &by(algorithm.clone()));
        let (mut dice, mut under_way, mut counts) = (Dice::seeded(5), Vec::new(), BTreeMap::new());
        // Ten requests in each tick of 20 ms; endpoint 1 takes 20 ticks for one, the others 2.
        for tick in 0_u64..2000 {
            let now = Moment::START.after(Duration::from_millis(20 * tick));
            under_way.retain(|(serving, ends): &(crate::balance::Serving, u64)| {
                if *ends <= tick {
                    serving.answered(now);
                }
                *ends > tick
            });
            for _ in 0..10 {
                let set = backend.endpoints();
                let endpoint = set.pick(&Ask { now, ..ask(&[]) }, &mut dice).unwrap();
                *counts.entry(last(endpoint)).or_insert(0_u32) += 1;
                let takes = if last(endpoint) == 1 { 20 } else { 2 };
                under_way.push((endpoint.serve(now), tick + takes));
            }
        }
        let slow = f64::from(counts[&1]) / 20_000.0;
        assert!(slow < 0.08, "{algorithm:?}: the slow one of five got {slow} of the requests");
        assert!(counts[&1] > 3, "{algorithm:?}: it is tried again");
    }
}

#[test]
fn an_endpoint_that_fails_fast_does_not_draw_everything_to_itself() {
    let backend = of(2, &by(HttpLoadBalancer::PeakEwma));
    let set = backend.endpoints();
    let later = Moment::START.after(Duration::from_millis(20));
    set.all()[0].serve(Moment::START).failed(Moment::START);
    set.all()[1].serve(Moment::START).answered(later);
    assert_eq!(shares(&backend, &Ask { now: later, ..ask(&[]) }, 1000), BTreeMap::from([(2, 1000)]));
}

#[test]
fn round_robin_takes_turns_over_all_workers() {
    let backend = of(3, &by(HttpLoadBalancer::RoundRobin));
    let pick = |seed| last(backend.endpoints().pick(&ask(&[]), &mut Dice::seeded(seed)).unwrap());
    assert_eq!([1, 2, 3, 1, 2, 9].map(pick), [1, 2, 3, 1, 2, 3]);
}

#[test]
fn a_hash_goes_to_one_endpoint_and_few_move_when_another_leaves() {
    let traffic = by(maglev());
    let (before, after) = (of(10, &traffic), of(9, &traffic));
    let pick = |backend: &Backend, hash: u64| {
        let ask = Ask { hash: Some(crate::draw::mixed(hash)), ..ask(&[]) };
        last(backend.endpoints().pick(&ask, &mut Script(vec![])).unwrap())
    };
    let moved = (0..10_000).filter(|hash| {
        let (was, is) = (pick(&before, *hash), pick(&after, *hash));
        was != 10 && was != is
    });
    assert!(moved.count() < 600);
    assert!((0..100).all(|hash| pick(&before, hash) == pick(&before, hash)));
}

#[test]
fn who_loses_an_ejected_endpoint_goes_to_one_other_and_together_to_all() {
    let backend = of(10, &lenient(maglev(), 0));
    eject(&backend, &[4], at(1));
    let pick = |hash: u64, now| {
        let ask = Ask { now, hash: Some(crate::draw::mixed(hash)), tried: &[] };
        last(backend.endpoints().pick(&ask, &mut Script(vec![])).unwrap())
    };
    let mut heirs: BTreeMap<u8, u32> = BTreeMap::new();
    for hash in 0..10_000 {
        let (meant, picked) = (pick(hash, at(40)), pick(hash, at(2)));
        if meant != 4 {
            assert_eq!(meant, picked);
            continue;
        }
        *heirs.entry(picked).or_default() += 1;
        assert_eq!(picked, pick(hash, at(2)));
    }
    assert!(heirs.len() == 9 && heirs.values().all(|n| n.abs_diff(111) < 50), "{heirs:?}");
}

#[test]
fn a_try_goes_to_an_endpoint_not_tried_yet_until_there_is_none() {
    for algorithm in every_algorithm() {
        let backend = of(5, &by(algorithm.clone()));
        let set = backend.endpoints();
        for seed in 0..100 {
            let (mut tried, mut dice) = (Vec::new(), Dice::seeded(seed));
            while let Some(picked) = set.pick(&Ask { hash: Some(seed), ..ask(&tried) }, &mut dice) {
                assert!(!tried.contains(&picked.address()), "{algorithm:?}");
                tried.push(picked.address());
            }
            assert_eq!(tried.len(), 5, "{algorithm:?}");
        }
    }
}

#[test]
fn an_ejected_endpoint_is_picked_only_after_its_time() {
    for algorithm in every_algorithm() {
        let backend = of(4, &lenient(algorithm.clone(), 0));
        eject(&backend, &[1, 2], at(1));
        let ask = |now| Ask { now, hash: Some(7), tried: &[] };
        let meanwhile = shares(&backend, &ask(at(30)), 1000);
        assert_eq!(meanwhile.keys().copied().collect::<Vec<_>>(), [3, 4], "{algorithm:?}");
        assert_eq!(shares(&backend, &ask(at(31)), 1000).len(), 4, "{algorithm:?}");
    }
}

#[test]
fn ejected_ones_are_picked_when_all_are_and_in_a_panic() {
    for algorithm in every_algorithm() {
        let panics = of(4, &lenient(algorithm.clone(), 75));
        eject(&panics, &[1, 2], at(1));
        let during = Ask { now: at(2), hash: Some(7), tried: &[] };
        assert_eq!(shares(&panics, &during, 1000).len(), 4, "{algorithm:?}");

        let traffic = lenient(algorithm, 0);
        let backend = of(3, &traffic);
        eject(&backend, &[1, 2], at(1));
        let locality = weft_model::Locality::default();
        let rest = group([1, 2].map(endpoint));
        backend.update(&View { group: &rest, locality: &locality, ipv6: false, traffic: &traffic }, at(2));
        assert_eq!(shares(&backend, &during, 1000).len(), 2, "the last healthy one has left");
    }
}

#[test]
fn a_retry_rather_ends_than_goes_to_an_ejected_endpoint() {
    let backend = of(2, &lenient(HttpLoadBalancer::LeastRequest, 0));
    eject(&backend, &[1], at(1));
    let set = backend.endpoints();
    let healthy = [set.all()[1].address()];
    assert!(set.pick(&Ask { now: at(2), ..ask(&healthy) }, &mut Dice::seeded(1)).is_none());
}

#[test]
fn a_session_ends_with_its_endpoint() {
    let traffic = lenient(HttpLoadBalancer::LeastRequest, 0);
    let backend = of(3, &traffic);
    let set = backend.endpoints();
    let (id, address) = (set.all()[1].id(), set.all()[1].address());
    assert_eq!(last(set.sticky(id, &ask(&[])).unwrap()), 2);
    assert!(set.sticky(id, &ask(&[address])).is_none(), "tried");
    assert!(set.sticky(id ^ 1, &ask(&[])).is_none(), "never there");
    eject(&backend, &[2], at(1));
    assert!(set.sticky(id, &Ask { now: at(2), ..ask(&[]) }).is_none(), "ejected");
    assert!(set.sticky(id, &Ask { now: at(31), ..ask(&[]) }).is_some(), "back");
    let (rest, locality) = (group([1, 3].map(endpoint)), weft_model::Locality::default());
    backend.update(&View { group: &rest, locality: &locality, ipv6: false, traffic: &traffic }, at(40));
    assert!(backend.endpoints().sticky(id, &Ask { now: at(40), ..ask(&[]) }).is_none(), "gone");
}

#[test]
fn a_new_endpoint_begins_with_a_tenth_and_ends_with_its_full_share() {
    use HttpLoadBalancer::{LeastRequest, PeakEwma, Random, RoundRobin};
    for algorithm in [LeastRequest, RoundRobin, Random, PeakEwma] {
        let traffic = TrafficSettings { slow_start: Some(Duration::from_secs(100)), ..by(algorithm.clone()) };
        let backend = of(4, &traffic);
        let (five, locality) = (group((1..=5).map(endpoint)), weft_model::Locality::default());
        backend.update(&View { group: &five, locality: &locality, ipv6: false, traffic: &traffic }, at(100));
        for (now, weight) in [(101, 0.1), (150, 0.5), (200, 1.0)] {
            let expected = weight / (4.0 + weight);
            let shares = shares(&backend, &Ask { now: at(now), ..ask(&[]) }, 50_000);
            let share = f64::from(shares[&5]) / 50_000.0;
            assert!((share - expected).abs() < 0.01, "{algorithm:?} after {now} s: {share}");
        }
    }
}

/// Endpoint 1 is old, endpoint 2 joined at 100 s; slow start takes 100 s.
fn old_and_new(traffic: &TrafficSettings) -> Backend {
    let backend = of(1, traffic);
    let (two, locality) = (group((1..=2).map(endpoint)), weft_model::Locality::default());
    backend.update(&View { group: &two, locality: &locality, ipv6: false, traffic }, at(100));
    backend
}

#[test]
fn a_new_endpoints_requests_weigh_more() {
    let slow_start = Some(Duration::from_secs(100));
    let traffic = TrafficSettings { slow_start, ..by(HttpLoadBalancer::LeastRequest) };
    let backend = old_and_new(&traffic);
    let set = backend.endpoints();
    let _busy: Vec<_> = [0, 0, 0, 1, 1].map(|one| set.all()[one].serve(at(100))).into();
    // The old one is drawn, then the new one, which is let in.
    let pick = |now| {
        let ask = Ask { now: at(now), ..ask(&[]) };
        last(set.pick(&ask, &mut Script(vec![0.1, 0.9, 0.0])).unwrap())
    };
    assert_eq!(pick(150), 1, "two at half the weight are four");
    assert_eq!(pick(180), 2, "two at 80 % are two and a half");
}

#[test]
fn a_new_endpoint_does_not_take_all_that_comes_while_the_old_one_is_busy() {
    let slow_start = Some(Duration::from_secs(100));
    let traffic = TrafficSettings { slow_start, ..by(HttpLoadBalancer::LeastRequest) };
    let backend = old_and_new(&traffic);
    let _busy = backend.endpoints().all()[0].serve(at(100));
    let shares = shares(&backend, &Ask { now: at(101), ..ask(&[]) }, 10_000);
    assert!(shares[&2] > 900 && shares[&2] < 2500, "{shares:?}");
}

#[test]
fn nobody_is_picked_where_nobody_is() {
    for algorithm in every_algorithm() {
        let backend = backend(&group([]), &by(algorithm));
        let set = backend.endpoints();
        for hash in [None, Some(1)] {
            assert!(set.pick(&Ask { hash, ..ask(&[]) }, &mut Dice::seeded(1)).is_none());
        }
    }
}

proptest! {
    #[test]
    fn whoever_is_picked_may_be(
        seed: u64,
        endpoints in 1_u8..12,
        out in proptest::collection::btree_set(0_usize..12, 0..12),
        tried in proptest::collection::btree_set(0_usize..12, 0..12),
        hash: Option<u64>,
        algorithm in 0_usize..5,
    ) {
        let backend = of(endpoints, &lenient(every_algorithm()[algorithm].clone(), 0));
        let set = backend.endpoints();
        for one in out.iter().filter_map(|at| set.all().get(*at)) {
            (0..5).for_each(|_| _ = set.observe(one, Observed::Error, at(1)));
        }
        let tried: Vec<_> = tried.iter().filter_map(|at| set.all().get(*at)).map(|one| one.address()).collect();
        let ask = Ask { now: at(2), hash, tried: &tried };
        let open = set.all().iter().filter(|one| !one.ejected(at(2)) && !tried.contains(&one.address()));
        if let Some(picked) = set.pick(&ask, &mut Dice::seeded(seed)) {
            prop_assert!(!picked.ejected(at(2)) && !tried.contains(&picked.address()));
        } else {
            prop_assert_eq!(open.count(), 0);
        }
    }
}
