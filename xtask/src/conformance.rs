//! `cargo xtask conformance`: the Gateway API project's own suite, against the mesh on a real cluster.
//!
//! The suite makes its namespaces itself, and writes over labels that it finds on them. So they are enrolled by the
//! MeshConfig, which selects them by a label that the suite gives them.

mod outcome;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cluster::{self, mesh};
use crate::{image, repo, screen, shell};
use outcome::{Outcome, Statistics};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often, one after the other; each run has to pass.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
    runs: u8,
    /// The control: the same tests on a cluster without the mesh. What passes there proves nothing of the mesh.
    #[arg(long, conflicts_with = "runs")]
    without_mesh: bool,
    /// Also that each request is right, of 20 in a row, from the moment on that the routes' statuses say Programmed; no
    /// report is kept.
    #[arg(long, conflicts_with = "without_mesh")]
    strictly: bool,
    /// Only this test, e.g. `MeshFrontend`; no report is kept.
    #[arg(long, value_name = "NAME")]
    test: Option<String>,
    /// What the mesh's image is made of.
    #[arg(long, value_enum, default_value_t)]
    image: image::Of,
}

/// Runs the suite; fails unless all of it passed and none was skipped, in every run.
pub(crate) fn run(args: &Args) -> Result<()> {
    let suite = cluster::suite()?;
    cluster::ensure()?;
    if args.without_mesh {
        return control(&suite, args.test.as_deref());
    }
    mesh::install(&[], args.image)?;
    mesh::apply(ENROLLED)?;
    let ran = runs(&suite, args);
    // It would keep everybody else's namespaces out.
    shell::capture(cluster::kubectl()?.args(["delete", "meshconfig", "default", "--ignore-not-found"]))?;
    ran
}

fn runs(suite: &Path, args: &Args) -> Result<()> {
    for run in 1..=args.runs {
        screen::title(format_args!("conformance, run {run} of {}", args.runs));
        let report = repo::absolute(WORK)?.join(format!("report-{run}.yaml"));
        let strictly: &[&str] = if args.strictly { &["--strictly"] } else { &[] };
        let log = format!("conformance-{run}.log");
        let outcome = once(suite, &report, &log, args.test.as_deref(), strictly)?;
        outcome.check()?;
        if args.strictly {
            outcome.check_strictly()?;
        } else if args.test.is_none() {
            Statistics::read(&report)?.check(outcome.passed.len())?;
            keep(&report, WITH)?;
        }
    }
    Ok(())
}

/// Says what passes without the mesh, and keeps the report beside the other one.
fn control(suite: &Path, test: Option<&str>) -> Result<()> {
    if mesh::is_installed()? {
        bail!("there is a mesh on the cluster: `cargo xtask cluster down` and again, or remove it");
    }
    screen::title("conformance without the mesh");
    let report = repo::absolute(WORK)?.join("report-without.yaml");
    // Most of it fails, and each failure would take 30 s: half an hour. In that time a few more pass by chance.
    let short = ["--timeout-config-overrides=MaxTimeToConsistency:3"];
    let outcome = once(suite, &report, "conformance-without.log", test, &short)?;
    screen::note(format_args!("passed without a mesh: {}", outcome.passed.join(", ")));
    if test.is_none() { keep(&report, WITHOUT) } else { Ok(()) }
}

fn once(suite: &Path, report: &Path, log: &str, test: Option<&str>, more: &[&str]) -> Result<Outcome> {
    forget_last()?;
    let started = Instant::now();
    let log = Path::new(cluster::LOGS).join(log);
    fs::create_dir_all(WORK).with_context(|| format!("create {WORK}"))?;
    let mut all = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let mut command = Command::new(suite);
    command.args(["-test.v", "-test.timeout=90m", "--conformance-profiles=MESH-HTTP,MESH-GRPC"]);
    command.arg(format!("--supported-features={}", FEATURES.join(",")));
    command.arg(format!("--report-output={}", report.display())).args(IMPLEMENTATION);
    command.arg(concat!("--version=v", env!("CARGO_PKG_VERSION"))).args(more);
    command.args(test.map(|name| format!("--run-test={name}")));
    command.env("KUBECONFIG", cluster::kubeconfig()?).current_dir(WORK);
    let stderr = all.try_clone().with_context(|| format!("share {}", log.display()))?;
    let mut child =
        command.stdout(Stdio::piped()).stderr(stderr).spawn().context("start the conformance suite")?;
    let stdout = child.stdout.take().context("stdout was piped above")?;
    let mut outcome = Outcome::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read what the suite says")?;
        writeln!(all, "{line}").with_context(|| format!("write {}", log.display()))?;
        if let Some(told) = outcome.take(&line) {
            screen::note(told);
        }
    }
    child.wait().context("wait for the conformance suite")?;
    screen::done(format_args!("{outcome}, all of it in {}", log.display()), started.elapsed());
    if outcome.is_empty() {
        bail!("the suite ran no test; the end of {}:\n{}", log.display(), shell::tail(&log));
    }
    Ok(outcome)
}

/// The suite takes a namespace that is about to go for one that is there.
fn forget_last() -> Result<()> {
    for namespace in ["gateway-conformance-mesh", "gateway-conformance-mesh-consumer"] {
        let mut delete = cluster::kubectl()?;
        delete.args(["delete", "namespace", namespace, "--ignore-not-found", "--wait", "--timeout=120s"]);
        shell::capture(&mut delete)?;
    }
    Ok(())
}

fn keep(report: &Path, name: &str) -> Result<()> {
    let kept = Path::new(REPORTS).join(name);
    fs::create_dir_all(REPORTS).with_context(|| format!("create {REPORTS}"))?;
    fs::copy(report, &kept).with_context(|| format!("copy {}", report.display()))?;
    screen::note(format_args!("the report is {}", kept.display()));
    Ok(())
}

const WORK: &str = "target/cluster/conformance";
const REPORTS: &str = "tests/reports";
const WITH: &str = "gateway-api-v1.6.3-mesh.yaml";
const WITHOUT: &str = "gateway-api-v1.6.3-without-mesh.yaml";
const IMPLEMENTATION: [&str; 4] = [
    "--organization=weft-mesh",
    "--project=weft",
    "--url=https://github.com/weft-mesh/weft",
    "--contact=https://github.com/weft-mesh/weft/issues",
];
/// Every feature that a test of a mesh asks for.
const FEATURES: &[&str] = &[
    "Mesh",
    "HTTPRoute",
    "GRPCRoute",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteParentRefPort",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteNamedRouteRule",
];
const ENROLLED: &str = "\
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec:
  namespaceSelector:
    matchExpressions:
    - {key: gateway-conformance, operator: In, values: [mesh, mesh-consumer]}
";
