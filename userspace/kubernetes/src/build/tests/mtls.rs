//! Which mode of mutual TLS holds for a pod and a port.

use weft_model::MtlsMode::{self, Disabled, Permissive, Strict};

use super::{World, shop};

const WEB: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, \
                   status: {podIPs: [{ip: 10.0.0.1}]}}";
const API: &str = "{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}, \
                   status: {podIPs: [{ip: 10.0.0.2}]}}";
const ALL: &str = "{kind: Pod, selector: {}}";
const ONLY_WEB: &str = "{kind: Pod, selector: {matchLabels: {app: web}}}";

fn mesh(mode: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, \
         spec: {{mtls: {{mode: {mode}}}}}}}"
    )
}

fn policy(name: &str, target: &str, mtls: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: AuthenticationPolicy, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{targetRefs: [{target}], mtls: {mtls}}}}}"
    )
}

/// The modes of ports 80 and 9090 of `web` and of `api`, on a node with certificates.
fn modes(world: &mut World) -> [MtlsMode; 4] {
    let mut mtls = (*world.built().mtls).clone();
    assert_eq!(mtls.mode(&shop("web"), 80), Disabled, "without certificates");
    mtls.on = true;
    [("web", 80), ("web", 9090), ("api", 80), ("api", 9090)].map(|(pod, port)| mtls.mode(&shop(pod), port))
}

#[test]
fn a_policy_says_more_than_its_namespaces_and_that_more_than_the_mesh() {
    assert_eq!(modes(&mut World::new(&[WEB, API])), [Permissive; 4]);
    let mut world = World::new(&[WEB, API, &mesh("Strict")]);
    assert_eq!(modes(&mut world), [Strict; 4]);
    world.put(
        "all.yaml",
        &policy("all", ALL, "{mode: Permissive, portLevel: [{port: 9090, mode: Disabled}]}"),
    );
    assert_eq!(modes(&mut world), [Permissive, Disabled, Permissive, Disabled]);
    world.put("web.yaml", &policy("web", ONLY_WEB, "{mode: Strict}"));
    assert_eq!(modes(&mut world), [Strict, Strict, Permissive, Disabled], "its mode is for all of its ports");
    world.put("web.yaml", &policy("web", ONLY_WEB, "{portLevel: [{port: 80, mode: Strict}]}"));
    assert_eq!(modes(&mut world), [Strict, Disabled, Permissive, Disabled], "and a port only for that port");
    world.remove("all.yaml");
    world.remove("web.yaml");
    assert_eq!(modes(&mut world), [Strict; 4]);
}

#[test]
fn of_two_policies_for_the_same_pods_the_first_holds_alone() {
    let (a, b) = (policy("a", ALL, "{mode: Strict}"), policy("b", ALL, "{mode: Disabled}"));
    assert_eq!(modes(&mut World::new(&[WEB, API, &b, &a])), [Strict; 4]);
}

#[test]
fn a_policy_for_a_service_follows_what_it_selects() {
    let service = |app: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: front, namespace: shop}}, \
             spec: {{clusterIP: 10.96.0.9, selector: {{app: {app}}}, ports: [{{port: 80}}]}}}}"
        )
    };
    let policy = policy("front", "{kind: Service, name: front}", "{mode: Strict}");
    let mut world = World::new(&[WEB, API, &policy]);
    world.put("front.yaml", &service("web"));
    assert_eq!(modes(&mut world), [Strict, Strict, Permissive, Permissive]);
    world.put("front.yaml", &service("api"));
    assert_eq!(modes(&mut world), [Permissive, Permissive, Strict, Strict]);
}
