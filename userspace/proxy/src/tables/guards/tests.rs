use std::collections::BTreeMap;

use weft_model::{
    Action, AuthorizationPolicy, Mode, ObjectName, PolicyTarget, PortRange, Rule, Selector, ServiceAccount,
    Source,
};

use super::*;

/// A pod of this node, with its own ServiceAccount.
fn pod(name: &str, ips: &[&str]) -> Arc<Workload> {
    Arc::new(Workload {
        name: ObjectName::new("shop", name),
        service_account: ServiceAccount::new("shop", name),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        node: None,
        local: true,
        labels: Arc::new(BTreeMap::from([("app".to_owned(), name.to_owned())])),
        enrolled: true,
        netns: None,
        ports: Vec::new(),
        owner: name.into(),
        ready: true,
        passage: weft_model::Passage::Done,
        terminating: false,
        created: 0,
    })
}

fn policy(action: Action, source: Source, ports: Option<Vec<PortRange>>) -> AuthorizationPolicy {
    let labels = BTreeMap::from([("app".to_owned(), "api".to_owned())]);
    AuthorizationPolicy {
        name: ObjectName::new("shop", "api"),
        action,
        mode: Mode::Enforce,
        target: PolicyTarget::Pods(Selector { labels, expressions: Vec::new() }),
        rules: vec![Rule { sources: Some(vec![source]), ports, ..Rule::default() }],
    }
}

/// What `web` is told of `to`, with `policy` before `api`.
fn told(policy: AuthorizationPolicy, to: &str) -> Reason {
    let web = pod("web", &["10.1.0.1", "fd00::1"]);
    let pods = [Arc::clone(&web), pod("api", &["10.1.0.2", "fd00::2"])];
    let snapshot = Snapshot {
        workloads: Arc::new(pods.map(|pod| (pod.name.clone(), pod)).into()),
        policies: Arc::new([(policy.name.clone(), Arc::new(policy))].into()),
        ..Snapshot::default()
    };
    reason(Guards::of(&snapshot).decide_about(&web, to.parse().unwrap()).as_ref())
}

#[test]
fn the_reason_is_the_policys_for_the_port_and_the_family() {
    let web = || Source::ServiceAccount(ServiceAccount::new("shop", "web"));
    let nobody = || Source::ServiceAccount(ServiceAccount::new("shop", "nobody"));
    let one_port = || Some(vec![PortRange { start: 80, end: 80 }]);
    assert_eq!(told(policy(Action::Deny, web(), one_port()), "10.1.0.2:80"), Reason::POLICY_DENIED);
    assert_eq!(told(policy(Action::Allow, nobody(), None), "10.1.0.2:80"), Reason::NOT_ALLOWED);
    let of_v6 = Source::Cidr("fd00::1/128".parse().unwrap());
    assert_eq!(told(policy(Action::Deny, of_v6, None), "[fd00::2]:80"), Reason::POLICY_DENIED);
}

#[test]
fn what_no_policy_of_this_version_refuses_was_refused_all_the_same() {
    let web = || Source::ServiceAccount(ServiceAccount::new("shop", "web"));
    assert_eq!(told(policy(Action::Allow, web(), None), "10.1.0.2:80"), Reason::NOT_ALLOWED);
    assert_eq!(told(policy(Action::Deny, web(), None), "10.1.0.9:80"), Reason::NOT_ALLOWED);
}
