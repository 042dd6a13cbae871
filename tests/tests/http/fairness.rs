//! One pod's flood is no outage for another. How much slower it makes it: `cargo xtask bench l7 --only fairness`.

use std::thread;
use std::time::{Duration, Instant};

use weft_tests::{eventually, manifests, text};

use crate::shop::{FRONT, Shop};

#[test]
fn a_pod_is_served_within_two_seconds_while_another_floods_the_proxy() {
    let Some(shop) = Shop::open() else { return };
    let noisy = shop.node.pod("shop/noisy").start();
    // Refused by the proxy itself: its answers cost nobody else anything, so that it is the proxy that is flooded.
    let route = "{parentRefs: [{group: \"\", kind: Service, name: front}], rules: [\
                 {matches: [{path: {type: Exact, value: /}}], backendRefs: [{name: v1, port: 80}]}]}";
    shop.world.apply("route.yaml", &manifests::http_route("shop/front", route));
    shop.node.wait();
    eventually(START, || noisy.get(FRONT, "/flood", &[]).is_ok_and(|answer| answer.status == 404));
    let url = format!("http://{FRONT}/flood");
    thread::scope(|scope| {
        let flood = scope.spawn(|| text(&noisy.exec(&["wrk", "-t", "1", "-c", "400", "-d", "8", &url])));
        let mut client = shop.web.http(FRONT).unwrap();
        let mut served = 0;
        while !flood.is_finished() {
            let began = Instant::now();
            // On a kept connection and on new ones: those are accepted in turn, too.
            let kept = client.ask(("GET", "/"), &[], &[]).unwrap();
            let new = shop.web.get(FRONT, "/", &[]).unwrap();
            assert_eq!((kept.seen().server, new.seen().server), ("v1".into(), "v1".into()));
            assert!(began.elapsed() < LIMIT, "two requests took {:?} after {served}", began.elapsed());
            served += 2;
        }
        let said = flood.join().unwrap();
        let requests =
            said.lines().find_map(|line| line.split_once(" requests in")?.0.trim().parse::<u64>().ok());
        assert!(requests.is_some_and(|requests| requests > 1000) && served > 10, "{served} beside {said}");
    });
}

const LIMIT: Duration = Duration::from_secs(2);
const START: Duration = Duration::from_secs(30);
