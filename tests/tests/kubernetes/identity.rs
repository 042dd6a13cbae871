//! Who a client of another node is, is what its certificate says, and an address is not enough.

use crate::agents;
use crate::cluster;
use crate::stage::{Echo, ONLY_WEB, ROUTED, Stage};

#[test]
fn a_client_of_another_node_is_let_in_by_the_account_that_it_proves() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("proven");
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { node: Some(&other), ..Echo::new("web") },
        Echo { node: Some(&other), ..Echo::new("guest") },
    ]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 3);
    stage.apply(STRICT);
    stage.apply(ONLY_WEB);
    agents::enforced("policies", &stage.namespace, "only-web", |_| true);
    for url in ["http://api/", "grpc://api:7070", "tcp://api:9090"] {
        // From the moment on that it is in force every one is right.
        let answers = stage.answers("web", 20, &[url, "--fresh"]);
        assert!(answers.len() == 20 && answers.iter().all(|answer| answer.is_of("api")), "{url}");
        for _ in 0..5 {
            let refused = stage.ask("guest", &[url, "--timeout=5s"]).map(|answer| answer.text);
            refused.expect_err("it proves to be guest");
        }
    }
}

#[test]
fn a_server_is_told_who_asks_from_another_node_and_nobody_else_can_say_so() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("told");
    stage.start(&[
        Echo { node: Some(&one), ..Echo::new("api") },
        Echo { node: Some(&other), ..Echo::new("web") },
    ]);
    stage.service("api", "app: api", "");
    agents::enrolled(&stage.namespace, 2);
    stage.apply(ROUTED);
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    let account = |name: &str| format!("spiffe://cluster.local/ns/{}/sa/{name}", stage.namespace);
    let told = format!("By={};URI={}", account("api"), account("web"));
    let forged = format!("x-forwarded-client-cert:URI={}", account("api"));
    for answer in stage.answers("web", 20, &["http://api/", "-H", &forged]) {
        assert_eq!(answer.asked_with("x-forwarded-client-cert"), Some(told.as_str()), "{}", answer.text);
    }
}

const STRICT: &str = "
apiVersion: weft.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: strict}
spec:
  targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: api}}}]
  mtls: {mode: Strict}
";
