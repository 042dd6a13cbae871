//! The issuer is away, broken, or too old.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{eventually, text};

use crate::stage::{SOON, Stage, certificates, in_proxy, proxy_pid, status, valid, wait, wait_for_proxy};

#[test]
fn an_issuer_that_is_unreadable_or_away_leaves_what_is_valid_in_force_and_status_says_so() {
    let Some(mut stage) = Stage::open("24h") else { return };
    wait_for_proxy(&stage.near, 2);
    let issuer = stage.authority.dir().join("issuer.pem");
    let good = fs::read(&issuer).unwrap();
    let away = stage.authority.dir().with_extension("away");

    fs::write(&issuer, "nothing").unwrap();
    said(&stage, "issuer.pem");
    assert_eq!(valid(&stage.near), ["api", "web"]);
    assert!(stage.near.metric("weft_issuer_failing", &[]) > 0.0);
    // The next proxy gets what the agent has.
    let killed = proxy_pid(&stage.near).unwrap();
    kill(Pid::from_raw(killed), Signal::SIGKILL).unwrap();
    eventually(SOON, || proxy_pid(&stage.near).is_some_and(|pid| pid != killed));
    wait_for_proxy(&stage.near, 2);
    fs::write(&issuer, good).unwrap();
    eventually(SOON, || status(&stage.near)["certificates"]["failure"].is_null());
    assert!(stage.near.weft(&["status"]).status.success());

    fs::rename(stage.authority.dir(), &away).unwrap();
    said(&stage, "weft ca init");
    // A restarted agent has no keys and gets none; its proxy has.
    stage.agents[0].kill();
    stage.agents[0].start();
    wait(&stage.near);
    said(&stage, "weft ca init");
    assert!(valid(&stage.near).is_empty());
    wait_for_proxy(&stage.near, 2);
    fs::rename(&away, stage.authority.dir()).unwrap();
    eventually(SOON, || valid(&stage.near) == ["api", "web"]);
    wait_for_proxy(&stage.near, 2);
    eventually(SOON, || stage.near.weft(&["status"]).status.success());
}

#[test]
fn certificates_that_cannot_be_renewed_serve_until_they_end_and_no_longer() {
    let Some(stage) = Stage::open("30s") else { return };
    let near = &stage.near;
    wait_for_proxy(near, 2);
    let away = stage.authority.dir().with_extension("away");
    fs::rename(stage.authority.dir(), &away).unwrap();
    said(&stage, "weft ca init");
    let left = |index: usize| certificates(near)["certificates"][index]["expiresInSeconds"].as_u64();
    eventually(Duration::from_mins(1), || valid(near).is_empty());
    eventually(SOON, || in_proxy(near) == Some(0));
    assert_eq!((left(0), left(1)), (Some(0), Some(0)));
    assert_eq!(
        certificates(near)["certificates"][1]["failure"]["tries"].as_u64().map(|tries| tries > 0),
        Some(true)
    );
    fs::rename(&away, stage.authority.dir()).unwrap();
    // The next try may be half a minute away by now.
    eventually(Duration::from_secs(90), || valid(near) == ["api", "web"]);
    wait_for_proxy(near, 2);
}

/// Waits until `weft status` is not well, and says this.
#[track_caller]
fn said(stage: &Stage, what: &str) {
    eventually(SOON, || {
        let answer = stage.near.weft(&["status"]);
        let page = text(&answer);
        let failure = page.lines().find(|line| line.starts_with("Issuer failure:"));
        answer.status.code() == Some(1) && failure.is_some_and(|failure| failure.contains(what))
    });
}
