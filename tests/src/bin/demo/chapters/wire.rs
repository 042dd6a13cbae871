//! What the network between the nodes sees, without and with mutual TLS.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use weft_tests::wire::{Stream, Wire};
use weft_tests::{soon, text};

use crate::http;
use crate::screen;
use crate::shop::{Shop, WEB};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(10, "Mutual TLS between the nodes, as the wire shows it");
    let clear = captured(shop, |stream| stream.contains(CLEAR))?;
    screen::say("From node a to node b, web to the api:");
    show(&clear);
    let folder = shop.world.dir().join("ca").display().to_string();
    screen::command("weft ca init --dir ca");
    let made = shop.nodes[0].weft_alone(&["ca", "init", "--dir", &folder]);
    ensure!(made.status.success(), "weft ca init failed: {}", text(&made));
    screen::command_in("weft agent --ca-dir ca ... &", "each again");
    for agent in &mut shop.agents {
        agent.restart_with(&["--ca-dir", &folder]);
    }
    // Both nodes have certificates, and each knows that the other one has.
    soon(|| captured(shop, Stream::is_tls13).is_ok());
    let wire = Wire::new(&shop.pods.web);
    for _ in 0..REQUESTS {
        http::get(&shop.pods.visitor, WEB.parse()?).context("a request to web")?;
    }
    soon(|| streams(shop, &wire).len() >= 2);
    wire.begun(2);
    let sealed = streams(shop, &wire);
    let first = sealed.iter().find(|stream| goes_out(shop, stream)).context("nothing goes to node b")?;
    show(first);
    ensure!(sealed.iter().all(Stream::is_tls13), "a connection between the nodes is no TLS 1.3");
    ensure!(!sealed.iter().any(|stream| stream.contains(CLEAR) || stream.contains(b"order ")), "clear text");
    screen::fact(format_args!(
        "{REQUESTS} of {REQUESTS} orders taken: all of it records of TLS 1.3, no byte of a request in clear"
    ));
    screen::command_in("weft get certificates", "on node b, in short");
    let said = text(&shop.nodes[1].weft(&["get", "certificates"]));
    for line in said.lines().filter(|line| line.starts_with("spiffe://")) {
        let mut words = line.split_whitespace();
        let (identity, until) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        screen::output(&format!("{identity:44} until {until}"));
    }
    ensure!(said.contains("/sa/api"), "the api has no certificate");
    Ok(())
}

/// The way out of a request between the nodes for which `is` holds.
fn captured(shop: &Shop, is: impl Fn(&Stream) -> bool) -> Result<Stream> {
    let wire = Wire::new(&shop.pods.web);
    http::get(&shop.pods.visitor, WEB.parse()?).context("a request to web")?;
    let mut found = None;
    soon(|| {
        found = streams(shop, &wire).into_iter().find(|stream| goes_out(shop, stream));
        found.is_some()
    });
    found.filter(is).context("the wire does not show what it should")
}

/// What goes over web's wire to the api and back.
fn streams(shop: &Shop, wire: &Wire) -> Vec<Stream> {
    let api = [&shop.pods.api_v1, &shop.pods.api_v2].map(|pod| std::net::IpAddr::from(pod.ip()));
    let is_between = |stream: &Stream| api.contains(&stream.from.ip()) || api.contains(&stream.to.ip());
    wire.streams().into_iter().filter(is_between).collect()
}

fn goes_out(shop: &Shop, stream: &Stream) -> bool {
    stream.from.ip() == std::net::IpAddr::from(shop.pods.web.ip())
}

/// Its first bytes, as `tcpdump -X` shows them.
fn show(stream: &Stream) {
    let mut text = String::new();
    for (line, bytes) in stream.bytes.chunks(16).take(LINES).enumerate() {
        let pair = |pair: &[u8]| match pair {
            [high, low] => format!("{high:02x}{low:02x}"),
            rest => format!("{:02x}", rest[0]),
        };
        let hex: Vec<_> = bytes.chunks(2).map(pair).collect();
        let ascii: String =
            bytes.iter().map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(text, "{:04x}  {:39}  {ascii}", line * 16, hex.join(" "));
    }
    screen::output(&text);
}

const REQUESTS: usize = 50;
const LINES: usize = 4;
const CLEAR: &[u8] = b"GET / HTTP/1";
