//! `cargo xtask demo --cluster`: a shop on a real Kubernetes joins the mesh as it runs, has a canary, refuses a stranger, and
//! does not notice that its agents are replaced. The cluster stays, to be looked at.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{self, mesh};
use crate::{image, screen, shell};

/// Shows it.
pub(super) fn run() -> Result<()> {
    cluster::ensure()?;
    mesh::install(&[], image::Of::Release)?;
    let _ = shell::capture(cluster::kubectl()?.args([
        "delete",
        "namespace",
        "demo",
        "--ignore-not-found",
        "--wait",
    ]));

    screen::title("1 a shop, as anybody's: two versions of an api, a client, a stranger");
    mesh::apply(SHOP)?;
    for name in ["web", "guest", "api-v1", "api-v2"] {
        kubectl(&["rollout", "status", &format!("deployment/{name}"), "--timeout=120s"])?;
    }
    show(&["get", "pods", "--output=wide"])?;

    screen::title("2 one label, and it is in the mesh; no pod is started anew");
    show(&["label", "namespace", "demo", "weft.dev/mesh=enabled"])?;
    until("all pods are in the mesh", || {
        let pods = on_every_node(&["get", "workloads", "--namespace", "demo"])?;
        ensure!(pods.matches("yes").count() + pods.matches("true").count() >= 4, "{pods}");
        Ok(())
    })?;
    show(&["get", "pods"])?;

    screen::title("3 a canary: who says so gets version 2, and so does one request of ten");
    mesh::apply(CANARY)?;
    until("the route is in force", || {
        let routes = on_every_node(&["get", "httproutes", "--namespace", "demo"])?;
        ensure!(routes.matches("api").count() >= 2, "{routes}");
        Ok(())
    })?;
    split("100 requests of web", &["http://api/", "--count=100"])?;
    split("20 that say x-canary: yes", &["http://api/", "--count=20", "-H", "x-canary:yes"])?;

    screen::title("4 only web may ask, and whoever is refused can be told why");
    mesh::apply(ONLY_WEB)?;
    until("the policy is in force", || {
        let refused = client("guest", &["http://api/", "--timeout=2s"]);
        match refused {
            Ok(answer) if answer.contains("StatusCode=200") => bail!("guest is still answered"),
            _ => Ok(()),
        }
    })?;
    screen::line(format_args!("  guest: {}", told(client("guest", &["http://api/", "--timeout=2s"]))));
    screen::line(format_args!("  web:   {}", told(client("web", &["http://api/"]))));
    let denied = on_every_node(&["observe", "--verdict", "DENIED", "--namespace", "demo", "--last", "3"])?;
    screen::line(denied.trim_end());

    screen::title("5 every agent is replaced, while web asks 50 times a second");
    let mut load = Load::start()?;
    show(&["--namespace=weft-system", "rollout", "restart", "daemonset/weft"])?;
    kubectl(&["--namespace=weft-system", "rollout", "status", "daemonset/weft", "--timeout=180s"])?;
    screen::line(format_args!("  {}", load.end()?));

    screen::title("the cluster is yours");
    screen::note(format_args!("export KUBECONFIG={}", cluster::kubeconfig()?.display()));
    screen::note(
        "cargo xtask cluster kubectl -- --namespace weft-system exec daemonset/weft -- /weft status",
    );
    screen::note("cargo xtask cluster down");
    Ok(())
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
            format!("{} by {}", field("StatusCode="), field("Hostname="))
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

/// What a command of `weft` says on each node.
fn on_every_node(args: &[&str]) -> Result<String> {
    let pods = [
        "--namespace=weft-system",
        "get",
        "pods",
        "--selector=app.kubernetes.io/component=agent",
        "--output=name",
    ];
    let mut all = String::new();
    for pod in kubectl(&pods)?.lines() {
        let exec = ["--namespace=weft-system", "exec", pod, "--container=agent", "--", "/weft"];
        all += &kubectl(&[&exec, args].concat())?;
    }
    Ok(all)
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
        load.arg("--for=45s").stdout(Stdio::piped());
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

const SHOP: &str = include_str!("shop.yaml");
const CANARY: &str = include_str!("canary.yaml");
const ONLY_WEB: &str = include_str!("only-web.yaml");
