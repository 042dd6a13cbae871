//! How the story ends: by itself, by Ctrl-C, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};
use weft_tests::{World, weft};

use crate::screen::{self, span};
use crate::shop::{DB, DB_CLIENTS, Shop, WEB, start};

/// Takes everything away, and says so.
pub(crate) fn close(shop: Shop, told: Duration) -> Result<()> {
    let name = shop.world.name().to_owned();
    let started = Instant::now();
    drop(shop);
    let left = World::remains(&name);
    ensure!(left.is_empty(), "the demo has left something behind: {left:?}");
    screen::say("");
    let told = span(told);
    screen::timed(
        &format!("told in {told}; agents, programs, pods and files are gone again"),
        started.elapsed(),
    );
    Ok(())
}

/// Leaves it running, with some traffic, and says how to look around.
pub(crate) fn keep(mut shop: Shop) -> Result<()> {
    let enter = write_enter(&shop).context("write the script that enters pods")?;
    let asking = format!("sh -c 'while sleep 0.5; do curl -s -o /dev/null http://{}/; done'", host(WEB));
    shop.servers.push(start(&shop.pods.visitor, shop.world.dir(), &asking));
    fs::write(shop.world.dir().join(KEPT), "").context("mark the demo as kept")?;
    shop.world.outlive_process();
    let (enter, b) = (enter.display(), shop.nodes[1].run_dir());
    let (b, weft) = (b.display(), from_here(&weft()));
    screen::chapter(13, "It goes on: the visitor asks twice a second");
    screen::say("Be a pod, in its cgroup and its network namespace:");
    screen::command(format_args!("{enter} visitor curl -s http://{}/", host(WEB)));
    screen::command(format_args!("{enter} intruder redis-cli -h {} ping", host(DB)));
    screen::say("In its namespace alone, a command is a process of the host, which the mesh leaves alone:");
    screen::command(format_args!("ip netns exec {}-shop-db ss -tan", shop.world.name()));
    screen::say("Ask an agent:");
    screen::command(format_args!("{weft} observe --follow --run-dir {b}"));
    screen::command(format_args!("{weft} status --run-dir {b}"));
    screen::command(format_args!("{weft} authz check --from shop/web --to shop/db:6379 --run-dir {b}"));
    screen::say("Change what it reads, and be the intruder again:");
    screen::command(format_args!("rm {}/{}", shop.nodes[1].manifests_dir().display(), DB_CLIENTS.0));
    screen::say("Look into the kernel:");
    screen::command(format_args!("bpftool map dump pinned {}", shop.nodes[1].map_pin("weft_svc").display()));
    screen::command(format_args!("bpftool cgroup tree {}", shop.nodes[1].cgroup().display()));
    screen::say("End it:");
    screen::command("cargo xtask demo --end");
    std::mem::forget(shop);
    Ok(())
}

/// Ends every demo that was kept, or the one called `only`.
pub(crate) fn end_kept(only: Option<&str>) -> Result<()> {
    let folders = fs::read_dir(std::env::temp_dir()).context("read the folder of temporary files")?;
    let kept = folders.flatten().filter(|folder| folder.path().join(KEPT).exists());
    let names = kept.filter_map(|folder| folder.file_name().into_string().ok());
    let names: Vec<String> =
        names.filter(|name| name.starts_with("weft-demo-") && only.is_none_or(|only| only == name)).collect();
    if names.is_empty() {
        screen::say("no such demo is running");
    }
    for name in names {
        let started = Instant::now();
        World::sweep(&name);
        let left = World::remains(&name);
        ensure!(left.is_empty(), "{name} has left something behind: {left:?}");
        screen::timed(&format!("{name} has ended; nothing of it is left"), started.elapsed());
    }
    Ok(())
}

/// On Ctrl-C, and on the other polite signals: everything goes, then this process.
pub(crate) fn clean_up_when_interrupted() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("handle SIGHUP")?;
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
                _ = hangup.recv() => (),
            }
        });
        INTERRUPTED.store(true, Ordering::SeqCst);
        World::sweep(&format!("weft-demo-{}", std::process::id()));
        screen::error("\ninterrupted; everything that the demo had made is gone again");
        std::process::exit(130);
    });
    std::panic::set_hook(Box::new(|panic| {
        stand_still_when_interrupted();
        let what = panic.payload_as_str().unwrap_or("a panic without words");
        let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
        screen::error(&format!("the demo failed: {what}{place}"));
    }));
    Ok(())
}

/// Once the ground is being taken away, what the story's threads see is no failure: they say nothing more.
pub(crate) fn stand_still_when_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// A Service's address without its port.
fn host(address: &str) -> &str {
    address.split(':').next().unwrap_or(address)
}

/// The script that enters a pod.
fn write_enter(shop: &Shop) -> Result<PathBuf> {
    let path = shop.world.dir().join("enter");
    let script = include_str!("enter.sh")
        .replace("WORLD", shop.world.name())
        .replace("GROUPS", &shop.world.cgroup().display().to_string());
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// `path` as seen from the current folder, where it is below.
fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The file that tells a demo that was kept from one that is running.
const KEPT: &str = "kept";
