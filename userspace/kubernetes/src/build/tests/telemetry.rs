//! Whose requests are logged.

use weft_model::LogFormat;

use super::{World, shop};

const WEB: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, \
                   status: {podIPs: [{ip: 10.0.0.1}]}}";
const API: &str = "{apiVersion: v1, kind: Pod, metadata: {name: api, namespace: shop, labels: {app: api}}, \
                   status: {podIPs: [{ip: 10.0.0.2}]}}";

fn mesh(access_log: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, \
         spec: {{telemetry: {{accessLog: {access_log}}}}}}}"
    )
}

fn policy(name: &str, target: &str, access_log: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: TelemetryPolicy, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{targetRefs: [{target}], accessLog: {access_log}}}}}"
    )
}

const ALL: &str = "{kind: Pod, selector: {}}";
const ONLY_WEB: &str = "{kind: Pod, selector: {matchLabels: {app: web}}}";

/// The pods whose requests are logged.
fn logged(world: &mut World) -> Vec<String> {
    world.built().access_logs.keys().map(|name| name.name.to_string()).collect()
}

#[test]
fn nothing_is_logged_unless_somebody_says_so() {
    assert_eq!(logged(&mut World::new(&[WEB, API])), [""; 0]);
    assert_eq!(logged(&mut World::new(&[WEB, API, &mesh("{mode: Enabled}")])), ["api", "web"]);
}

#[test]
fn a_more_specific_level_says_more_and_leaves_the_rest_to_the_others() {
    let mesh = mesh("{mode: Disabled, format: Text, filter: 'response.code >= 500'}");
    let all = policy("all", ALL, "{mode: Enabled}");
    let some = policy("some", ONLY_WEB, "{format: JSON}");
    let mut world = World::new(&[WEB, API, &mesh, &all, &some]);
    let built = world.built();
    let (web, api) = (&built.access_logs[&shop("web")], &built.access_logs[&shop("api")]);
    assert_eq!((web.format, api.format), (LogFormat::Json, LogFormat::Text));
    assert!(web.filter.is_some(), "the mesh's");
    assert_eq!(web.filter, api.filter);
    world.put("off.yaml", &policy("a-first", ONLY_WEB, "{mode: Disabled}"));
    assert_eq!(logged(&mut world), ["api"], "of two at one level, the first by name");
}

#[test]
fn a_policy_for_a_service_is_for_the_pods_that_it_selects() {
    let service = |app: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: front, namespace: shop}}, \
             spec: {{clusterIP: 10.96.0.9, selector: {{app: {app}}}, ports: [{{port: 80}}]}}}}"
        )
    };
    let policy = policy("front", "{kind: Service, name: front}", "{mode: Enabled}");
    let mut world = World::new(&[WEB, API, &policy]);
    assert_eq!(logged(&mut world), [""; 0], "there is no such Service");
    world.put("service.yaml", &service("web"));
    assert_eq!(logged(&mut world), ["web"]);
    world.put("service.yaml", &service("api"));
    assert_eq!(logged(&mut world), ["api"]);
}

#[test]
fn a_pod_or_a_policy_that_comes_or_goes_changes_its_own_alone() {
    let mut world = World::new(&[WEB, &policy("all", ALL, "{mode: Enabled}")]);
    assert_eq!(logged(&mut world), ["web"]);
    world.put("api.yaml", API);
    assert_eq!(logged(&mut world), ["api", "web"]);
    world.remove("0.yaml");
    assert_eq!(logged(&mut world), ["api"]);
    world.remove("1.yaml");
    assert_eq!(logged(&mut world), [""; 0]);
}
