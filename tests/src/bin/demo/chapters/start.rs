//! Two agents take two nodes.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::screen::{self, dim};
use crate::shop::Shop;

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(1, "Two nodes, a shop, one agent a node");
    screen::say(dim("┌─ node a ───────────────────┐   ┌─ node b ─────────────────────────────────┐"));
    screen::say(format!(
        "{bar} visitor ──► web (nginx) ───┼───┼──► api-v1, api-v2 ──► db (redis)         {bar}",
        bar = dim("│")
    ));
    screen::say(format!(
        "{bar}                            {bar}   {bar}    reports, intruder                     {bar}",
        bar = dim("│")
    ));
    screen::say(dim("└────────────────────────────┘   └──────────────────────────────────────────┘"));
    screen::command_in("weft agent --node a --manifests a/ ... &", "Namespace, Pods, Services as YAML");
    screen::command("weft agent --node b --manifests b/ ... &");
    let started = Instant::now();
    shop.agents = shop.nodes.iter().map(|node| node.spawn_agent(&[])).collect();
    shop.wait();
    let took = started.elapsed();
    let (mut pods, mut programs) = (0, 0);
    for node in &shop.nodes {
        let status = node.weft_json(&["status"]);
        let count = |list: &str, state: &str| {
            let all = status[list].as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter().filter(|one| one["state"] == state).count()
        };
        pods += count("pods", "Enforced");
        programs += count("programs", "attached");
    }
    ensure!(pods == 7, "{pods} of 7 pods are enforced");
    ensure!(programs > 0, "no program is attached");
    screen::timed(
        &format!(
            "{pods} running pods joined as they are; {programs} eBPF programs enforce what the files say"
        ),
        took,
    );
    Ok(())
}
