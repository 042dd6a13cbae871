//! Without a proxy.

use std::io::ErrorKind;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{soon, throughout};

use crate::stage::{Stage, ask};

const NO_ADMIN: &str = "action: DENY, rules: [{networkAttributes: {ports: [8080]}, \
                        httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}}]";

#[test]
fn without_a_proxy_nothing_comes_to_a_port_whose_requests_are_judged() {
    let Some(mut stage) = Stage::open(NO_ADMIN) else { return };
    stage.gets(|stage| &stage.web, "/admin", 403);
    end_everything(&mut stage);
    for client in [&stage.web, &stage.plain] {
        let to = stage.api.addr(8080);
        let refused =
            || client.tcp_connect(to).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        soon(refused);
        throughout(Duration::from_secs(1), refused);
    }
    assert!(stage.web.tcp_connect(stage.api.addr(9000)).is_ok(), "no rule reads what comes there");
}

#[test]
fn without_a_proxy_an_audited_policy_keeps_nobody_out() {
    let Some(mut stage) = Stage::open(&format!("mode: Audit, {NO_ADMIN}")) else { return };
    stage.gets(|stage| &stage.web, "/admin", 200);
    end_everything(&mut stage);
    let to = stage.api.addr(8080);
    soon(|| ask(&stage.web, to, ("GET", "/admin"), &[]).is_ok_and(|answer| answer.status == 200));
}

/// Ends the proxy, and before it who would start another one.
fn end_everything(stage: &mut Stage) {
    let proxy = stage.node.proxy_pid();
    stage.agent.kill();
    kill(Pid::from_raw(proxy), Signal::SIGKILL).unwrap();
}
