//! User space dies; the kernel goes on.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use weft_tests::Agent;

use crate::screen::{self, grouped, said};
use crate::shop::{DB, Shop, WEB};
use crate::traffic::Traffic;

/// Returns how many requests were answered from then on.
pub(super) fn tell(shop: &mut Shop) -> Result<usize> {
    screen::chapter(6, "Both agents are killed, with traffic going on");
    let Shop { agents, nodes, pods, .. } = shop;
    let pids: Vec<String> = agents.iter().filter_map(Agent::pid).map(|pid| pid.to_string()).collect();
    let (traffic, result) = Traffic::during(&pods.visitor, WEB, |traffic| -> Result<_> {
        traffic.more(SOME);
        screen::command(format_args!("kill -9 {}", pids.join(" ")));
        agents.iter_mut().for_each(Agent::kill);
        let (died, before) = (Instant::now(), traffic.answered());
        while died.elapsed() < OUTAGE && traffic.failures().is_empty() {
            thread::sleep(POLL);
        }
        let error = pods.intruder.tcp_connect(DB.parse()?).err().context("the intruder was let in")?;
        ensure!(error.kind() == ErrorKind::PermissionDenied, "connect(2) says {error}");
        let (without, gap) = (traffic.answered() - before, died.elapsed());
        screen::command_in("weft agent ... &", "each again");
        let started = Instant::now();
        agents.iter_mut().for_each(Agent::start);
        for node in nodes.iter() {
            node.wait();
        }
        let adopted = started.elapsed();
        traffic.more(SOME);
        Ok((before, without, gap, error, adopted))
    });
    let (before, without, gap, error, adopted) = result?;
    ensure!(without > 0, "no request was answered while no agent ran");
    let failures = traffic.failures();
    ensure!(failures.is_empty(), "{} requests failed, the first: {}", failures.len(), failures[0]);
    screen::timed(&format!("{} requests were answered while no agent ran", grouped(without)), gap);
    screen::fact(format_args!("the intruder, meanwhile: {}", said(&error)));
    screen::timed("new agents adopted what runs in the kernel", adopted);
    screen::fact(format_args!("{} requests in all, {} failed", grouped(traffic.answered()), failures.len()));
    Ok(traffic.answered() - before)
}

const SOME: usize = 200;
/// How long there is no agent.
const OUTAGE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);
