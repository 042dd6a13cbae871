//! The objects of a cluster of some size.

use std::{fmt, fs, net::Ipv4Addr, path::Path};

use futures_util::{StreamExt as _, stream};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::{api_server::ApiServer, until};

/// How much there is.
#[derive(clap::Args)]
pub(crate) struct Size {
    #[arg(long, default_value_t = 10_000)]
    pub(crate) services: usize,
    #[arg(long, default_value_t = 100_000)]
    pub(crate) endpoints: usize,
    #[arg(long, default_value_t = 5_000)]
    pub(crate) pods: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, endpoints, pods } = self;
        write!(f, "{services} Services, {endpoints} endpoints, {pods} pods on {NODES} nodes")
    }
}

/// Makes it all, our definitions and the agents' role included.
pub(crate) async fn fill(server: &ApiServer, size: &Size) {
    for object in roles() {
        server.apply(&object).await;
    }
    for object in documents(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds").as_path()) {
        server.apply(&object).await;
    }
    server
        .apply(&json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"weft.dev/mesh": "enabled"}}}))
        .await;
    let client = server.client().await;
    let nodes = (0..NODES).map(node);
    let services = (0..size.services).flat_map(|index| [service(index), slice(index, size)]);
    let pods = (0..size.pods).map(pod);
    make(&client, nodes).await;
    make(&client, services).await;
    make(&client, pods).await;
}

/// A change of one Service's first endpoint, again and again.
pub(crate) struct Change(Api<DynamicObject>);

impl Change {
    pub(crate) async fn of(server: &ApiServer) -> Self {
        let kind = resource("discovery.k8s.io/v1", "EndpointSlice");
        Self(Api::namespaced_with(server.client().await, "shop", &kind))
    }

    /// Has the API server take it; the new address.
    pub(crate) async fn make(&self, round: u32) -> String {
        let address = Ipv4Addr::from(0x0c00_0000 + round).to_string();
        let endpoint = json!({"addresses": [address], "conditions": {"ready": true}});
        let patch = Patch::Merge(json!({"endpoints": [endpoint]}));
        self.0.patch("service-7-x", &PatchParams::default(), &patch).await.unwrap();
        address
    }
}

async fn make(client: &Client, objects: impl Iterator<Item = Value>) {
    stream::iter(objects).for_each_concurrent(32, async |object| create(client, &object).await).await;
}

/// Again where the server is overrun.
async fn create(client: &Client, object: &Value) {
    let kind = resource(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    until("an object is made", async || match api.create(&PostParams::default(), &typed).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) => status.code == 409,
        Err(_) => false,
    })
    .await;
    if object.get("status").is_some() {
        let name = object["metadata"]["name"].as_str().unwrap();
        let patch = Patch::Merge(json!({"status": object["status"]}));
        api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

fn node(index: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{index}"),
        "labels": {"topology.kubernetes.io/zone": format!("zone-{}", index % 3)}}})
}

fn service(index: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": format!("service-{index}")},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}], "selector": {"app": format!("app-{index}")}}})
}

fn slice(index: usize, size: &Size) -> Value {
    let each = size.endpoints / size.services;
    let endpoints: Vec<Value> = (0..each)
        .map(|number| {
            let all = index * each + number;
            json!({"addresses": [address(0x0a80_0000, all)], "nodeName": format!("node-{}", 1 + all % (NODES - 1)),
                "zone": format!("zone-{}", all % 3), "conditions": {"ready": true, "serving": true},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("app-{index}-{number}")}})
        })
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": format!("service-{index}-x"),
            "labels": {"kubernetes.io/service-name": format!("service-{index}")}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}

fn pod(index: usize) -> Value {
    let ip = address(0x0a80_0000, index * 20);
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": format!("app-{index}"),
            "labels": {"app": format!("app-{index}"), "pod-template-hash": "7d9f8b6c5"}},
        "spec": {"nodeName": format!("node-{}", 1 + index % (NODES - 1)), "serviceAccountName": format!("app-{}", index % 500),
            "containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
}

/// What an installed agent may.
fn roles() -> Vec<Value> {
    let mut all = documents(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/install").as_path());
    all.retain(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == "weft-agent");
    assert_eq!(all.len(), 1, "deploy/install has the agents' role");
    all.push(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "agent"}, "subjects": [{"kind": "User", "name": "agent"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "weft-agent"}}));
    all
}

/// All objects of a folder's files, of each as far as it is YAML: what is filled in later is none before.
fn documents(folder: &Path) -> Vec<Value> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let texts = files.filter(|path| path.extension().is_some_and(|word| word == "yaml"));
    let texts: Vec<String> = texts.map(|path| fs::read_to_string(path).unwrap()).collect();
    // Behind what is no YAML the parser finds the same again and again.
    let documents = texts.iter().flat_map(|text| {
        serde_yaml::Deserializer::from_str(text).map(Value::deserialize).map_while(Result::ok)
    });
    // A kustomization, which lies beside them, has no name.
    documents.filter(|object| object["metadata"]["name"].is_string()).collect()
}

fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn address(base: u32, index: usize) -> Ipv4Addr {
    Ipv4Addr::from(base + u32::try_from(index).unwrap())
}

const NODES: usize = 100;
