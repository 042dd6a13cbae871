//! `cargo xtask demo`, in the dev profile.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{World, text};

#[test]
fn the_demo_does_what_it_says_and_leaves_nothing_behind() {
    let Some(_counted) = World::new() else { return };
    let began = Instant::now();
    let demo = demo().spawn().unwrap();
    let name = name(&demo);
    let output = demo.wait_with_output().unwrap();
    let took = began.elapsed();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" requests in all, 0 failed"), "{said}");
    for wanted in CHAPTERS {
        assert!(said.contains(wanted), "{wanted:?} is not in it: {said}");
    }
    assert!(took < Duration::from_mins(1), "it took {took:?}");
    assert!(!said.contains('\u{1b}'), "colours in a pipe: {said}");
    let width = said.lines().map(|line| line.chars().count()).max();
    assert!(width <= Some(100), "a line of {width:?} characters: {said}");
    assert_gone(&name);
}

#[test]
fn the_demo_cleans_up_after_itself_when_it_is_interrupted() {
    let Some(_counted) = World::new() else { return };
    let mut demo = demo().spawn().unwrap();
    let name = name(&demo);
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("3 ")).unwrap().unwrap();
    assert!(!World::remains(&name).is_empty(), "it is under way");
    kill(Pid::from_raw(demo.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    assert_gone(&name);
}

#[test]
fn a_demo_that_is_kept_goes_on_until_it_is_ended() {
    let Some(_counted) = World::new() else { return };
    let kept = demo().arg("--keep").spawn().unwrap();
    let name = name(&kept);
    let output = kept.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let enter = std::env::temp_dir().join(&name).join("enter");
    let asked =
        |pod: &str, command: &[&str]| text(&Command::new(&enter).arg(pod).args(command).output().unwrap());
    let order = asked("visitor", &["curl", "-sS", "http://10.96.0.10/"]);
    assert!(order.starts_with("order "), "{order}");
    let denied = asked("intruder", &["redis-cli", "-h", "10.96.0.30", "ping"]);
    assert!(denied.contains("Permission denied"), "{denied}");
    let ended = demo().args(["--end", &name]).output().unwrap();
    assert!(text(&ended).contains(&name), "{}", text(&ended));
    assert_gone(&name);
}

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the names of all that it makes begin with.
fn name(demo: &Child) -> String {
    format!("weft-demo-{}-1", demo.id())
}

#[track_caller]
fn assert_gone(name: &str) {
    let left = World::remains(name);
    assert!(left.is_empty(), "{left:?}");
}

/// What the demo is to show, and how to go on.
const CHAPTERS: [&str; 12] = [
    "A chain of Services",
    "A weighted split",
    "A denied client",
    "A policy change cuts a live connection",
    "Both agents are killed",
    "A route by header",
    "A canary, step by step, and retries",
    "Mutual TLS between the nodes",
    "A policy by ServiceAccount and path",
    "Flows of the last chapters, and how to look further",
    "DENIED NotAllowed",
    "cargo xtask demo --keep",
];
