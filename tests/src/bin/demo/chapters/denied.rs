//! Who may not talk to the database.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use weft_tests::{Pod, soon, text};

use crate::http;
use crate::screen;
use crate::shop::{DB, DB_CLIENTS, Shop, WEB};

pub(super) fn tell(shop: &mut Shop) -> Result<()> {
    screen::chapter(4, "A denied client");
    let (file, yaml) = DB_CLIENTS;
    screen::manifest(file, &yaml[yaml.find("spec:").context("db-clients.yaml has a spec")?..]);
    shop.apply(DB_CLIENTS);
    try_db(&shop.pods.intruder, "intruder, on the database's node", "Permission denied")?;
    let took = refusal(&shop.pods.intruder, ErrorKind::PermissionDenied)?;
    screen::timed("connect(2) said EACCES: decided before a packet left", took);
    show_refusal(shop, "intruder")?;
    try_db(&shop.pods.visitor, "visitor, on the other node", "Connection refused")?;
    let took = refusal(&shop.pods.visitor, ErrorKind::ConnectionRefused)?;
    screen::timed("a reset at once, by the kernel in front of the database's socket", took);
    show_refusal(shop, "visitor")?;
    for _ in 0..REQUESTS {
        http::get(&shop.pods.visitor, WEB.parse()?).context("a request to web")?;
    }
    screen::fact(format_args!("the api still may: {REQUESTS} of {REQUESTS} orders taken"));
    Ok(())
}

/// A real client's words.
fn try_db(pod: &Pod, place: &str, words: &str) -> Result<()> {
    screen::command_in("redis-cli -h 10.96.0.30 ping", &format!("in pod {place}"));
    let said = text(&pod.exec(&["redis-cli", "-h", "10.96.0.30", "ping"]));
    screen::output(&said);
    ensure!(said.contains(words), "redis-cli did not say {words:?}");
    Ok(())
}

/// How long connect(2) takes to refuse.
fn refusal(pod: &Pod, kind: ErrorKind) -> Result<Duration> {
    // The first socket of a pod starts a process to make it in; that is not to be measured.
    pod.socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let started = Instant::now();
    let result = pod.tcp_connect(DB.parse()?);
    let took = started.elapsed();
    let error = result.err().context("the connection was let through")?;
    ensure!(error.kind() == kind, "connect(2) says {error}, not {kind:?}");
    Ok(took)
}

/// The agent's words.
fn show_refusal(shop: &Shop, pod: &str) -> Result<()> {
    let node = &shop.nodes[1];
    let arguments = ["observe", "--verdict", "DENIED", "--pod", pod, "--last", "1"];
    soon(|| !node.flows(&arguments[1..5]).is_empty());
    let said = text(&node.weft(&arguments));
    screen::command(format_args!("weft {}", arguments.join(" ")));
    screen::output(&said);
    ensure!(said.contains("NotAllowed"), "the reason is not NotAllowed");
    Ok(())
}

const REQUESTS: usize = 100;
