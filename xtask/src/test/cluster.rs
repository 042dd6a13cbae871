//! The cluster tier: the source against API servers of its own, then the mesh on a cluster, with and without kube-proxy.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

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
    /// Of --tier cluster: only the cluster of this kind.
    #[arg(long, value_enum, conflicts_with_all = ["kubeconfig", "short"])]
    kind: Option<Name>,
    /// Of --tier cluster: what the mesh's image is made of.
    #[arg(long, value_enum, default_value = "dev", conflicts_with = "kubeconfig")]
    image: image::Of,
}

/// Adds a tier to `report` for each cluster.
pub(super) fn run(args: &Where, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if let Some(kubeconfig) = &args.kubeconfig {
        let kubectl = crate::repo::find_command("kubectl").context("kubectl is not in PATH")?;
        let kubeconfig = kubeconfig.canonicalize().context("find the kubeconfig")?;
        return report.tier(&format!("cluster of {}", kubeconfig.display()), || {
            suite(&Means { kubeconfig, kubectl, helm: None }, filter, OURS).map(Some)
        });
    }
    if !args.short && args.kind.is_none() {
        report.tier("API server", || api_server(filter).map(Some))?;
    }
    // What is looked for by name is looked for once.
    let only_first = args.short || filter.is_some();
    let wanted = args.kind.or(only_first.then_some(Name::Nftables));
    for kind in KINDS.iter().filter(|kind| wanted.is_none_or(|wanted| kind.name == wanted)) {
        report.tier(kind.title, || {
            cluster::replace(kind.kube_proxy)?;
            mesh::install(kind.install, args.image)?;
            let filter = filter.or(args.short.then_some("short::"));
            let mut counts = Counts::default();
            for filter in filter.map_or(kind.tests.to_vec(), |filter| vec![filter]) {
                let later = if filter.is_empty() { APART } else { &[] };
                counts = counts + suite(&Means::ours(args.short)?, Some(filter), later)?;
            }
            Ok(Some(counts))
        })?;
    }
    Ok(())
}

/// Who gives Services their addresses.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Nftables,
    NoKubeProxy,
    Iptables,
}

/// A cluster of ours, and what is asked of it.
struct Kind {
    name: Name,
    title: &'static str,
    kube_proxy: Option<ProxyMode>,
    install: &'static [&'static str],
    /// Parts of names, one after the other.
    tests: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind {
        name: Name::Nftables,
        title: "cluster",
        kube_proxy: Some(ProxyMode::Nftables),
        install: &[],
        tests: &["", RIGHTS, REMOVAL],
    },
    Kind {
        name: Name::NoKubeProxy,
        title: "cluster without kube-proxy",
        kube_proxy: None,
        install: &["--service-scope=node"],
        tests: &["services::", "short::"],
    },
    Kind {
        name: Name::Iptables,
        title: "cluster with kube-proxy (iptables)",
        kube_proxy: Some(ProxyMode::Iptables),
        install: &[],
        tests: &["services::", "short::"],
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

/// By what the tests reach a cluster.
struct Means {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    helm: Option<PathBuf>,
}

impl Means {
    /// The short form needs no Helm, which takes minutes to build.
    fn ours(short: bool) -> Result<Self> {
        let helm = if short { None } else { Some(cluster::helm()?) };
        Ok(Self { kubeconfig: cluster::kubeconfig()?, kubectl: cluster::program("kubectl")?, helm })
    }
}

/// The tests share the cluster's mesh, and some restart it: one after the other.
fn suite(means: &Means, filter: Option<&str>, skipped: &[&str]) -> Result<Counts> {
    let mut tests = shell::cargo();
    tests.args(["test", "-p", "weft-tests", "--test", SUITE, "--", "--test-threads=1"]);
    tests.args(filter.filter(|filter| !filter.is_empty()));
    tests.args(skipped.iter().flat_map(|name| ["--skip", name]));
    tests.env("KUBECONFIG", &means.kubeconfig).env("WEFT_KUBECTL", &means.kubectl);
    tests.env("WEFT_XTASK", env::current_exe().context("find this program")?);
    tests.env("WEFT_AUDIT_LOG", cluster::audit_log()?);
    tests.envs(means.helm.iter().map(|helm| ("WEFT_HELM", helm)));
    let counts = stream(&mut tests, "the mesh on a cluster")?;
    if counts == Counts::default() && filter.is_none() {
        bail!("there was nothing to run");
    }
    Ok(counts)
}

/// The target of the tests that need a cluster.
const SUITE: &str = "kubernetes";
/// What does something to the machine's own cluster, or needs what not every cluster has: addresses of both families.
const OURS: &[&str] = &["outages::", "beside::", RIGHTS, REMOVAL, "dual_stack"];
/// What looks back at all other tests, and what ends them.
const APART: &[&str] = &[RIGHTS, REMOVAL];
const RIGHTS: &str = "rights::";
const REMOVAL: &str = "removal::";
