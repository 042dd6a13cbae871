//! An HTTPRoute: from now on the requests to one Service take the node's proxy, and nobody else's do.

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Node, soon, text};

use crate::http;
use crate::screen::{self, grouped};
use crate::shop::{CANARY, Shop, WEB};
use crate::traffic::Traffic;

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(8, "A route by header: one Service's requests take the node's proxy");
    let (file, yaml) = CANARY;
    screen::manifest(file, &yaml[yaml.find("spec:").context("canary.yaml has a spec")?..]);
    shop.apply(CANARY);
    let a = &shop.nodes[0];
    soon(|| a.has_proxy());
    explain(a)?;
    for (headers, version) in [("x-canary: yes\r\n", "api-v2"), ("", "api-v1")] {
        for _ in 0..REQUESTS {
            let answer = http::get_with(&shop.pods.visitor, WEB.parse()?, headers)?;
            ensure!(answer.contains(version), "{headers:?} was answered: {answer}");
        }
    }
    screen::fact(format_args!(
        "{REQUESTS} of {REQUESTS} orders with the header were taken by api-v2, {REQUESTS} of {REQUESTS} without by api-v1"
    ));
    seen(a);
    replaced(shop)
}

/// Which way a request would take, and why.
fn explain(node: &Node) -> Result<()> {
    let arguments = ["explain", "--from", "shop/web", "--to", "shop/api:80", "-H", "x-canary: yes"];
    let said = text(&node.weft(&arguments));
    screen::command("weft explain --from shop/web --to shop/api:80 -H 'x-canary: yes'");
    screen::output(&said);
    ensure!(said.contains("api-v2"), "weft explain does not name api-v2");
    Ok(())
}

/// What the agent knows of the requests.
fn seen(node: &Node) {
    let wanted = 2 * REQUESTS;
    let arguments = ["--protocol", "HTTP"];
    soon(|| node.flows(&arguments).len() >= wanted);
    screen::command_in("weft observe --protocol HTTP --last 2 -o json", "on node a, in short");
    for flow in node.flows(&arguments).iter().rev().take(2) {
        let (http, server) = (&flow["http"], flow["destination"]["pod"].as_str().unwrap_or("?"));
        let [method, path] = ["method", "path"].map(|field| http[field].as_str().unwrap_or("?"));
        screen::output(&format!(
            "{method} {path}  {status}  {latency} ms  {client} ──► {server}",
            status = http["status"],
            latency = http["latencyMs"],
            client = flow["source"]["pod"].as_str().unwrap_or("?"),
        ));
    }
    screen::command_in("weft stat", "on node a");
    screen::output(&text(&node.weft(&["stat"])));
}

/// The next proxy takes over while requests go on.
fn replaced(shop: &Shop) -> Result<()> {
    let a = &shop.nodes[0];
    screen::command_in("weft proxy upgrade", "on node a, with traffic going on");
    let (traffic, said) = Traffic::during(&shop.pods.visitor, WEB, |traffic| {
        traffic.more(SOME);
        let upgraded = a.weft(&["proxy", "upgrade"]);
        traffic.more(SOME);
        upgraded
    });
    screen::output(&text(&said));
    let failures = traffic.failures();
    ensure!(said.status.success(), "weft proxy upgrade failed");
    ensure!(failures.is_empty(), "{} requests failed, the first: {}", failures.len(), failures[0]);
    screen::fact(format_args!(
        "{} requests before, during and after, {} failed",
        grouped(traffic.answered()),
        failures.len()
    ));
    Ok(())
}

const REQUESTS: usize = 100;
const SOME: usize = 200;
