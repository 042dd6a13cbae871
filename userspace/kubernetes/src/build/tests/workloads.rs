use std::{path::Path, time::Duration};

use weft_model::{
    Action, Mode, PathRule, PolicyTarget, PortRange, RouteKind, RouteName, ServiceAccount, Source,
};

use super::{World, built, shop};

const ENROLLED: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/mesh: enabled}}}";

fn pod(metadata: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop, {metadata}}}, spec: {{{spec}}}}}"
    )
}

fn enrolled(documents: &[&str]) -> bool {
    built(documents).workloads[&shop("web")].enrolled
}

#[test]
fn a_pods_label_wins_over_its_namespaces() {
    let disabled = pod("labels: {weft.dev/mesh: disabled}", "");
    let enabled = pod("labels: {weft.dev/mesh: enabled}", "");
    let silent = pod("", "");
    assert!(!enrolled(&[&silent]));
    assert!(enrolled(&[&enabled]));
    assert!(enrolled(&[ENROLLED, &silent]));
    assert!(!enrolled(&[ENROLLED, &disabled]));
}

#[test]
fn a_host_network_pod_is_never_enrolled() {
    assert!(!enrolled(&[ENROLLED, &pod("labels: {weft.dev/mesh: enabled}", "hostNetwork: true")]));
}

#[test]
fn mesh_config_selects_the_namespaces() {
    let by_name = "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {namespaceSelector: \
                   {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop]}]}}}";
    assert!(enrolled(&[by_name, &pod("", "")]), "a namespace without an object has a name all the same");
    let mut world = World::new(&[ENROLLED, &pod("", "")]);
    let before = world.built();
    world.put("mesh.yaml", &by_name.replace("[shop]", "[other]"));
    assert!(before.workloads[&shop("web")].enrolled && !world.built().workloads[&shop("web")].enrolled);
    world.remove("mesh.yaml");
    assert!(world.built().workloads[&shop("web")].enrolled, "without a MeshConfig its defaults hold again");
}

#[test]
fn a_namespace_that_is_enrolled_later_enrols_its_pods() {
    let mut world = World::new(&[&pod("", "")]);
    assert!(!world.built().workloads[&shop("web")].enrolled);
    world.put("namespace.yaml", ENROLLED);
    assert!(world.built().workloads[&shop("web")].enrolled);
}

#[test]
fn a_pod_is_what_its_object_says() {
    let built = built(&["
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: ignored, app.kubernetes.io/name: shop-web}
  annotations: {weft.dev/netns: /run/netns/web-1}
  deletionTimestamp: 2026-11-21T10:00:00Z
spec:
  serviceAccountName: front
  nodeName: n1
  initContainers:
  - {name: once, ports: [{name: once, containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{name: metrics, containerPort: 9090}]}
  containers:
  - {name: web, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}, {containerPort: 7}]}
status:
  podIP: 10.1.0.1
  podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]
  conditions: [{type: Ready, status: 'False'}, {type: Initialized, status: 'True'}]
"]);
    let pod = &built.workloads[&shop("web")];
    assert_eq!(pod.service_account, ServiceAccount::new("shop", "front"));
    assert_eq!(pod.netns.as_deref(), Some(Path::new("/run/netns/web-1")));
    assert_eq!(pod.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.1.0.1", "fd00::1"]);
    let ports: Vec<_> = pod.ports.iter().map(|p| (&*p.name, p.port)).collect();
    assert_eq!(
        ports,
        [("http", 8080), ("dns", 53), ("metrics", 9090)],
        "sidecars' ports count, init containers' not"
    );
    assert!(pod.local && pod.terminating && !pod.ready);
    assert_eq!(&*pod.owner, "shop-web");
}

#[test]
fn what_a_pod_does_not_say_has_its_default() {
    let built = built(&[&pod("", "")]);
    let pod = &built.workloads[&shop("web")];
    assert_eq!(pod.service_account, ServiceAccount::new("shop", "default"));
    assert!(pod.ready && pod.local && !pod.terminating && pod.netns.is_none() && pod.node.is_none());
    assert_eq!(&*pod.owner, "web");
}

#[test]
fn a_pod_of_another_node_is_not_local() {
    assert!(!built(&[&pod("", "nodeName: n2")]).workloads[&shop("web")].local);
}

#[test]
fn a_pod_that_has_run_to_its_end_is_no_workload() {
    for (phase, there) in [("Running", true), ("Pending", true), ("Succeeded", false), ("Failed", false)] {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web, namespace: shop}}, status: {{phase: {phase}}}}}"
        );
        assert_eq!(built(&[&pod]).workloads.contains_key(&shop("web")), there, "{phase}");
    }
}

#[test]
fn a_workload_is_named_after_its_controller() {
    let owner = |labels: &str, kind: &str, name: &str| {
        let owners = format!(
            "labels: {{{labels}}}, ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {name}, uid: u, controller: true}}]"
        );
        built(&[&pod(&owners, "")]).workloads[&shop("web")].owner.to_string()
    };
    assert_eq!(owner("pod-template-hash: 7d9f8b6c5", "ReplicaSet", "web-7d9f8b6c5"), "web");
    assert_eq!(owner("", "ReplicaSet", "web-v2-7d9f8b6c5"), "web-v2");
    assert_eq!(owner("app: other", "StatefulSet", "db"), "db");
}

#[test]
fn the_zone_is_that_of_our_node() {
    let node =
        "{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}}";
    assert_eq!(built(&[node]).locality.zone.as_deref(), Some("z1"));
    assert_eq!(built(&[]).locality.zone, None);
}

