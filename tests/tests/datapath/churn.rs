//! Endpoints change while clients connect.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weft_tests::{Agent, Node, Pod, World, at_a_rate, manifests, slowness};

use crate::backends::{Backend, answers, at, counter, names};

#[test]
fn connections_during_updates_go_to_the_old_endpoints_or_the_new_ones_and_none_fails() {
    let Some(world) = World::new() else { return };
    let shop = &Shop::open(&world, 100, "");
    // In each phase one endpoint is in neither of the two sets that alternate, though it was before.
    for (old, new) in [(&[0, 1][..], &[1, 2][..]), (&[2, 3], &[3, 0]), (&[1], &[2])] {
        shop.apply(old);
        shop.node.wait();
        let either: BTreeSet<_> = old.iter().chain(new).map(|i| shop.api[*i].name.clone()).collect();
        assert_eq!(shop.flip_and_connect(old, new, Pod::ask), either);
        shop.apply(new);
        shop.node.wait();
        let only: BTreeSet<_> = new.iter().map(|i| shop.api[*i].name.clone()).collect();
        assert_eq!(answers(&shop.web, vip(0), 20), only);
        assert_eq!(answers(&shop.web, vip(99), 20), only);
    }
    // A thousand Services are updated each second, which is two frontends each, and connections are made meanwhile; not as many
    // as there can be: they would take the processors that the updates need.
    let ask = |client: &Pod, to| {
        thread::sleep(BREATH);
        client.ask(to)
    };
    let seen = shop.flip_and_connect_until(&[0, 1], &[1, 2], ask, || {
        at_a_rate("switched frontends", 2.0 * 1000.0, || shop.generation());
    });
    assert!(seen.is_subset(&names(["api-1", "api-2", "api-3"])), "{seen:?}");
    assert_eq!(counter(&shop.node, "denied_connect"), 0);
}

#[test]
fn affinity_and_hashes_keep_to_the_sets_too_while_they_change() {
    let Some(world) = World::new() else { return };
    let shop = &Shop::open(&world, 20, ", sessionAffinity: ClientIP");
    let target = "{group: \"\", kind: Service, name: api-0}";
    let hash = "{type: ConsistentHash, consistentHash: {type: SourceIP, tableSize: 1009}}";
    let hash = format!("{{targetRefs: [{target}], loadBalancer: {hash}}}");
    shop.node.apply("hash.yaml", &manifests::traffic_policy("shop/hash", &hash));
    shop.apply(&[3]);
    shop.node.wait();
    assert_eq!(answers(&shop.web, vip(0), 5), names(["api-4"]));
    shop.apply(&[0, 1]);
    shop.node.wait();
    let seen = shop.flip_and_connect(&[0, 1], &[1, 2], Pod::ask);
    assert!(seen.is_subset(&names(["api-1", "api-2", "api-3"])), "{seen:?}");
}

#[test]
fn datagrams_are_answered_while_endpoints_change() {
    let Some(world) = World::new() else { return };
    let shop = &Shop::open(&world, 20, "");
    shop.apply(&[0, 1]);
    shop.node.wait();
    let seen = shop.flip_and_connect(&[0, 1], &[1, 2], |client, to| {
        let to = SocketAddr::new(to.ip(), 53);
        let (name, from) = client.ask_udp(to)?;
        assert_eq!(from, to);
        Ok(name)
    });
    assert!(seen.is_subset(&names(["api-1", "api-2", "api-3"])), "{seen:?}");
}

/// Services `api-0`, `api-1`, ... that all have the same endpoints, of four pods.
struct Shop {
    node: Node,
    web: Pod,
    api: Vec<Backend>,
    services: usize,
    _agent: Agent,
}

impl Shop {
    fn open(world: &World, services: usize, spec: &str) -> Self {
        let node = world.node("a");
        let web = node.pod("shop/web").start();
        let api = Backend::several(&node, "api", 4);
        let ports = "[{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP, targetPort: 5353}]";
        let objects: Vec<_> = (0..services)
            .map(|i| {
                let spec = format!("{{clusterIP: {}, ports: {ports}{spec}}}", vip(i).ip());
                manifests::service(&format!("shop/api-{i}"), &spec)
            })
            .collect();
        node.apply("services.yaml", &manifests::documents(&objects));
        let agent = node.agent();
        Self { node, web, api, services, _agent: agent }
    }

    /// Puts these of the pods behind all Services.
    fn apply(&self, pods: &[usize]) {
        self.node.apply("slices.yaml", &self.slices(pods));
    }

    fn slices(&self, pods: &[usize]) -> String {
        let endpoints: Vec<_> =
            pods.iter().map(|i| format!("{{addresses: [{}]}}", self.api[*i].pod.ip())).collect();
        let endpoints = format!("[{}]", endpoints.join(", "));
        let ports = "[{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}]";
        let slice = |i| manifests::endpoint_slice(&format!("shop/api-{i}"), "v4", "IPv4", ports, &endpoints);
        manifests::documents(&(0..self.services).map(slice).collect::<Vec<_>>())
    }

    /// Alternates the endpoints faster than any agent reads, connects all the while, and says who
    /// answered. Every connection must be answered.
    fn flip_and_connect(
        &self,
        old: &[usize],
        new: &[usize],
        ask: impl Fn(&Pod, SocketAddr) -> std::io::Result<String> + Sync,
    ) -> BTreeSet<String> {
        self.flip_and_connect_until(old, new, ask, || thread::sleep(CHURN * slowness()))
    }

    /// As [`Shop::flip_and_connect`], until `work` is done.
    fn flip_and_connect_until(
        &self,
        old: &[usize],
        new: &[usize],
        ask: impl Fn(&Pod, SocketAddr) -> std::io::Result<String> + Sync,
        work: impl FnOnce(),
    ) -> BTreeSet<String> {
        let done = AtomicBool::new(false);
        let yamls = [self.slices(old), self.slices(new)];
        thread::scope(|scope| {
            scope.spawn(|| {
                for yaml in yamls.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                    self.node.apply("slices.yaml", yaml);
                    thread::sleep(BREATH);
                }
            });
            let connecting = scope.spawn(|| {
                let _stop = Stop(&done);
                let mut seen = BTreeSet::new();
                for i in (0..self.services).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                    seen.insert(ask(&self.web, vip(i)).unwrap_or_else(|error| panic!("{}: {error}", vip(i))));
                }
                seen
            });
            let stop = Stop(&done);
            work();
            drop(stop);
            connecting.join().expect("every connection is answered")
        })
    }

    /// How often a frontend was switched to other slots.
    fn generation(&self) -> f64 {
        let frontends = self.node.weft_json(&["bpf", "services"]);
        let generations = frontends.as_array().unwrap().iter().map(|row| row["generation"].as_f64());
        generations.flatten().max_by(f64::total_cmp).unwrap()
    }
}

/// Ends the writer also when a connection fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn vip(service: usize) -> SocketAddr {
    at(&format!("10.96.1.{service}:80"))
}

const CHURN: Duration = Duration::from_millis(1500);
const BREATH: Duration = Duration::from_millis(1);
