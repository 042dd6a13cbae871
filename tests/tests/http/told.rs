//! Records go on through the ends of agents and proxies.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::soon;

use crate::shop::{FRONT, Shop};

#[test]
fn a_restarted_agent_counts_from_zero_and_what_pods_have_used_goes_on() {
    let Some(mut shop) = Shop::open() else { return };
    for _ in 0..20 {
        shop.ask("/v2");
    }
    soon(|| shop.counted() >= 20.0 && shop.used() >= 20.0);
    shop.agent.kill();
    // What ends while no agent is there is told to the next one.
    shop.ask("/v2");
    shop.agent.start();
    shop.node.wait();
    soon(|| shop.node.has_proxy());
    shop.ask("/v2");
    soon(|| shop.counted() >= 2.0);
    assert!(shop.counted() < 20.0, "{}", shop.counted());
    soon(|| shop.used() >= 22.0);
    let flows = shop.node.flows(&[]);
    assert!(flows.iter().any(|flow| flow["http"]["path"] == "/v2"), "{flows:?}");
}

#[test]
fn both_generations_of_an_upgrade_tell_what_they_carried() {
    let Some(shop) = Shop::open() else { return };
    let mut kept = shop.web.http(FRONT).unwrap();
    assert_eq!(kept.ask(("GET", "/v2"), &[], &[]).unwrap().status, 200);
    let old = shop.node.proxy_pid();
    let upgrade = shop.node.weft(&["proxy", "upgrade"]);
    assert!(upgrade.status.success(), "{}", weft_tests::text(&upgrade));
    assert_ne!(shop.node.proxy_pid(), old);
    shop.ask("/v2");
    // Its last request: the old one ends then.
    assert_eq!(kept.ask(("GET", "/v2"), &[], &[]).unwrap().status, 200);
    drop(kept);
    soon(|| shop.counted() >= 3.0);
    let processes = || shop.node.metric("weft_proxy_processes", &[]);
    soon(|| processes() < 1.5);
    soon(|| shop.used() >= 3.0);
    assert!(shop.node.metric("weft_proxy_connections_open", &["pod=\"web\""]) < 0.5);
    assert!(shop.node.metric("weft_proxy_records_lost_total", &[]) < 0.5);
}

#[test]
fn what_a_killed_proxy_had_open_is_open_no_more_and_its_totals_stay() {
    let Some(shop) = Shop::open() else { return };
    let mut kept = shop.web.http(FRONT).unwrap();
    for _ in 0..20 {
        assert_eq!(kept.ask(("GET", "/v2"), &[], &[]).unwrap().status, 200);
    }
    let open = || shop.node.metric("weft_proxy_connections_open", &["pod=\"web\""]);
    let generation = || shop.node.metric("weft_proxy_generation", &[]);
    soon(|| open() >= 1.0 && shop.used() >= 20.0);
    let (before, first) = (shop.used(), generation());
    kill(Pid::from_raw(shop.node.proxy_pid()), Signal::SIGKILL).unwrap();
    shop.ask("/v2");
    soon(|| shop.node.metric("weft_proxy_restarts_total", &[]) >= 1.0 && generation() > first);
    soon(|| shop.used() > before && open() < 0.5);
    drop(kept);
}

impl Shop {
    fn ask(&self, path: &str) {
        assert_eq!(self.web.get(FRONT, path, &[]).expect("the proxy answers").status, 200);
    }

    /// Requests to `v2` that the agent has counted.
    fn counted(&self) -> f64 {
        let labels = ["reporter=\"source\"", "destination_workload=\"v2\"", "response_code=\"200\""];
        self.node.metric("istio_requests_total", &labels)
    }

    /// Requests that pod `web` has made of proxies.
    fn used(&self) -> f64 {
        self.node.metric("weft_proxy_requests_total", &["pod=\"web\""])
    }
}
