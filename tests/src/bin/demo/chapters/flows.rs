//! What was seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::screen::{self, grouped};
use crate::shop::Shop;

/// Client, Service, server, verdict, reason.
type Key = [String; 5];

#[derive(Default)]
struct Sum {
    flows: usize,
    sent: u64,
    received: u64,
    rtts: Vec<u64>,
}

/// `requests` were answered since the agents were killed.
pub(super) fn tell(shop: &mut Shop, requests: usize) -> Result<()> {
    screen::chapter(7, "What the new agents know of it");
    screen::command_in("weft observe -o json", "on each node, summed up");
    let mut sums = BTreeMap::new();
    let mut seen = 0;
    // The last events are on their way for some milliseconds.
    let deadline = Instant::now() + Duration::from_secs(5);
    while seen < requests && Instant::now() < deadline {
        sums = sum_up(shop)?;
        seen = sums.iter().filter(|([client, ..], _)| client == "visitor").map(|(_, sum)| sum.flows).sum();
    }
    screen::output(&table(&sums));
    ensure!(seen >= requests, "{seen} flows of visitor for {requests} requests");
    ensure!(sums.keys().any(|[client, ..]| client == "intruder"), "no flow of the intruder");
    let lost: u64 = shop.nodes.iter().map(|node| node.stat("events_lost")).sum();
    ensure!(lost == 0, "the kernel had no room for {lost} events");
    screen::fact(format_args!(
        "none of the {} requests since the kill is missing: the kernel kept their events",
        grouped(requests)
    ));
    Ok(())
}

/// The end: what the agents have seen since they began to speak mutual TLS, and where to look by oneself.
pub(super) fn look_further(shop: &Shop) -> Result<()> {
    screen::chapter(12, "Flows of the last chapters, and how to look further");
    screen::command_in("weft observe -o json", "on each node, summed up");
    let sums = sum_up(shop)?;
    screen::output(&table(&sums));
    ensure!(!sums.is_empty(), "the agents have seen nothing");
    screen::command_in("cargo xtask demo --keep", "leaves it running, to look around in");
    for (command, shows) in FURTHER {
        screen::command_in(command, shows);
    }
    Ok(())
}

const FURTHER: [(&str, &str); 5] = [
    ("weft status", "what is enforced, and what is not"),
    ("weft observe --follow --verdict DENIED", "flows as they come"),
    ("weft describe service shop/api", "one object, and all that concerns it"),
    ("weft authz check --from SA --to SVC:PORT", "who may what, by which rule"),
    ("bpftool map dump pinned .../maps/weft_svc", "the rows themselves, with names"),
];

fn sum_up(shop: &Shop) -> Result<BTreeMap<Key, Sum>> {
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    for flow in shop.nodes.iter().flat_map(|node| node.flows(&[])) {
        let (client, server) = (&flow["source"]["pod"], &flow["destination"]["pod"]);
        ensure!(client.is_string() && server.is_string(), "a flow without names: {flow}");
        // Between nodes the server's node tells it once more, without the Service that was dialled.
        let told = flow["verdict"] == "FORWARDED" && flow["destination"]["service"].is_null();
        if flow["kind"] != "opened" && !told {
            sums.entry(key(&flow)).or_default().add(&flow);
        }
    }
    Ok(sums)
}

impl Sum {
    fn add(&mut self, flow: &Value) {
        self.flows += 1;
        self.sent += flow["bytesSent"].as_u64().unwrap_or_default();
        self.received += flow["bytesReceived"].as_u64().unwrap_or_default();
        self.rtts.extend(flow["rttUs"].as_u64());
    }
}

fn key(flow: &Value) -> Key {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (source, destination) = (&flow["source"], &flow["destination"]);
    [
        word(&source["pod"]),
        word(&destination["service"]),
        word(&destination["pod"]),
        word(&flow["verdict"]),
        word(&flow["reason"]),
    ]
}

fn table(sums: &BTreeMap<Key, Sum>) -> String {
    let head = ["CLIENT", "SERVICE", "SERVER", "VERDICT", "FLOWS", "SENT", "RECEIVED", "RTT"];
    let mut text = row(head.map(str::to_owned));
    for ([client, service, server, verdict, reason], sum) in sums {
        let verdict = if reason == "-" { verdict.clone() } else { format!("{verdict} {reason}") };
        let mut rtts = sum.rtts.clone();
        rtts.sort_unstable();
        let rtt = rtts.get(rtts.len() / 2).map_or_else(|| "-".to_owned(), |rtt| format!("{rtt} µs"));
        let [sent, received] = [sum.sent, sum.received].map(kib);
        let flows = grouped(sum.flows);
        text += &row([client.clone(), service.clone(), server.clone(), verdict, flows, sent, received, rtt]);
    }
    text
}

fn row([client, service, server, verdict, flows, sent, received, rtt]: [String; 8]) -> String {
    format!("{client:9} {service:8} {server:8} {verdict:23} {flows:>6} {sent:>9} {received:>9} {rtt:>7}\n")
}

fn kib(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} B")
    } else {
        format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024)
    }
}
