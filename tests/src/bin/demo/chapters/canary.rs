//! A version comes step by step, and its failures are hidden.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::http;
use crate::screen::{self, grouped};
use crate::shop::{CANARY, Shop, WEB};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(9, "A canary, step by step, and retries that hide that it fails");
    for (share, low, high) in STEPS {
        screen::say(format!("api-v2 gets {share} of 100 requests:"));
        put(shop, share, "");
        let (counts, failed) = ask(shop)?;
        ensure!(failed == 0, "{failed} requests failed");
        ensure!((low..=high).contains(&counts[1]), "{} of {REQUESTS} to v2 is no {share} %", counts[1]);
    }
    shop.break_api_v2()?;
    screen::say("Back to 10 of 100, and api-v2 answers every request by 502:");
    put(shop, FAILING, "");
    let (_, failed) = ask(shop)?;
    ensure!(failed > 0, "a server that fails has failed nobody");
    screen::fact(format_args!("{failed} of {REQUESTS} orders failed"));
    screen::manifest(CANARY.0, RETRY.trim_start_matches('\n'));
    put(shop, FAILING, RETRY);
    let started = Instant::now();
    let (counts, failed) = ask(shop)?;
    ensure!(failed == 0, "{failed} requests failed in spite of retries");
    ensure!(counts[1] == 0, "api-v2 has taken an order");
    screen::timed(
        &format!("{} orders, 0 failed: api-v1 has taken them all", grouped(REQUESTS as usize)),
        started.elapsed(),
    );
    shop.mend_api_v2()
}

/// The route by weights, instead of that by header.
fn put(shop: &Shop, share: u32, retry: &str) {
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{namespace: shop, name: api}}
spec:
  parentRefs: [{{group: \"\", kind: Service, name: api, port: 80}}]
  rules:
  - backendRefs:
    - {{name: api-v1, port: 80, weight: {}}}
    - {{name: api-v2, port: 80, weight: {share}}}{retry}
",
        100 - share
    );
    shop.apply((CANARY.0, &route));
}

/// Who has taken the orders, and how many failed.
fn ask(shop: &Shop) -> Result<([u32; 2], u32)> {
    let (mut counts, mut failed) = ([0_u32; 2], 0);
    let web = WEB.parse().context("web's address")?;
    for asked in 0..REQUESTS {
        if asked % LOOK == 0 {
            screen::bars_so_far(NAMES, counts, asked);
        }
        match http::get(&shop.pods.visitor, web) {
            Ok(answer) => counts[usize::from(answer.contains("api-v2"))] += 1,
            Err(_) => failed += 1,
        }
    }
    screen::bars(NAMES, counts, REQUESTS);
    Ok((counts, failed))
}

const NAMES: [&str; 2] = ["api-v1", "api-v2"];
const REQUESTS: u32 = 400;
/// On a terminal the shares are shown anew after so many.
const LOOK: u32 = 20;
/// Percent of the requests, and what five standard deviations of a fair draw leave.
const STEPS: [(u32, u32, u32); 3] = [(10, 10, 70), (50, 150, 250), (90, 330, 390)];
/// Percent that fail: of 100 requests the mesh sends no more than 20 again, unless it is told to.
const FAILING: u32 = 10;
const RETRY: &str = "
    retry: {codes: [502], attempts: 2}";
