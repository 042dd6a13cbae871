//! Three Services in a row.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use weft_tests::{Node, soon, text};

use crate::screen::{self, dim};
use crate::shop::{API, DB, Shop, WEB};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(2, "A chain of Services, by ClusterIP");
    screen::command_in("curl http://10.96.0.10/", "in pod visitor");
    let answer = shop.pods.visitor.exec(&["curl", "-sS", "http://10.96.0.10/"]);
    screen::output(&text(&answer));
    ensure!(answer.status.success(), "curl: {}", text(&answer));
    let [a, b] = &shop.nodes;
    for (node, client, service, dialled) in
        [(a, "visitor", "web", WEB), (a, "web", "api", API), (b, "api", "db", DB)]
    {
        let flow = flow(node, client, service)?;
        let word = |end: &str, field: &str| flow[end][field].as_str().unwrap_or_default().to_owned();
        let (client, server, ip) =
            (word("source", "pod"), word("destination", "pod"), word("destination", "ip"));
        screen::fact(format_args!(
            "{client:8} dials {service:4} {dialled:17} {} {server:8} {}",
            dim("and its socket goes to ──►"),
            dim(format_args!("{ip}:{}", flow["destination"]["port"])),
        ));
    }
    Ok(())
}

/// The flow of `node`'s client whose name begins with `client` to `service`, closed.
fn flow(node: &Node, client: &str, service: &str) -> Result<Value> {
    let mut found = None;
    let is = |flow: &Value| {
        let pod = flow["source"]["pod"].as_str().unwrap_or_default();
        pod.starts_with(client) && flow["destination"]["service"] == service
    };
    soon(|| {
        found = node.flows(&[]).into_iter().find(is);
        found.is_some()
    });
    found.context("it has just been found")
}
