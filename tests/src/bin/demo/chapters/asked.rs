//! Who may ask the api, and for what: judged by the proxy of its node, request by request.

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Pod, soon, text};

use crate::http;
use crate::screen;
use crate::shop::{API, API_CALLERS, Shop, WEB};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(11, "A policy by ServiceAccount and path");
    let (file, yaml) = API_CALLERS;
    screen::manifest(file, &yaml[yaml.find("spec:").context("api-callers.yaml has a spec")?..]);
    shop.apply(API_CALLERS);
    // The proxies take a policy a moment after the kernel has it.
    soon(|| ask(&shop.pods.visitor, "/").is_ok_and(|(status, _)| status == 403));
    let asked = [(&shop.pods.web, "web", "/", 200), (&shop.pods.web, "web", "/admin", 403)];
    for (pod, name, path, wanted) in asked.into_iter().chain([(&shop.pods.visitor, "visitor", "/", 403)]) {
        let (status, reason) = ask(pod, path).with_context(|| format!("{name} asks for {path}"))?;
        ensure!(status == wanted, "{name} gets {status} for {path}, not {wanted}");
        ensure!((status == 403) == (reason == "NotAllowed"), "the reason is {reason:?}");
        let why = if reason.is_empty() { String::new() } else { format!(", x-weft-reason: {reason}") };
        screen::output(&format!("{name:8} GET {path:7} {status}{why}"));
    }
    for _ in 0..REQUESTS {
        http::get(&shop.pods.visitor, WEB.parse()?).context("a request to web")?;
    }
    screen::fact(format_args!("by way of web, {REQUESTS} of {REQUESTS} orders taken"));
    let check = ["authz", "check", "--from", "shop/web", "--to", "shop/api:80", "--path", "/admin"];
    screen::command(format_args!("weft {}", check.join(" ")));
    let said = shop.nodes[1].weft(&check);
    screen::output(&text(&said));
    ensure!(said.status.code() == Some(1), "weft authz check does not say no");
    Ok(())
}

/// The status of `GET path`, and why it was refused.
fn ask(pod: &Pod, path: &str) -> Result<(u16, String)> {
    let answer = http::ask(pod, API.parse()?, path)?;
    let mut lines = answer.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has a status")?;
    let reason = lines.find_map(|line| line.strip_prefix("x-weft-reason: ")).unwrap_or_default();
    Ok((status.parse()?, reason.to_owned()))
}

const REQUESTS: usize = 50;
