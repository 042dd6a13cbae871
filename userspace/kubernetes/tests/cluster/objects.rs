//! What becomes of objects, good and bad.

use std::{fs, path::Path};

use serde_json::{Value, json};
use weft_kubernetes::{ManifestSource, Options};
use weft_model::{ObjectName, Severity, Snapshot};

use super::{
    agent::{Agent, Disk},
    api_server::ApiServer,
};

pub(crate) fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(crate) fn service(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": ip, "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}
    })
}

pub(crate) fn slice(service: &str, ips: &[&str]) -> Value {
    let endpoints: Vec<_> = ips
        .iter()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}, "nodeName": "n2", "zone": "b"}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-x"), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints
    })
}

/// A pod that runs on `node`, as its kubelet would say.
pub(crate) fn pod(name: &str, node: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app", "ports": [{"name": "http",
            "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}
    })
}

pub(crate) fn policy(name: &str, action: &str) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"targetRefs": [{"group": "", "kind": "Pod", "selector": {"matchLabels": {"app": "web"}}}],
            "action": action, "rules": [{"sources": [{"type": "CIDR", "cidr": "10.8.0.0/16"}]}]}
    })
}

/// The definition of a kind whose API server checks nothing: so may an older definition be.
pub(crate) fn definition(kind: &str, plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version =
        json!({"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.weft.dev")},
        "spec": {"group": "weft.dev", "scope": "Namespaced", "versions": [version],
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")}}
    })
}

/// The Gateway API's definition of a kind, of the standard channel.
fn gateway_definition(plural: &str) -> Value {
    let path = format!("../../target/cluster/bin/gateway-api/gateway.networking.k8s.io_{plural}.yaml");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; build it: cargo xtask cluster up", path.display()));
    serde_yaml::from_str(&text).unwrap()
}

