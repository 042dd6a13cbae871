//! Without a proxy.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{soon, text, throughout};

use crate::stage::{Stage, ask, policy};

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

#[test]
fn status_names_the_pods_whose_connections_are_refused_while_the_proxy_cannot_start() {
    let Some(stage) = Stage::open(NO_ADMIN) else { return };
    let lock = stage.node.run_dir().join("proxy.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert!(!names_api(&stage));
    kill(Pid::from_raw(stage.node.proxy_pid()), Signal::SIGKILL).unwrap();
    soon(|| names_api(&stage));
    let refused = stage.web.tcp_connect(stage.api.addr(8080)).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    soon(|| stage.node.refusals().iter().any(|flow| flow["reason"] == "ProxyUnavailable"));
    // Nobody is kept out by what only watches.
    stage.node.apply("policy.yaml", &policy(&format!("mode: Audit, {NO_ADMIN}")));
    soon(|| !names_api(&stage));
    soon(|| ask(&stage.web, stage.api.addr(8080), ("GET", "/admin"), &[]).is_ok());
    fs::remove_dir(&lock).unwrap();
    // The next try may be fifteen seconds away. Until then the node is not well.
    soon(|| stage.node.weft(&["status"]).status.success());
}

#[test]
fn status_names_the_pods_whose_connections_are_refused_by_an_agent_that_runs_without_a_proxy() {
    let Some(mut stage) = Stage::open(NO_ADMIN) else { return };
    stage.agent.restart_with(&["--proxy", "off"]);
    soon(|| names_api(&stage));
    let to = stage.api.addr(8080);
    soon(|| stage.web.tcp_connect(to).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    stage.agent.restart_with(&["--proxy", "auto"]);
    soon(|| !names_api(&stage));
    stage.gets(|stage| &stage.web, "/admin", 403);
}

/// Whether status says that connections to `api` are refused. It exits with 1 while the node is not well.
fn names_api(stage: &Stage) -> bool {
    text(&stage.node.weft(&["status", "-o", "json"])).contains("connections to pods shop/api are refused")
}

/// Ends the proxy, and before it who would start another one.
fn end_everything(stage: &mut Stage) {
    let proxy = stage.node.proxy_pid();
    stage.agent.kill();
    kill(Pid::from_raw(proxy), Signal::SIGKILL).unwrap();
}
