//! The command line, outside of the cluster, asks all its agents by a kubeconfig.

use std::process::{Command, Output};

use serde_json::Value;
use weft_tests::{eventually, text, weft};

use crate::agents::{self, PATIENCE};
use crate::cluster;
use crate::stage::{Echo, Stage};

/// `KUBECONFIG` says where, as for kubectl.
fn ask(args: &[&str]) -> Output {
    Command::new(weft()).args(args).output().expect("weft can be run")
}

#[track_caller]
fn told(args: &[&str]) -> String {
    let output = ask(args);
    assert!(output.status.success(), "weft {}: {}", args.join(" "), text(&output));
    text(&output)
}

#[test]
fn commands_ask_every_node_through_the_api_server() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("everywhere");
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { node: Some(&other), ..Echo::new("web") },
    ]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 2);
    told(&["status", "--wait", "60s"]);
    let status = told(&["status"]);
    for node in cluster::nodes() {
        assert!(status.contains(&node), "{status}");
    }
    let namespace = ["--namespace", stage.namespace.as_str()];
    let services = told(&[&["get", "services"][..], &namespace].concat());
    assert_eq!(services.lines().count(), 2, "each Service once: {services}");

    let web = stage.pods("web").remove(0);
    let of_web = format!("{}/{web}", stage.namespace);
    let described = told(&["describe", "pod", &of_web]);
    assert!(described.contains("Enforced"), "its own node answers: {described}");
    stage.answer("web", &["http://api/"]);
    let api = format!("{}/api:80", stage.namespace);
    assert!(told(&["explain", "--from", &of_web, "--to", &api]).contains("FORWARDED"));
    eventually(PATIENCE, || {
        let flows = text(&ask(&[&["observe", "--output", "json"][..], &namespace].concat()));
        let flows = flows.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        flows.into_iter().any(|flow| flow["node"] == other.as_str() && flow["source"]["pod"] == web.as_str())
    });

    let error = text(&ask(&["bpf", "stat"]));
    assert!(error.contains("--node") && error.contains(&one), "{error}");
    assert!(told(&["bpf", "stat", "--node", &one]).contains("translated"));
    assert_eq!(ask(&["get", "services", "--node", "nowhere"]).status.code(), Some(2));
    let check = told(&["check"]);
    assert!(check.starts_with("Node ") && check.contains("kernel"), "{check}");
}