const POLICY: &str = "
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}, {kind: Service, name: api}]
  action: DENY
  mode: Audit
  rules:
  - sources:
    - {type: SPIFFE, spiffe: 'spiffe://cluster.local/ns/shop/sa/web'}
    - {type: SPIFFE, spiffe: 'spiffe://corp.example/ns/shop/sa/web'}
    - {type: ServiceAccount, serviceAccount: {namespace: ops, name: '*'}}
    networkAttributes: {ports: [80], portRanges: [{start: 90, end: 99}]}
  - sources: []
    httpAttributes: {methods: [GET]}
  - networkAttributes: {ports: [443]}
  - sources: []
    networkAttributes: {}
    httpAttributes: {}
";

#[test]
fn a_policy_is_what_its_object_says() {
    let built = built(&[POLICY]);
    let policy = &built.policies[&shop("read")];
    assert_eq!((policy.action, policy.mode), (Action::Deny, Mode::Audit));
    assert_eq!(policy.target, PolicyTarget::Services(vec!["web".into(), "api".into()]));
    let sources = policy.rules[0].sources.as_deref().unwrap();
    assert_eq!(
        sources[0],
        Source::ServiceAccount(ServiceAccount::new("shop", "web")),
        "our own trust domain"
    );
    assert!(matches!(&sources[1], Source::Spiffe(id) if *id.trust_domain == *"corp.example"));
    assert_eq!(sources[2], Source::Namespace("ops".into()));
    let ports = [PortRange::from(80), PortRange { start: 90, end: 99 }];
    assert_eq!(policy.rules[0].ports.as_deref(), Some(&ports[..]));
    assert_eq!(policy.rules[1].sources.as_deref(), Some(&[][..]), "an empty list is nobody");
    assert!(policy.rules[1].l7 && !policy.rules[0].l7);
    assert_eq!(policy.rules[2].sources, None, "no list is anybody");
    assert!(policy.rules[3].ports.is_none() && !policy.rules[3].l7, "an empty block asks for nothing");
}

#[test]
fn what_a_rule_asks_of_requests_is_carried() {
    let policy = "
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: GRPCRoute, name: api}]
  rules:
  - httpAttributes:
      methods: [GET, HEAD]
      paths: [{type: Exact, value: /a}, {type: PathPrefix, value: /b/}]
      hosts: ['*.shop', api]
      headers: [{name: X-Env, value: prod}]
    jwt: {provider: corp, claims: [{name: realm.roles, values: [admin]}]}
";
    let built = built(&[policy]);
    let policy = &built.policies[&shop("read")];
    let route = RouteName { kind: RouteKind::Grpc, name: shop("api") };
    assert_eq!(policy.target, PolicyTarget::Routes(vec![route]));
    let http = policy.rules[0].http.as_ref().unwrap();
    assert_eq!((&*http.methods[1], &*http.hosts[0]), ("HEAD", "*.shop"));
    assert_eq!(http.paths, [PathRule::Exact("/a".into()), PathRule::Prefix("/b/".into())]);
    assert_eq!((&*http.headers[0].name, &*http.headers[0].value), ("x-env", "prod"));
    let token = policy.rules[0].token.as_ref().unwrap();
    assert_eq!((&*token.provider, &*token.claims[0].name), ("corp", "realm.roles"));
    assert!(policy.rules[0].l7);
}

#[test]
fn another_trust_domain_makes_other_spiffe_ids_ours() {
    let mesh = "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, \
                spec: {trustDomain: corp.example, trustDomainAliases: [old.example]}}";
    let mut world = World::new(&[POLICY]);
    let ours = |world: &mut World, index: usize| {
        let built = world.built();
        let sources = built.policies[&shop("read")].rules[0].sources.clone().unwrap();
        matches!(sources[index], Source::ServiceAccount(_))
    };
    assert!(ours(&mut world, 0) && !ours(&mut world, 1));
    world.put("mesh.yaml", mesh);
    assert!(!ours(&mut world, 0) && ours(&mut world, 1));
    assert_eq!(&*world.built().trust_domain, "corp.example");
    world.put("mesh.yaml", &mesh.replace("old.example", "cluster.local"));
    assert!(ours(&mut world, 0) && ours(&mut world, 1), "an alias is ours too");
    assert_eq!(&*world.built().trust_domain_aliases, &["cluster.local".into()]);
}

#[test]
fn certificates_live_as_long_as_the_mesh_says_and_a_day_where_it_says_nothing() {
    let mesh = "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, \
                spec: {certificates: {ttl: 30s}}}";
    let mut world = World::new(&[]);
    assert_eq!(world.built().certificate_ttl, Duration::from_hours(24));
    world.put("mesh.yaml", mesh);
    assert_eq!(world.built().certificate_ttl, Duration::from_secs(30));
    world.remove("mesh.yaml");
    assert_eq!(world.built().certificate_ttl, Duration::from_hours(24));
}

#[test]
fn a_policy_without_action_and_mode_allows_and_enforces() {
    let built = built(&[
        "{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: read, namespace: shop}, \
                         spec: {targetRefs: [{kind: Pod, selector: {matchLabels: {app: web}}}]}}",
    ]);
    let policy = &built.policies[&shop("read")];
    assert_eq!((policy.action, policy.mode, policy.rules.len()), (Action::Allow, Mode::Enforce, 0));
    let PolicyTarget::Pods(selector) = &policy.target else { panic!("{:?}", policy.target) };
    assert_eq!(selector.labels["app"], "web");
}
