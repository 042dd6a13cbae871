//! What these tests begin with: a cluster as `weft install` leaves it, two nodes with an agent's pod each, and pods in the
//! mesh: `web` on one node, `api` on the other.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use weft_identity::{
    IssueError, Issuer as _, Order, Svid, Trust, TrustDomains, Unacceptable, Usage,
    controller::{ControllerError, ControllerIssuer, Controllers, Roots, host},
};
use weft_model::ServiceAccount;
use weft_tests::{text, weft};

use super::{
    api_server::ApiServer,
    process::Controller,
    tokens::{Bound, token},
    until,
};

pub(crate) struct Stage {
    pub(crate) server: ApiServer,
    pub(crate) folder: TempDir,
    kubeconfig: PathBuf,
    trust_domain: &'static str,
}

impl Stage {
    pub(crate) async fn open() -> Self {
        Self::of("cluster.local").await
    }

    /// As [`Stage::open`], installed with this trust domain.
    pub(crate) async fn of(trust_domain: &'static str) -> Self {
        let server = ApiServer::start(&[]).await;
        let mut install = Command::new(weft());
        let output = install.args(["install", "--trust-domain", trust_domain]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let all = String::from_utf8(output.stdout).unwrap();
        for document in serde_yaml::Deserializer::from_str(&all) {
            server.apply(&Value::deserialize(document).unwrap()).await;
        }
        server
            .apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop",
            "labels": {"weft.dev/mesh": "enabled"}}}))
            .await;
        for node in ["n1", "n2"] {
            server.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).await;
            server.apply(&pod("weft-system", &format!("weft-{node}"), "weft-agent", node)).await;
        }
        server.apply(&pod("shop", "web-1", "web", "n1")).await;
        server.apply(&pod("shop", "api-1", "api", "n2")).await;
        let own = token(&server, "weft-controller", None, None).await;
        let kubeconfig = server.kubeconfig_with("weft-controller", &own);
        Self { server, folder: tempfile::tempdir().unwrap(), kubeconfig, trust_domain }
    }

    /// Starts a controller with the rights that it is given, and does not wait for it.
    pub(crate) fn start(&self) -> Controller {
        self.start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// A controller at `ip` that is ready.
    pub(crate) async fn controller_at(&self, ip: IpAddr) -> Controller {
        let mut controller = self.start_at(ip);
        until("a controller is ready", async || controller.is_ready()).await;
        controller
    }

    /// A controller that is ready.
    pub(crate) async fn controller(&self) -> Controller {
        let mut controller = self.start();
        until("a controller is ready", async || controller.is_ready()).await;
        controller
    }

    fn start_at(&self, ip: IpAddr) -> Controller {
        Controller::start(ip, &self.kubeconfig, self.folder.path(), self.trust_domain)
    }

    /// The UID of an object of `weft-system`, or of none.
    pub(crate) async fn uid(&self, kind: &str, name: &str) -> String {
        let all = self.server.list("v1", kind).await;
        let found = all.into_iter().find(|object| object["metadata"]["name"] == name).unwrap();
        found["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// The token that the kubelet of `node` gives its agent.
    pub(crate) async fn agent_token(&self, node: &str) -> String {
        let pod = format!("weft-{node}");
        let uid = self.uid("Pod", &pod).await;
        self.token(Some("weft-ca"), Some(("Pod", &pod, &uid))).await
    }

    /// A token of agents' ServiceAccount.
    pub(crate) async fn token(&self, audience: Option<&str>, bound: Option<Bound<'_>>) -> String {
        token(&self.server, "weft-agent", audience, bound).await
    }

    /// An agent that has this token, and asks these controllers.
    pub(crate) async fn agent(&self, token: &str, controllers: &[&Controller]) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, token).unwrap();
        let addresses: Vec<_> = controllers.iter().map(|controller| controller.address).collect();
        let (addresses, found) = watch::channel(addresses.into());
        let (roots, trusted) = watch::channel(Ok(Arc::new(self.bundle().await)));
        let controllers = Controllers::new(host("weft-system"), path, found, trusted);
        Agent {
            issuer: Arc::new(ControllerIssuer::new(controllers)),
            _folder: folder,
            _addresses: addresses,
            _roots: roots,
        }
    }

    /// The roots that controllers have published.
    pub(crate) async fn bundle(&self) -> Roots {
        let mut found = None;
        until("the trusted roots are published", async || {
            let maps = self.server.list("v1", "ConfigMap").await;
            let bundle = maps.into_iter().find(|map| map["metadata"]["name"] == "weft-trust-bundle");
            found = bundle.and_then(|map| Roots::parse(map["data"]["roots.pem"].as_str()?).ok());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Whom a node trusts that has read these roots.
    pub(crate) async fn trust(&self) -> Trust {
        trust(&self.bundle().await)
    }

    /// The Secret of the authority, key by key.
    pub(crate) async fn secret(&self) -> BTreeMap<String, String> {
        let secrets = self.server.list("v1", "Secret").await;
        let secret = secrets.into_iter().find(|secret| secret["metadata"]["name"] == "weft-ca").unwrap();
        serde_json::from_value(secret["data"].clone()).unwrap()
    }

    /// `weft ca rotate --secret`, as an administrator.
    pub(crate) fn rotate(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(weft());
        command.args(["ca", "rotate", "--secret", "weft-system/weft-ca", "--kubeconfig"]);
        command.arg(self.server.kubeconfig("admin")).args(arguments).output().unwrap()
    }
}

pub(crate) fn trust(roots: &Roots) -> Trust {
    let domains = TrustDomains::new("cluster.local", []).unwrap();
    Trust::new(domains, roots.certificates().to_vec()).unwrap()
}

/// The part of a node's agent that asks controllers.
pub(crate) struct Agent {
    pub(crate) issuer: Arc<ControllerIssuer>,
    _folder: TempDir,
    _addresses: watch::Sender<Arc<[SocketAddr]>>,
    _roots: watch::Sender<Result<Arc<Roots>, Arc<str>>>,
}

impl Agent {
    pub(crate) async fn ask(&self, account: &str) -> Result<Svid, IssueError> {
        let account = ServiceAccount::new("shop", account);
        self.issuer.issue(Order { account, ttl: Duration::from_hours(24) }).await
    }

    /// The word for why it gets no certificate of `shop/account`.
    pub(crate) async fn refused(&self, account: &str) -> String {
        match self.ask(account).await {
            Err(IssueError::Controller(ControllerError::Said { reason, .. })) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// Whether both ends of a connection would take it.
pub(crate) fn verify(trust: &Trust, svid: &Svid) -> Result<(), Unacceptable> {
    for usage in [Usage::Client, Usage::Server] {
        trust.verify(&svid.chain()[0], &svid.chain()[1..], usage, SystemTime::now())?;
    }
    Ok(())
}

/// A pod that runs on `node`, as its kubelet would say.
pub(crate) fn pod(namespace: &str, name: &str, account: &str, node: &str) -> Value {
    // Addresses that differ by the pods' names.
    let last = name.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let ip = format!("10.1.{}.{}", node.len(), last.max(2));
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}
    })
}

/// The definition of a kind whose API server checks nothing.
pub(crate) fn definition(kind: &str, plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version =
        json!({"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.weft.dev")},
        "spec": {"group": "weft.dev", "scope": "Cluster", "versions": [version],
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")}}
    })
}
