//! The API server is away, or tells not everything.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use weft_kubernetes::Health;
use weft_model::{ObjectName, Snapshot};

use super::{
    agent::{Agent, Disk},
    api_server::ApiServer,
    objects::{definition, namespace, pod, policy, service, slice},
};

async fn shop(server: &ApiServer) {
    server.apply(&definition("AuthorizationPolicy", "authorizationpolicies")).await;
    server.apply(&namespace("shop", &json!({"weft.dev/mesh": "enabled"}))).await;
    for object in [service("api", "10.96.0.20"), slice("api", &["10.1.0.7"]), service("web", "10.96.0.21")] {
        server.apply(&object).await;
    }
    server.apply(&pod("web-1", "n2", "10.1.0.7")).await;
    server.apply(&policy("p", "DENY")).await;
}

fn has(snapshot: &Snapshot, service: &str) -> bool {
    snapshot.services.contains_key(&ObjectName::new("shop", service))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_and_comes_back_changes_nothing_but_what_changed_meanwhile() {
    let mut server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    shop(&server).await;
    let mut agent = Agent::start(&server, &disk).await;
    agent.synced().await;
    let before = agent.until("all of it", |s| s.policies.len() == 1 && has(s, "web")).await;
    server.kill();
    let away = |health: &Health| health.away.as_ref().is_some_and(|away| away.error.contains("refused"));
    agent.healthy("the server is away", away).await;
    assert_eq!(agent.snapshot(), before, "what was told last stays in force");
    // Another one of the same cluster, which the agent does not know, takes the changes.
    let other = server.beside().await;
    other.delete(&service("web", "10.96.0.21")).await;
    other.apply(&service("new", "10.96.0.22")).await;
    drop(other);
    server.bring_back().await;
    let after = agent.until("what changed", |s| has(s, "new") && !has(s, "web")).await;
    let health = agent.healthy("the server is there again", |health| health.away.is_none()).await;
    assert!(health.refused.is_empty(), "{health:?}");
    assert_eq!((&after.policies, &after.workloads), (&before.policies, &before.workloads));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_as_it_was_is_no_news() {
    let mut server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    shop(&server).await;
    let mut agent = Agent::start(&server, &disk).await;
    agent.synced().await;
    let before = agent.until("all of it", |s| s.policies.len() == 1 && has(s, "web")).await;
    server.kill();
    agent.healthy("the server is away", |health| health.away.is_some()).await;
    server.bring_back().await;
    agent.healthy("the server is there again", |health| health.away.is_none()).await;
    // A change of one object shows that the others have not changed.
    server.apply(&slice("api", &["10.1.0.8"])).await;
    let changed = |s: &Snapshot| {
        let service = &s.services[&ObjectName::new("shop", "api")];
        service.ports[0].groups[0].endpoints[0].address.ip().to_string() == "10.1.0.8"
    };
    let after = agent.until("the change", changed).await;
    assert!(std::sync::Arc::ptr_eq(&after.policies, &before.policies));
    assert!(std::sync::Arc::ptr_eq(&after.workloads, &before.workloads));
    assert_eq!(after.version, before.version + 1, "one change, one snapshot");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_begins_while_the_server_is_away_goes_on_with_what_was_in_force() {
    let mut server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    shop(&server).await;
    let mut agent = Agent::start(&server, &disk).await;
    agent.synced().await;
    let before = agent.until("all of it", |s| s.policies.len() == 1 && has(s, "web")).await;
    agent.stop().await;
    server.kill();
    let mut agent = Agent::start(&server, &disk).await;
    let now = agent.snapshot();
    assert!(now.version > 0, "at once: nobody has to wait for the API server");
    assert_eq!((&now.services, &now.policies), (&before.services, &before.policies));
    assert_eq!(now.workloads, before.workloads);
    let health = agent.healthy("what is kept is told, with its age", |health| health.away.is_some()).await;
    assert!(health.kept.unwrap().elapsed().unwrap() < Duration::from_mins(10) && !health.synced);
    // What went while no agent looked goes when the server is there again, and nothing is ever less than that.
    let other = server.beside().await;
    other.delete(&service("web", "10.96.0.21")).await;
    drop(other);
    assert!(has(&agent.snapshot(), "web"));
    server.bring_back().await;
    let after = agent.until("it is gone", |s| !has(s, "web")).await;
    assert_eq!((&after.policies, &after.workloads), (&before.policies, &before.workloads));
    let health = agent.healthy("all is listed", |health| health.synced).await;
    assert_eq!(health.kept, None);
    agent.stop().await;
}

fn role(rules: &Value) -> [Value; 2] {
    let api_version = "rbac.authorization.k8s.io/v1";
    let subject = json!({"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"});
    let reference = json!({"kind": "ClusterRole", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"});
    [
        json!({"apiVersion": api_version, "kind": "ClusterRole", "metadata": {"name": "agent"}, "rules": rules}),
        json!({"apiVersion": api_version, "kind": "ClusterRoleBinding", "metadata": {"name": "agent"},
            "subjects": [subject], "roleRef": reference}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_lacks_is_named_and_holds_back_what_is_incomplete() {
    let server = ApiServer::start(&[]).await;
    let disk = Disk::new();
    shop(&server).await;
    let reads = json!(["get", "list", "watch"]);
    let rule =
        |group: &str, kinds: &[&str]| json!({"apiGroups": [group], "resources": kinds, "verbs": reads});
    let mut rules = vec![
        rule("", &["namespaces", "nodes", "services", "pods"]),
        rule("discovery.k8s.io", &["endpointslices"]),
        rule("apiextensions.k8s.io", &["customresourcedefinitions"]),
    ];
    for object in role(&rules.clone().into()) {
        server.apply(&object).await;
    }
    let groups = Path::new("/sys/fs/cgroup/weft-no-such-node");
    let mut agent = Agent::with(&server, "agent", groups, &disk).await;
    let health = agent.healthy("what lacks", |h| h.refused.contains_key("AuthorizationPolicy")).await;
    let refused = &health.refused["AuthorizationPolicy"];
    let words = r#"User "agent" cannot watch resource "authorizationpolicies" in API group "weft.dev""#;
    assert!(refused.error.contains(words), "{refused:?}");
    let health = agent.healthy("the rest", |health| health.unlisted == ["AuthorizationPolicy"]).await;
    assert!(!health.synced && health.away.is_none());
    assert_eq!(agent.snapshot().version, 0, "without policies nothing is enforced");
    rules.push(rule("weft.dev", &["authorizationpolicies"]));
    for object in role(&rules.into()) {
        server.apply(&object).await;
    }
    assert_eq!(agent.synced().await.policies.len(), 1);
    agent.healthy("nothing lacks", |health| health.refused.is_empty()).await;
    agent.stop().await;
}
