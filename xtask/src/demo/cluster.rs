//! `cargo xtask demo --cluster`: a shop on a real Kubernetes joins the mesh as it runs, has a canary, is encrypted, refuses a
//! stranger, and does not notice that its agents are replaced. The cluster stays, to be looked at.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{self, mesh};
use crate::{image, screen, shell};

/// Shows it.
pub(super) fn run() -> Result<()> {
    cluster::ensure()?;
    // The release's build takes minutes, and looks the same.
    mesh::install(&[], image::Of::Dev)?;
    let forget = ["delete", "namespace", "demo", "--ignore-not-found", "--wait"];
    shell::capture(cluster::kubectl()?.args(forget))?;
    joins()?;
    has_a_canary()?;
    is_encrypted()?;
    refuses_a_stranger()?;
    does_not_notice_a_rollout()?;
    screen::title("the cluster is yours");
    screen::note(format_args!("export KUBECONFIG={}", cluster::kubeconfig()?.display()));
    screen::note(format_args!("{} status", image::BINARY));
    screen::note("cargo xtask cluster down");
    Ok(())
}

fn joins() -> Result<()> {
    screen::title("1 a shop like anybody's: two versions of an api, a client, a stranger; then one label");
    mesh::apply(SHOP)?;
    kubectl(&["wait", "deployment", "--all", "--for=condition=Available", "--timeout=120s"])?;
    show(&["get", "pods", "--output=wide"])?;
    let before = kubectl(&UIDS)?;
    show(&["label", "namespace", "demo", "weft.dev/mesh=enabled"])?;
    until("all pods are in the mesh", || {
        let pods = weft(&["get", "workloads", "--namespace=demo"])?;
        ensure!(pods.matches(" yes ").count() == 4, "{pods}");
        Ok(())
    })?;
    ensure!(kubectl(&UIDS)? == before, "a pod was started anew");
    screen::note("no pod was started anew");
    Ok(())
}

fn has_a_canary() -> Result<()> {
    screen::title("2 a canary: who asks for it gets version 2, and so does one request of ten");
    mesh::apply(CANARY)?;
    in_force("httproute", "parents")?;
    split("100 requests of web", &["http://api/", "--count=100"])?;
    split("20 that say x-canary: yes", &["http://api/", "--count=20", "-H", "x-canary:yes"])
}

fn is_encrypted() -> Result<()> {
    screen::title("3 what goes from node to node is mutual TLS, and the server is told who asks");
    let heard = client("web", &["http://api/"])?;
    heard.lines().filter(|line| line.contains("Client-Cert")).for_each(screen::line);
    show_weft(&["get", "certificates", "--namespace=demo"])?;
    show_weft(&["get", "connections", "--namespace=demo"])
}

fn refuses_a_stranger() -> Result<()> {
    screen::title("4 only web may ask, and whoever is refused is told why");
    mesh::apply(ONLY_WEB)?;
    in_force("authorizationpolicy", "ancestors")?;
    for name in ["guest", "web"] {
        screen::line(format_args!("  {name:<6} {}", told(client(name, &["http://api/", "--timeout=2s"]))));
    }
    until("the refusal is told", || {
        let flows = weft(&["observe", "--verdict=DENIED", "--namespace=demo", "--last=1"])?;
        ensure!(flows.contains("DENIED"), "{flows}");
        Ok(())
    })?;
    show_weft(&["observe", "--verdict=DENIED", "--namespace=demo", "--last=1"])?;
    show_weft(&["authz", "check", "--from=demo/guest", "--to=demo/api:80", "--method=GET", "--path=/"])
}

fn does_not_notice_a_rollout() -> Result<()> {
    screen::title("5 every agent is replaced, while web asks 50 times a second");
    let mut load = Load::start()?;
    show(&["--namespace=weft-system", "rollout", "restart", "daemonset/weft"])?;
    kubectl(&["--namespace=weft-system", "rollout", "status", "daemonset/weft", "--timeout=180s"])?;
    screen::line(format_args!("  {}", load.end()?));
    show_weft(&["status"])
}

/// kubectl in the shop's namespace; what it says.
fn kubectl(args: &[&str]) -> Result<String> {
    shell::capture(cluster::kubectl()?.arg("--namespace=demo").args(args))
}

