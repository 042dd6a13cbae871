//! Nanoseconds for one pick, by algorithm and number of endpoints: the search in the set, the guard taken
//! and dropped. `cargo run --release -p weft-proxy --example pick`

use std::{
    io::{self, Write},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use weft_model::{
    Distribution, Endpoint, EndpointGroup, HashKey, HttpLoadBalancer, Locality, ObjectName, TrafficSettings,
};
use weft_proxy::{
    balance::{Ask, Backend, endpoints::View},
    clock::Moment,
    draw::{Dice, Draw},
};

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:<24} {:>12} {:>12}", "ns a pick", "10 endpoints", "1000")?;
    let hash = HttpLoadBalancer::ConsistentHash { key: HashKey::SourceIp, table_size: 65_537 };
    for (name, algorithm) in [
        ("LeastRequest", HttpLoadBalancer::LeastRequest),
        ("RoundRobin", HttpLoadBalancer::RoundRobin),
        ("Random", HttpLoadBalancer::Random),
        ("PeakEWMA", HttpLoadBalancer::PeakEwma),
        ("Maglev", hash),
    ] {
        for slow_start in [None, Some(Duration::from_hours(1))] {
            let [few, many] = [10, 1000].map(|endpoints| measure(endpoints, &algorithm, slow_start));
            let name = if slow_start.is_some() { format!("{name}, slow start") } else { name.to_owned() };
            writeln!(out, "{name:<24} {few:>12.0} {many:>12.0}")?;
        }
    }
    Ok(())
}

/// The best of many runs, each shorter than a time slice: what else the machine does only adds.
fn measure(endpoints: u32, algorithm: &HttpLoadBalancer, slow_start: Option<Duration>) -> f64 {
    let traffic =
        TrafficSettings { load_balancer: Some(algorithm.clone()), slow_start, ..TrafficSettings::default() };
    let locality = Locality::default();
    let view = |group| View { group, locality: &locality, ipv6: false, traffic: &traffic };
    let (before, after) = (group(endpoints - 1), group(endpoints));
    let backend = Backend::new(&view(&before), Moment::START);
    backend.update(&view(&after), Moment::START);
    let mut dice = Dice::seeded(1);
    let mut run = || {
        let began = Instant::now();
        for n in 0..u64::from(PICKS) {
            let ask = Ask { now: Moment::from_nanos(n * 1000), hash: Some(dice.number()), tried: &[] };
            let set = backend.endpoints();
            let endpoint = set.pick(&ask, &mut dice).expect("there are endpoints");
            drop(std::hint::black_box(endpoint.serve(ask.now)));
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS)
    };
    (0..RUNS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn group(endpoints: u32) -> EndpointGroup {
    let endpoint = |n: u32| Endpoint {
        address: (Ipv4Addr::from_bits(0x0a00_0000 + n), 80).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: None,
    };
    EndpointGroup {
        service: ObjectName::new("shop", "web"),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: (1..=endpoints).map(endpoint).collect(),
    }
}

const PICKS: u32 = 50_000;
const RUNS: u32 = 100;
