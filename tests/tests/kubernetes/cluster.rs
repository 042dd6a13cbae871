//! The cluster, by kubectl: `KUBECONFIG` names it, and `WEFT_KUBECTL` the program, where that is not in `PATH`.

use std::env;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What kubectl says; what it complains of is the error.
pub(crate) fn kubectl(args: &[&str]) -> Result<String, String> {
    said(&mut command(args), None)
}

/// The same where nothing may go wrong.
#[track_caller]
pub(crate) fn ok(args: &[&str]) -> String {
    kubectl(args).unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
}

/// What `kubectl ... -o json` says.
#[track_caller]
pub(crate) fn objects(args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.extend(["--output", "json"]);
    serde_json::from_str(&ok(&all)).expect("kubectl prints JSON where it is asked to")
}

/// Applies a manifest, in `namespace` where it names none.
#[track_caller]
pub(crate) fn apply(namespace: &str, manifest: &str) {
    try_apply(namespace, manifest).unwrap_or_else(|error| panic!("{error}\nof\n{manifest}"));
}

/// The same where it may be refused.
pub(crate) fn try_apply(namespace: &str, manifest: &str) -> Result<String, String> {
    let args = ["apply", "--server-side", "--force-conflicts", "--namespace", namespace, "--filename", "-"];
    said(&mut command(&args), Some(manifest))
}

/// A command of xtask's that does something to the test cluster itself, like `restart kube-apiserver`. On a cluster that
/// is another's there is none, and no test that asks for it is run there.
#[track_caller]
pub(crate) fn of_this_machine(args: &[&str]) -> String {
    let xtask = env::var_os("WEFT_XTASK").expect("`cargo xtask test --tier cluster` says where xtask is");
    let mut command = Command::new(xtask);
    command.arg("cluster").args(args);
    said(&mut command, None).unwrap_or_else(|error| panic!("cargo xtask cluster {}: {error}", args.join(" ")))
}

/// Whether its nodes are of this machine.
pub(crate) fn is_of_this_machine() -> bool {
    env::var_os("WEFT_XTASK").is_some()
}

/// What a machine with control groups v2 alone would do: there runc ends with a container what is in its group, and the
/// proxy is in another one. Where there are groups v1, too, runc goes by those, which the proxy has not left; so it is
/// moved there. On a cluster that is another's nothing is done.
#[track_caller]
pub(crate) fn as_with_cgroup_v2() {
    if !is_of_this_machine() {
        return;
    }
    for node in nodes() {
        let script = format!(
            "for pid in $(cat /sys/fs/cgroup/unified/weft-cluster/{node}/weft-proxy/cgroup.procs 2>/dev/null); do \
             for group in /sys/fs/cgroup/*/weft-cluster/{node}; do \
             case $group in */unified/*) ;; *) echo $pid > $group/cgroup.procs ;; esac; done; done; true"
        );
        of_this_machine(&["exec", &node, "sh", "-c", &script]);
    }
}

/// The names of the nodes.
#[track_caller]
pub(crate) fn nodes() -> Vec<String> {
    let names = ok(&["get", "nodes", "--output", "jsonpath={.items[*].metadata.name}"]);
    names.split_whitespace().map(str::to_owned).collect()
}

/// The first node and another one.
#[track_caller]
pub(crate) fn two_nodes() -> [String; 2] {
    let mut names = nodes().into_iter();
    let two = (names.next(), names.next());
    let (Some(one), Some(other)) = two else { panic!("this test needs a cluster of two nodes") };
    [one, other]
}

fn command(args: &[&str]) -> Command {
    assert!(
        env::var_os("KUBECONFIG").is_some(),
        "no cluster: `cargo xtask test --tier cluster` has one, and takes another's kubeconfig"
    );
    let program = env::var_os("WEFT_KUBECTL").unwrap_or_else(|| OsString::from("kubectl"));
    let mut kubectl = Command::new(program);
    kubectl.args(args);
    kubectl
}

fn said(command: &mut Command, stdin: Option<&str>) -> Result<String, String> {
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("start {}: {error}", command.get_program().display()))?;
    if let (Some(text), Some(mut to)) = (stdin, child.stdin.take()) {
        // Whoever does not read to the end says why.
        let _ = to.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().expect("a child can be waited for");
    let [out, complaint] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("{complaint}{out}")) }
}
