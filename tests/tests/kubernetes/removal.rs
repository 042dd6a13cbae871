//! However the mesh is removed, no request fails, pods go on speaking with each other, and nothing is left on a node.
//! These tests install and remove it themselves: they begin and end on a cluster without it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use weft_tests::{eventually, weft};

use crate::agents::{self, PATIENCE, SYSTEM};
use crate::cluster;
use crate::left;
use crate::load::Load;
use crate::stage::{Echo, ROUTED, Stage};

#[test]
fn what_weft_install_has_printed_weft_uninstall_takes_away() {
    leaves_without_a_trace("uninstalled", &[PRINTED], &|| run(Command::new(weft()).arg("uninstall")));
    let policies = cluster::ok(&["get", "crd", "authorizationpolicies.weft.dev", "--output=name"]);
    assert!(!policies.is_empty(), "the kinds stay, and with them what users have made");
}

#[test]
fn what_weft_install_has_printed_kubectl_takes_away() {
    leaves_without_a_trace("deleted", &[PRINTED], &|| {
        run(&mut shell(&format!("{PRINT} | $KUBECTL delete --filename -")));
    });
}

#[test]
fn a_kustomization_that_was_applied_is_deleted() {
    leaves_without_a_trace("kustomized", &["$KUBECTL apply --kustomize $DEPLOY/kustomize/default"], &|| {
        run(&mut shell("$KUBECTL delete --kustomize $DEPLOY/kustomize/default"));
    });
}

#[test]
fn a_chart_that_was_installed_is_uninstalled() {
    // A release that was taken away by other means is still one.
    let install = ["$HELM uninstall weft --ignore-not-found", "$HELM install weft $DEPLOY/chart"];
    leaves_without_a_trace("chart", &install, &|| {
        run(&mut shell("$HELM uninstall weft"));
    });
}

#[test]
fn a_deleted_daemonset_is_a_removal_and_may_come_again() {
    leaves_without_a_trace("daemonset", &[PRINTED], &|| {
        cluster::ok(&["delete", "daemonset", "weft", "--namespace", SYSTEM]);
    });
    // Of the rest nothing stands in the way of the next installation.
    run(&mut shell(PRINTED));
    installed();
    run(Command::new(weft()).arg("uninstall"));
}

/// Installs by `steps`, under which an app of two nodes is asked all the time, and takes it away by `remove`.
#[track_caller]
fn leaves_without_a_trace(name: &str, steps: &[&str], remove: &(dyn Fn() + Sync)) {
    let [one, other] = cluster::two_nodes();
    // What an earlier test has left, whatever became of it.
    run(Command::new(weft()).arg("uninstall"));
    let stage = Stage::open(name);
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { app: "api", node: Some(&other), ..Echo::new("api-far") },
    ]);
    let before = (left::networks(&stage), [&one, &other].map(|node| left::cni(node)));
    for step in steps {
        run(&mut shell(step));
    }
    installed();
    stage.service("api", "app: api", "");
    stage.apply(ROUTED);
    let load = Load::start(&stage, "api", &one);
    agents::enrolled(&stage.namespace, 3);
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    load.some_more(SOME);
    // What joining does to connections is another test's.
    let joined = load.tallies();
    thread::scope(|scope| {
        let removing = scope.spawn(remove);
        // Redirection goes first; what the proxies carry is carried until its client ends it.
        eventually(PATIENCE, || [&one, &other].into_iter().all(|node| !left::is_redirected(node)));
        load.some_more(SOME);
        load.assert_whole_since(&joined);
        load.end();
        if let Err(panic) = removing.join() {
            std::panic::resume_unwind(panic);
        }
    });
    eventually(PATIENCE, || pods_of_agents().is_empty());
    let requests = stage.answers("api", 20, &["http://api/", "--fresh"]);
    assert_eq!(requests.len(), 20, "pods go on speaking with each other");
    for node in [&one, &other] {
        assert_eq!(left::on(node), Vec::<String>::new(), "on {node}");
    }
    let after = (left::networks(&stage), [&one, &other].map(|node| left::cni(node)));
    assert_eq!(after, before, "networks are as they were");
}

/// As a person waits: from the moment on that the objects are there.
#[track_caller]
fn installed() {
    run(Command::new(weft()).args(["status", "--wait", "3m"]));
    cluster::ok(&[
        "rollout",
        "status",
        "deployment/weft-controller",
        "--namespace",
        SYSTEM,
        "--timeout=180s",
    ]);
    for agent in agents::Agent::all() {
        eventually(PATIENCE, || {
            let said = agent.weft(&["get", "certificates"]).unwrap_or_default();
            let roots = said.lines().find_map(|line| line.strip_prefix("Trusted roots:"));
            roots.is_some_and(|count| count.trim() != "0")
        });
    }
}

fn pods_of_agents() -> String {
    let selector = "app.kubernetes.io/name=weft,app.kubernetes.io/component=agent";
    cluster::ok(&["get", "pods", "--namespace", SYSTEM, "--selector", selector, "--output=name"])
}

/// What a person types, with the programs of this cluster.
fn shell(line: &str) -> Command {
    let deploy = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let mut shell = Command::new("sh");
    shell.args(["-euc", line]).env("DEPLOY", deploy).env("WEFT", weft());
    let program = |name: &str, usual: &str| std::env::var_os(name).unwrap_or_else(|| usual.into());
    shell.env("KUBECTL", program("WEFT_KUBECTL", "kubectl")).env("HELM", program("WEFT_HELM", "helm"));
    shell
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it can be started");
    assert!(output.status.success(), "{command:?}: {}", weft_tests::text(&output));
}

const PRINT: &str = "$WEFT install";
const PRINTED: &str = "$WEFT install | $KUBECTL apply --filename -";
/// Requests of each kind of load.
const SOME: u64 = 50;
