//! What was seen.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::screen::{Screen, grouped};
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

pub(super) fn tell(shop: &mut Shop, screen: &mut Screen) -> Result<()> {
    screen.chapter("What the agents saw since they are back");
    screen.command("weft observe -o json                     # on each node, summed up");
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    for flow in shop.nodes.iter().flat_map(|node| node.flows(&[])) {
        if flow["kind"] != "opened" {
            sums.entry(key(&flow)).or_default().add(&flow);
        }
    }
    ensure!(!sums.is_empty(), "weft observe shows no flow");
    screen.output(&table(&sums));
    Ok(())
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