fn route() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "api", "port": 80}],
            "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                "backendRefs": [{"name": "web", "port": 80, "weight": 9}, {"name": "api", "port": 80, "weight": 1}]}]}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_means_the_same_as_its_objects_in_a_directory() {
    let server = ApiServer::start(&[]).await;
    let (disk, mut folder) = (Disk::new(), Folder::default());
    server.apply(&gateway_definition("httproutes")).await;
    server.apply(&definition("AuthorizationPolicy", "authorizationpolicies")).await;
    server.apply(&namespace("shop", &json!({"weft.dev/mesh": "enabled"}))).await;
    let mut agent = Agent::start(&server, &disk).await;
    agent.synced().await;
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}});
    let host = {
        let mut pod = pod("host", "n1", "10.0.0.1");
        pod["spec"]["hostNetwork"] = true.into();
        pod["spec"]["containers"][0]["ports"][0]["hostPort"] = 8080.into();
        pod
    };
    let objects = [
        node,
        service("api", "10.96.0.20"),
        service("web", "10.96.0.21"),
        slice("api", &["10.1.0.7", "10.1.0.8"]),
        slice("web", &["10.1.0.9"]),
        pod("web-1", "n1", "10.1.0.9"),
        pod("web-2", "n2", "10.1.0.7"),
        host,
        policy("p", "DENY"),
        route(),
    ];
    for object in &objects {
        server.apply(object).await;
    }
    let kinds = [
        ("v1", "Namespace"),
        ("v1", "Node"),
        ("v1", "Service"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("v1", "Pod"),
        ("weft.dev/v1alpha1", "AuthorizationPolicy"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ];
    for (api_version, kind) in kinds {
        folder.add(server.list(api_version, kind).await);
    }
    let expected = folder.read();
    assert_eq!((expected.services.len(), expected.workloads.len(), expected.policies.len()), (3, 3, 1));
    let parts = |snapshot: &Snapshot| {
        let Snapshot { services, workloads, policies, routes, mtls, locality, .. } = snapshot.clone();
        (services, workloads, policies, routes, mtls, locality)
    };
    let seen = agent.until("the same", |snapshot| parts(snapshot) == parts(&expected));
    let seen = seen.await;
    assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    let health = agent.healthy("the Node", |health| !health.no_such_node).await;
    assert!(health.away.is_none() && health.refused.is_empty() && health.unlisted.is_empty(), "{health:?}");
    agent.stop().await;
}

/// A directory of manifests.
#[derive(Default)]
struct Folder(Vec<Value>);

impl Folder {
    fn add(&mut self, objects: Vec<Value>) {
        self.0.extend(objects);
    }

    fn read(&self) -> Snapshot {
        let folder = tempfile::tempdir().unwrap();
        for (i, object) in self.0.iter().enumerate() {
            fs::write(folder.path().join(format!("{i}.json")), object.to_string()).unwrap();
        }
        let options = Options::of("n1");
        let (_source, latest) = ManifestSource::open(folder.path(), options).unwrap();
        latest.borrow().as_ref().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_malformed_object_stalls_nobody_and_keeps_its_last_good_version() {
    let server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    server.apply(&definition("AuthorizationPolicy", "authorizationpolicies")).await;
    server.apply(&namespace("shop", &json!({}))).await;
    server.apply(&policy("p", "DENY")).await;
    server.apply(&policy("bad", "PERHAPS")).await;
    let mut agent = Agent::start(&server, &disk).await;
    let first = agent.synced().await;
    assert_eq!(first.policies.len(), 1, "the other one was never good");
    server.apply(&policy("p", "PERHAPS")).await;
    server.apply(&policy("q", "ALLOW")).await;
    let is_told = |snapshot: &Snapshot| {
        let told = |name: &str| {
            let of_it = |p: &&weft_model::Problem| p.object == format!("AuthorizationPolicy shop/{name}");
            snapshot
                .problems
                .iter()
                .filter(of_it)
                .any(|p| p.severity == Severity::Error && p.field == "spec.action")
        };
        told("p") && told("bad")
    };
    let now = agent.until("both problems, and the new one", |s| is_told(s) && s.policies.len() == 2).await;
    let p = ObjectName::new("shop", "p");
    assert_eq!(now.policies[&p], first.policies[&p]);
    // So it stays for the next agent.
    agent.stop().await;
    let mut agent = Agent::start(&server, &disk).await;
    agent.synced().await;
    let now = agent.until("both problems", is_told).await;
    assert_eq!(now.policies[&p], first.policies[&p]);
    server.delete(&policy("p", "PERHAPS")).await;
    agent.until("it is gone", |snapshot| !snapshot.policies.contains_key(&p)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_read_from_the_moment_on_that_it_is_there_until_it_goes() {
    let server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    server.apply(&namespace("shop", &json!({}))).await;
    let mut agent = Agent::start(&server, &disk).await;
    assert!(agent.synced().await.policies.is_empty());
    let policies = definition("AuthorizationPolicy", "authorizationpolicies");
    server.apply(&policies).await;
    super::until("the kind is served", async || server.try_apply(&policy("p", "DENY")).await).await;
    agent.until("the policy", |snapshot| snapshot.policies.len() == 1).await;
    server.delete(&policies).await;
    agent.until("it is gone with its kind", |snapshot| snapshot.policies.is_empty()).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_streams_no_lists_is_read_all_the_same() {
    let server = ApiServer::start(&["--feature-gates=WatchList=false"]).await;
    let disk = Disk::new();
    server.apply(&namespace("shop", &json!({}))).await;
    server.apply(&service("api", "10.96.0.20")).await;
    let mut agent = Agent::start(&server, &disk).await;
    let api = ObjectName::new("shop", "api");
    assert!(agent.synced().await.services.contains_key(&api));
    server.delete(&service("api", "10.96.0.20")).await;
    agent.until("it is gone", |snapshot| !snapshot.services.contains_key(&api)).await;
    agent.stop().await;
}
