//! What programs beside the agent ask: the CNI plugin, and who looks before an installation.

use serde_json::json;
use weft_kubernetes::{Connection, ask_membership, cluster_neighbours, lend};
use weft_model::{ObjectName, ServiceAccount};

use super::{
    api_server::ApiServer,
    objects::{definition, namespace, pod},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lent_account_says_who_is_in_the_mesh_and_may_nothing_else() {
    let server = ApiServer::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let api_version = "rbac.authorization.k8s.io/v1";
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get"]},
        {"apiGroups": ["weft.dev"], "resources": ["meshconfigs"], "resourceNames": ["default"], "verbs": ["get"]}
    ]);
    let reference = json!({"kind": "ClusterRole", "name": "cni", "apiGroup": "rbac.authorization.k8s.io"});
    let subject = json!({"kind": "ServiceAccount", "name": "cni", "namespace": "shop"});
    for object in [
        namespace("shop", &json!({"team": "shop"})),
        pod("web", "n1", "10.1.0.9"),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cni", "namespace": "shop"}}),
        json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": "cni"}, "rules": rules}),
        json!({"apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": {"name": "cni"},
            "subjects": [subject], "roleRef": reference}),
    ] {
        server.apply(&object).await;
    }
    let admin = Connection::Kubeconfig(server.kubeconfig("admin"));
    let file = folder.path().join("kubeconfig");
    let valid = lend(&admin, &ServiceAccount::new("shop", "cni"), &file).await.unwrap();
    assert!(valid.as_secs() > 60 * 60, "{valid:?}");
    let lent = Connection::Kubeconfig(file.clone());
    let uid = server.list("v1", "Pod").await[0]["metadata"]["uid"].as_str().unwrap().to_owned();
    let web = ObjectName::new("shop", "web");
    // A cluster whose MeshConfig has no definition yet has the defaults.
    assert!(!ask_membership(&lent, &web, &uid).await.unwrap());
    let mut meshes = definition("MeshConfig", "meshconfigs");
    meshes["spec"]["scope"] = "Cluster".into();
    server.apply(&meshes).await;
    let mesh = json!({"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"},
        "spec": {"namespaceSelector": {"matchLabels": {"team": "shop"}}}});
    super::until("the MeshConfig is taken", async || server.try_apply(&mesh).await).await;
    assert!(ask_membership(&lent, &web, &uid).await.unwrap(), "the MeshConfig says which namespaces");
    let other = ask_membership(&lent, &web, "00000000-0000-4000-8000-000000000000").await.unwrap_err();
    assert!(other.to_string().contains("no Pod shop/web with the UID 00000000"), "{other}");
    let refused = cluster_neighbours(&lent).await.unwrap_err().to_string();
    assert!(refused.contains("cannot list resource"), "{refused}");
    let none = lend(&admin, &ServiceAccount::new("shop", "nobody"), &file).await.unwrap_err().to_string();
    assert!(none.contains("shop/nobody") && none.contains("weft install"), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_live_together_is_found_in_a_real_cluster() {
    let server = ApiServer::start(&[]).await;
    let admin = Connection::Kubeconfig(server.kubeconfig("admin"));
    assert_eq!(
        cluster_neighbours(&admin).await.unwrap(),
        [],
        "a cluster of our own version, with nobody in it"
    );
    let both = json!({"weft.dev/mesh": "enabled", "istio.io/dataplane-mode": "ambient"});
    let template = json!({"metadata": {"labels": {"app": "ztunnel"}},
        "spec": {"containers": [{"name": "ztunnel", "image": "x"}]}});
    for object in [
        namespace("shop", &both),
        namespace("istio-system", &json!({})),
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ztunnel", "namespace": "istio-system"},
            "spec": {"selector": {"matchLabels": {"app": "ztunnel"}}, "template": template}}),
        namespace("kube-system", &json!({})),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"},
            "data": {"kube-proxy-replacement": "true", "cni-exclusive": "true"}}),
    ] {
        server.apply(&object).await;
    }
    let found = cluster_neighbours(&admin).await.unwrap();
    let found: Vec<_> =
        found.iter().map(|one| (one.who.as_str(), one.clashes, one.detail.as_str())).collect();
    let [both, there, sockets, alone] = found[..] else { panic!("{found:?}") };
    assert_eq!((both.0, both.1), ("another mesh", true));
    assert!(both.2.ends_with("to be in weft, too: shop"), "{both:?}");
    assert_eq!((there.0, there.1), ("another mesh", false));
    assert_eq!((sockets.0, sockets.1, alone.0, alone.1), ("Cilium", true, "Cilium", true));
}