/// The same, with the command before what it says.
fn show(args: &[&str]) -> Result<()> {
    screen::line(format_args!("$ kubectl {}", args.join(" ")));
    screen::line(kubectl(args)?.trim_end());
    Ok(())
}

/// What a command of `weft` says of the whole cluster.
fn weft(args: &[&str]) -> Result<String> {
    shell::capture(Command::new(image::BINARY).args(args).env("KUBECONFIG", cluster::kubeconfig()?))
}

/// The same, with the command before it. A no is an answer, too.
fn show_weft(args: &[&str]) -> Result<()> {
    screen::line(format_args!("$ weft {}", args.join(" ")));
    let mut weft = Command::new(image::BINARY);
    let output = weft.args(args).env("KUBECONFIG", cluster::kubeconfig()?).output().context("start weft")?;
    ensure!(output.status.code() != Some(2), "weft says: {}", String::from_utf8_lossy(&output.stderr));
    screen::line(String::from_utf8_lossy(&output.stdout).trim_end());
    Ok(())
}

/// Waits until all nodes have it, by what the controller says in its status.
fn in_force(kind: &str, entries: &str) -> Result<()> {
    let programmed =
        format!("--for=jsonpath={{.status.{entries}[0].conditions[?(@.type==\"Programmed\")].status}}=True");
    let began = Instant::now();
    kubectl(&["wait", kind, "api", &programmed, "--timeout=60s"])?;
    screen::done(format_args!("{kind} api is Programmed"), began.elapsed());
    Ok(())
}

fn client(of: &str, args: &[&str]) -> Result<String> {
    let pod = format!("deployment/{of}");
    let mut all = vec!["exec", &pod, "--", "client"];
    all.extend(args);
    kubectl(&all)
}

/// What a person would say of it.
fn told(answer: Result<String>) -> String {
    match answer {
        Ok(text) => {
            let field =
                |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            match field("Hostname=") {
                // It is the mesh that has answered.
                "" => field("StatusCode=").to_owned(),
                pod => format!("{} by {pod}", field("StatusCode=")),
            }
        }
        Err(error) => error.to_string().lines().last().unwrap_or_default().to_owned(),
    }
}

fn split(what: &str, args: &[&str]) -> Result<()> {
    let said = client("web", args)?;
    let count = |version: &str| said.matches(&format!("Hostname={version}-")).count();
    let bar = |count: usize| "#".repeat(count.div_ceil(2));
    screen::line(format_args!("  {what}"));
    for version in ["api-v1", "api-v2"] {
        screen::line(format_args!("    {version} {:>4} {}", count(version), bar(count(version))));
    }
    Ok(())
}

fn until(what: &str, mut holds: impl FnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    while let Err(error) = holds() {
        if began.elapsed() > Duration::from_mins(1) {
            return Err(error).with_context(|| format!("wait until {what}"));
        }
        thread::sleep(Duration::from_millis(200));
    }
    screen::done(what, began.elapsed());
    Ok(())
}

/// A client that asks for a while.
struct Load(Child);

impl Load {
    fn start() -> Result<Self> {
        let mut load = cluster::kubectl()?;
        load.args([
            "--namespace=demo",
            "exec",
            "deployment/web",
            "--",
            "client",
            "load",
            "http://api/",
            "--fresh",
        ]);
        load.arg("--for=40s").stdout(Stdio::piped());
        Ok(Self(load.spawn().context("start the load")?))
    }

    /// The last line that it says, when its time is over.
    fn end(&mut self) -> Result<String> {
        let said = self.0.stdout.take().map(std::io::read_to_string).transpose();
        let said = said.context("read what the load says")?.unwrap_or_default();
        self.0.wait().context("wait for the load")?;
        Ok(said.lines().last().unwrap_or("nothing was asked").to_owned())
    }
}

const UIDS: [&str; 3] = ["get", "pods", "--output=jsonpath={.items[*].metadata.uid}"];
const SHOP: &str = include_str!("../../../deploy/demo/shop.yaml");
const CANARY: &str = include_str!("../../../deploy/demo/canary.yaml");
const ONLY_WEB: &str = include_str!("../../../deploy/demo/only-web.yaml");
