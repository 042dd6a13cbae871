//! The kubelet asks pods how they are, whatever policies and modes say.

use crate::agents;
use crate::cluster;
use crate::stage::{Echo, Stage};

#[test]
fn probes_pass_under_deny_all_and_nobody_else_does() {
    let [one, _] = cluster::two_nodes();
    let stage = Stage::open("deny-all");
    stage.apply(DENY_ALL);
    let on = |name| Echo { node: Some(&one), ..Echo::new(name) };
    stage.start(&[on("web"), Echo { container: EVERY_PROBE, ..on("api") }]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 2);
    agents::enforced("policies", &stage.namespace, "nobody", |_| true);
    let refused = stage.ask("web", &["http://api/"]).map(|answer| answer.text);
    refused.expect_err("nobody may");
    // Made anew under the policy, it becomes ready, and its startup probe passes.
    stage.ok(&["rollout", "restart", "deployment/api"]);
    stage.rolled_out("api");
    assert_stays(&stage);
}

#[test]
fn probes_pass_where_only_mutual_tls_is_taken() {
    let stage = Stage::open("strict");
    stage.apply(STRICT);
    stage.start(&[Echo { container: EVERY_PROBE, ..Echo::new("api") }]);
    agents::enrolled(&stage.namespace, 1);
    stage.ok(&["rollout", "restart", "deployment/api"]);
    stage.rolled_out("api");
    assert_stays(&stage);
}

/// Ready and alive for as long as two failures of each probe take, and some.
#[track_caller]
fn assert_stays(stage: &Stage) {
    weft_tests::throughout(std::time::Duration::from_secs(6), || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let path = "--output=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let restarts = stage.ok(&["get", "pods", "--selector=app=api", path]);
        let ready = stage.ok(&["get", "deployment", "api", "--output=jsonpath={.status.readyReplicas}"]);
        ready == "1" && restarts.split(' ').all(|count| count == "0")
    });
}

const EVERY_PROBE: &str = "
        startupProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, failureThreshold: 10}
        readinessProbe: {grpc: {port: 7070}, periodSeconds: 1, failureThreshold: 1}
        livenessProbe: {tcpSocket: {port: 9090}, periodSeconds: 1, failureThreshold: 2}
";
const DENY_ALL: &str = "
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec:
  targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: api}}}]
";
const STRICT: &str = "
apiVersion: weft.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: strict}
spec:
  targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: api}}}]
  mtls: {mode: Strict}
";
