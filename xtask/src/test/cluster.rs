//! The cluster tier: the source against API servers of its own, then the mesh on a cluster, with and without kube-proxy.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Counts, Report, stream};
use crate::cluster::{self, ProxyMode, mesh};
use crate::{image, setup, shell};

/// Which cluster.
#[derive(Default, clap::Args)]
pub(super) struct Where {
    /// Of --tier cluster: a cluster that is there and has the mesh, instead of one that is brought up. Its nodes need the
    /// image `target/cluster/images/echo.tar`.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Of --tier cluster: only what has to work before anything else, with kube-proxy.
    #[arg(long, conflicts_with = "kubeconfig")]
    short: bool,
    /// Of --tier cluster: what the mesh's image is made of.
    #[arg(long, value_enum, default_value = "dev", conflicts_with = "kubeconfig")]
    image: image::Of,
}

/// Adds a tier to `report` for each cluster.
pub(super) fn run(args: &Where, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if let Some(kubeconfig) = &args.kubeconfig {
        let kubectl = crate::repo::find_command("kubectl").context("kubectl is not in PATH")?;
        let skipped = OURS.iter().flat_map(|name| ["--skip", name]).collect::<Vec<_>>();
        return report.tier(&format!("cluster of {}", kubeconfig.display()), || {
            suite(kubeconfig, &kubectl, filter, &skipped).map(Some)
        });
    }
    if !args.short {
        report.tier("API server", || api_server(filter).map(Some))?;
    }
    for kind in KINDS {
        // What is looked for by name is looked for once.
        let only_first = args.short || filter.is_some();
        if only_first && kind.kube_proxy != KINDS[0].kube_proxy {
            break;
        }
        report.tier(kind.name, || {
            cluster::replace(kind.kube_proxy)?;
            mesh::install(kind.install, args.image)?;
            let filter = filter.or(args.short.then_some("short::"));
            let mut counts = Counts::default();
            for filter in filter.map_or(kind.tests.to_vec(), |filter| vec![filter]) {
                let kubectl = cluster::program("kubectl")?;
                counts = counts + suite(&cluster::kubeconfig()?, &kubectl, Some(filter), &[])?;
            }
            Ok(Some(counts))
        })?;
    }
    Ok(())
}

/// A cluster of ours, and what is asked of it.
struct Kind {
    name: &'static str,
    kube_proxy: Option<ProxyMode>,
    install: &'static [&'static str],
    /// Parts of names, one after the other.
    tests: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind { name: "cluster", kube_proxy: Some(ProxyMode::Nftables), install: &[], tests: &[""] },
    Kind {
        name: "cluster without kube-proxy",
        kube_proxy: None,
        install: &["--service-scope=node"],
        tests: &["services::", "short::"],
    },
    Kind {
        name: "cluster with kube-proxy (iptables)",
        kube_proxy: Some(ProxyMode::Iptables),
        install: &[],
        tests: &["short::"],
    },
];

/// A few API servers beside each other are as much as a small machine bears.
fn api_server(filter: Option<&str>) -> Result<Counts> {
    // Tests of what runs on nodes start the binary, which nothing else builds here.
    setup::bpf_toolchain()?;
    shell::run(shell::cargo().args(["build", "-p", "weft", "-p", "weft-tests", "--bins"]))?;
    let suites: [(&str, &[&str]); 2] = [
        ("weft-kubernetes", &["--test", "cluster", "--test", "admission"]),
        ("weft-tests", &["--test", "enrolment", "--test", "controller"]),
    ];
    let mut sum = Counts::default();
    for (package, tests) in suites {
        let mut cargo = shell::cargo();
        cargo.args(["test", "-p", package]).args(tests).args(["--", "--test-threads=2"]).args(filter);
        sum = sum + stream(&mut cargo, &format!("{package}, against an API server"))?;
    }
    Ok(sum)
}

/// The tests share the cluster's mesh, and some restart it: one after the other.
fn suite(kubeconfig: &Path, kubectl: &Path, filter: Option<&str>, more: &[&str]) -> Result<Counts> {
    let kubeconfig = kubeconfig.canonicalize();
    let kubeconfig = kubeconfig.context("find the kubeconfig")?;
    let mut tests = shell::cargo();
    tests.args(["test", "-p", "weft-tests", "--test", SUITE, "--", "--test-threads=1"]);
    tests.args(filter.filter(|filter| !filter.is_empty())).args(more);
    tests.env("KUBECONFIG", kubeconfig).env("WEFT_KUBECTL", kubectl);
    tests.env("WEFT_XTASK", env::current_exe().context("find this program")?);
    let counts = stream(&mut tests, "the mesh on a cluster")?;
    if counts == Counts::default() && filter.is_none() {
        bail!("there was nothing to run");
    }
    Ok(counts)
}

/// The target of the tests that need a cluster.
const SUITE: &str = "kubernetes";
/// What does something to the machine's own cluster, or needs what not every cluster has: addresses of both families.
const OURS: [&str; 2] = ["outages::", "dual_stack"];
