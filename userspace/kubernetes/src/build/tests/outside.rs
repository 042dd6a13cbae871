//! What `weft analyze` says of callers from outside the mesh.

use super::World;

const SHOP: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/mesh: enabled}}}";
const STRICT: &str = "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, \
                      spec: {mtls: {mode: Strict}}}";

fn pod(name: &str, annotations: &str, ports: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: api}}, \
         annotations: {annotations}}}, spec: {{containers: [{{name: app, ports: {ports}}}]}}, \
         status: {{podIPs: [{{ip: 10.0.0.1}}]}}}}"
    )
}

fn service(kind: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: api, namespace: shop}}, spec: {{type: {kind}, \
         clusterIP: 10.96.0.1, selector: {{app: api}}, ports: [{{port: 80, targetPort: web}}]}}}}"
    )
}

fn port_level(port: u16) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: AuthenticationPolicy, metadata: {{name: open, namespace: shop}}, \
         spec: {{targetRefs: [{{group: \"\", kind: Pod, selector: {{}}}}], \
         mtls: {{portLevel: [{{port: {port}, mode: Permissive}}]}}}}}}"
    )
}

const WEB: &str = "[{name: web, containerPort: 8080}]";

/// What is said, an object with its field each, and all remedies.
fn said(documents: &[&str]) -> (Vec<String>, String) {
    let mut world = World::new(documents);
    world.built();
    let notices = world.builder.callers_outside();
    let at = notices.iter().map(|notice| format!("{} {}", notice.key, notice.finding.field)).collect();
    (at, notices.iter().map(|notice| notice.finding.remedy.as_str()).collect())
}

#[test]
fn a_service_that_is_open_to_the_outside_is_named_with_the_way_out() {
    let api = pod("api", "{}", WEB);
    for kind in ["NodePort", "LoadBalancer"] {
        let (at, remedy) = said(&[SHOP, STRICT, &api, &service(kind)]);
        assert_eq!(at, ["Service shop/api spec.type"]);
        assert!(remedy.contains("portLevel: [{port: 8080, mode: Permissive}]"), "{remedy}");
    }
    assert!(said(&[SHOP, STRICT, &api, &service("ClusterIP")]).0.is_empty());
    assert!(said(&[SHOP, &api, &service("NodePort")]).0.is_empty(), "nothing is Strict");
    let open = port_level(8080);
    assert!(said(&[SHOP, STRICT, &api, &service("NodePort"), &open]).0.is_empty(), "the way out is taken");
}

#[test]
fn a_pod_says_by_its_annotations_and_ports_who_calls_it() {
    let scraped = "{prometheus.io/scrape: \"true\", prometheus.io/port: \"9100\"}";
    let at = |documents: &[&str]| said(&[&[SHOP, STRICT], documents].concat()).0;
    let annotated = pod("api", scraped, WEB);
    assert_eq!(at(&[&annotated]), ["Pod shop/api metadata.annotations[prometheus.io/scrape]"]);
    assert!(at(&[&annotated, &port_level(9100)]).is_empty());
    assert!(at(&[&pod("api", "{prometheus.io/scrape: \"false\"}", WEB)]).is_empty());
    for port in ["metrics", "http-metrics", "webhook-server"] {
        let named = pod("api", "{}", &format!("[{{name: {port}, containerPort: 9443}}]"));
        assert_eq!(at(&[&named]), ["Pod shop/api spec.containers"], "{port}");
    }
}

#[test]
fn pods_that_are_not_enrolled_are_named_where_strict_is_asked_for() {
    let api = pod("api", "{}", WEB);
    let plain = api.replace("namespace: shop", "namespace: field");
    assert_eq!(said(&[SHOP, STRICT, &api, &plain]).0, ["MeshConfig default spec.mtls.mode"]);
    assert!(said(&[SHOP, STRICT, &plain]).0.is_empty(), "nobody is Strict");
    let policy = port_level(8080).replace("mode: Permissive", "mode: Strict");
    let expected = ["AuthenticationPolicy shop/open spec.mtls.portLevel"];
    assert_eq!(said(&[SHOP, &policy, &api, &plain]).0, expected);
}
