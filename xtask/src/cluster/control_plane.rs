//! etcd, API server, controller manager and scheduler, on the host.
//!
//! The API server listens on the bridge's address alone, etcd on loopback; the other two serve nothing.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::cgroups::Cgroup;
use super::daemons::{self, Daemon};
use super::network::{API_SERVER, PODS, SERVICES};
use super::pki::{self, Holder};
use super::{LOGS, STATE, parts, state, wait};
use crate::{repo, shell};

/// Starts what does not run, and waits until the API server is ready.
pub(super) fn provide() -> Result<()> {
    pki::provide()?;
    let admin = pki::kubeconfig(&Holder { name: "admin", user: "admin", group: "system:masters" })?;
    etcd()?.ensure()?;
    api_server()?.ensure()?;
    wait::until("the API server is ready", Duration::from_mins(2), || {
        daemons::check("etcd")?;
        daemons::check("kube-apiserver")?;
        let mut ready = Command::new(parts::bin("kubectl")?);
        ready.arg("--kubeconfig").arg(&admin).args(["get", "--raw", "/readyz"]);
        shell::capture(&mut ready).map(drop)
    })?;
    controller_manager()?.ensure()?;
    scheduler()?.ensure().map(drop)
}

/// What it stores is thrown away with the cluster, so it may stay in the page cache.
fn etcd() -> Result<Daemon> {
    let peer = "http://127.0.0.1:22380";
    let daemon = daemon("etcd")?.args(["--name=weft-cluster", "--unsafe-no-fsync", "--log-level=warn"]);
    let daemon = daemon.arg("--data-dir").arg(repo::absolute(STATE)?.join("etcd"));
    let daemon =
        daemon.arg(format!("--listen-client-urls={ETCD}")).arg(format!("--advertise-client-urls={ETCD}"));
    let daemon = daemon.arg(format!("--listen-peer-urls={peer}"));
    let daemon = daemon.arg(format!("--initial-advertise-peer-urls={peer}"));
    Ok(daemon.arg(format!("--initial-cluster=weft-cluster={peer}")))
}

fn api_server() -> Result<Daemon> {
    let policy = repo::absolute(STATE)?.join("audit-policy.json");
    state::write(&policy, AUDIT_POLICY)?;
    let daemon = daemon("kube-apiserver")?.arg(format!("--etcd-servers={ETCD}"));
    let daemon = daemon.arg(format!("--bind-address={API_SERVER}")).arg("--secure-port=6443");
    let daemon = daemon.arg(format!("--advertise-address={API_SERVER}"));
    let daemon = daemon.arg(format!("--service-cluster-ip-range={SERVICES}"));
    let daemon = daemon.args([
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        // Nobody here knows nodes by their names.
        "--kubelet-preferred-address-types=InternalIP",
        // Webhooks by their pods' addresses: on the host nobody translates a Service's.
        "--enable-aggregator-routing=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--audit-log-maxsize=200",
        "--audit-log-maxbackup=1",
    ]);
    let admin = |kind: &str| pki::file(&format!("admin.{kind}"));
    [
        ("--client-ca-file", pki::file("ca.crt")?),
        ("--tls-cert-file", pki::file("apiserver.crt")?),
        ("--tls-private-key-file", pki::file("apiserver.key")?),
        ("--kubelet-client-certificate", admin("crt")?),
        ("--kubelet-client-key", admin("key")?),
        ("--service-account-key-file", pki::file("service-accounts.key")?),
        ("--service-account-signing-key-file", pki::file("service-accounts.key")?),
        ("--audit-policy-file", policy),
        ("--audit-log-path", repo::absolute(LOGS)?.join(AUDIT_LOG)),
    ]
    .into_iter()
    .try_fold(daemon, |daemon, (flag, path)| Ok(daemon.arg(flag).arg(path)))
}

fn controller_manager() -> Result<Daemon> {
    let user = "system:kube-controller-manager";
    let kubeconfig = pki::kubeconfig(&Holder { name: "kube-controller-manager", user, group: user })?;
    // Nodes' addresses and the routes to their pods are this program's own doing (`network`).
    let daemon = daemon("kube-controller-manager")?.args([
        "--controllers=*,-node-ipam-controller,-node-route-controller",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--secure-port=0",
    ]);
    let daemon = daemon.arg(format!("--cluster-cidr={PODS}")).arg("--kubeconfig").arg(kubeconfig);
    let daemon = daemon.arg("--root-ca-file").arg(pki::file("ca.crt")?);
    Ok(daemon.arg("--service-account-private-key-file").arg(pki::file("service-accounts.key")?))
}

fn scheduler() -> Result<Daemon> {
    let user = "system:kube-scheduler";
    let kubeconfig = pki::kubeconfig(&Holder { name: "kube-scheduler", user, group: user })?;
    let daemon = daemon("kube-scheduler")?.args(["--leader-elect=false", "--secure-port=0"]);
    Ok(daemon.arg("--kubeconfig").arg(kubeconfig))
}

fn daemon(name: &str) -> Result<Daemon> {
    Ok(Daemon::new(name.to_owned(), Cgroup::of("control-plane"), parts::bin(name)?))
}

pub(super) const AUDIT_LOG: &str = "audit.log";
/// Not the usual port: the host may have an etcd.
const ETCD: &str = "http://127.0.0.1:22379";
/// Who did what to which object: that is what a role is checked against.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
 "rules": [{"level": "Metadata"}]}
"#;
