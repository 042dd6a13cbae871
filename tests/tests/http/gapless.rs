//! Routes come and go under traffic: a Service changes between the kernel path and the proxy without a loss.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use weft_tests::{Answer, Pod, manifests, soon};

use crate::shop::{FRONT, ROUTE, Shop};

#[test]
fn a_route_that_comes_and_goes_fails_no_request() {
    let Some(shop) = Shop::open_unrouted() else { return };
    let traffic = Traffic::default();
    thread::scope(|scope| {
        scope.spawn(|| traffic.fresh(&shop.web));
        scope.spawn(|| traffic.kept(&shop.web, KEPT));
        scope.spawn(|| traffic.kept(&shop.web, usize::MAX));
        let _stop = Stop(&traffic.done);
        for _ in 0..TIMES {
            traffic.some_more();
            shop.world.apply("route.yaml", &manifests::http_route("shop/front", ROUTE));
            shop.node.wait();
            let proxied = shop.node.stat("proxied");
            traffic.some_more();
            // Those that were there before may have had all of these answers.
            soon(|| shop.node.stat("proxied") > proxied);
            shop.node.remove("route.yaml");
            shop.node.wait();
        }
    });
}

#[test]
fn what_is_enforced_is_known_to_the_proxy() {
    let Some(shop) = Shop::open_unrouted() else { return };
    shop.world.apply("route.yaml", &manifests::http_route("shop/front", ROUTE));
    shop.node.wait();
    // Nothing is waited for: the first request after `weft status --wait` takes the route.
    assert_eq!(shop.web.get(FRONT, "/v2", &[]).unwrap().seen().server, "v2");
    let elsewhere = ROUTE.replace("/v2", "/elsewhere");
    shop.world.apply("route.yaml", &manifests::http_route("shop/front", &elsewhere));
    shop.node.wait();
    assert_eq!(shop.web.get(FRONT, "/v2", &[]).unwrap().seen().server, "v1");
    assert_eq!(shop.web.get(FRONT, "/elsewhere", &[]).unwrap().seen().server, "v2");
}

/// Clients that ask until they are told to stop; a failure is a panic.
#[derive(Default)]
struct Traffic {
    answered: AtomicUsize,
    done: AtomicBool,
}

impl Traffic {
    fn fresh(&self, pod: &Pod) {
        while !self.done.load(Ordering::Relaxed) {
            self.count(&pod.get(FRONT, "/", &[]).expect("a connection of its own"));
        }
    }

    /// So many requests on each connection.
    fn kept(&self, pod: &Pod, each: usize) {
        while !self.done.load(Ordering::Relaxed) {
            let mut client = pod.http(FRONT).expect("a connection that is kept");
            for _ in 0..each {
                if self.done.load(Ordering::Relaxed) {
                    break;
                }
                self.count(&client.ask(("GET", "/"), &[], &[]).expect("one more answer"));
            }
        }
    }

    fn count(&self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{}", answer.header("x-weft-reason"));
        self.answered.fetch_add(1, Ordering::Relaxed);
        // The agent and the proxy need the processor, too.
        thread::sleep(Duration::from_millis(1));
    }

    #[track_caller]
    fn some_more(&self) {
        let goal = self.answered.load(Ordering::Relaxed) + SOME;
        soon(|| self.answered.load(Ordering::Relaxed) >= goal);
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const TIMES: usize = 10;
const KEPT: usize = 20;
const SOME: usize = 100;
