use std::{collections::BTreeMap, sync::Arc};

use weft_model::{
    Action, AuthorizationPolicy, Distribution, Endpoint, EndpointGroup, Expression, HttpAttributes,
    LoadBalancer, Mode, ObjectName, Operator, PathRule, PolicyTarget, Protocol, Rule, Selector, Service,
    ServiceAccount, ServiceKind, ServicePort, Snapshot, Source, Workload,
};

use super::*;
use crate::api::{AuthzQuery, Verdict};

/// Two enrolled pods of this node, `shop/web-1` and `shop/api-1`, Service `shop/api`, and a policy
/// that lets `shop/web` in.
pub(crate) fn shop() -> Snapshot {
    let pods = [pod("web", 1), pod("api", 2)];
    Snapshot {
        version: 7,
        workloads: Arc::new(pods.into_iter().map(|pod| (pod.name.clone(), Arc::new(pod))).collect()),
        services: one(service("api", 2), |service| service.name.clone()),
        policies: one(allow("web"), |policy| policy.name.clone()),
        ..Snapshot::default()
    }
}

fn one<T>(item: T, name: impl Fn(&T) -> ObjectName) -> Arc<BTreeMap<ObjectName, Arc<T>>> {
    Arc::new(BTreeMap::from([(name(&item), Arc::new(item))]))
}

fn pod(app: &str, last: u8) -> Workload {
    Workload {
        name: ObjectName::new("shop", format!("{app}-1")),
        service_account: ServiceAccount::new("shop", app),
        ips: vec![[10, 0, 0, last].into()],
        node: None,
        local: true,
        labels: Arc::new(BTreeMap::from([("app".to_owned(), app.to_owned())])),
        enrolled: true,
        netns: Some(format!("/run/netns/{app}-1").into()),
        ports: Vec::new(),
        owner: app.into(),
        ready: true,
        passage: weft_model::Passage::Done,
        terminating: false,
        created: u64::MAX,
    }
}

fn service(app: &str, last: u8) -> Service {
    let endpoint = Endpoint {
        address: ([10, 0, 0, last], 8080).into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        zone: None,
        hints: None,
        pod: Some(ObjectName::new("shop", format!("{app}-1"))),
    };
    let group = EndpointGroup {
        service: ObjectName::new("shop", app),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: vec![endpoint],
    };
    Service {
        name: ObjectName::new("shop", app),
        kind: ServiceKind::ClusterIp,
        ips: vec![[10, 96, 0, last].into()],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Tcp,
            app_protocol: None,
            routing: None,
            groups: vec![group],
        }],
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    }
}

fn allow(from: &str) -> AuthorizationPolicy {
    let sources = Some(vec![Source::ServiceAccount(ServiceAccount::new("shop", from))]);
    AuthorizationPolicy {
        name: ObjectName::new("shop", "api-read"),
        action: Action::Allow,
        mode: Mode::Enforce,
        target: PolicyTarget::Pods(Selector {
            labels: BTreeMap::from([("app".to_owned(), "api".to_owned())]),
            expressions: Vec::new(),
        }),
        rules: vec![Rule { sources, ports: Some(vec![8080.into()]), ..Rule::default() }],
    }
}

fn check(snapshot: &Snapshot, from: &str) -> AuthzAnswer {
    let query = AuthzQuery { from: from.into(), to: "shop/api".into(), port: 80, ..AuthzQuery::default() };
    authz(snapshot, &query, &|_, _, _| Ok(None)).unwrap()
}

use crate::api::AuthzAnswer;

#[test]
fn a_client_that_a_rule_names_is_let_in_by_that_rule() {
    let answer = check(&shop(), "shop/web");
    assert_eq!(answer.verdict, Verdict::Forwarded);
    assert_eq!(answer.rule.as_deref(), Some("shop/api-read rules[0]"));
    assert_eq!(answer.pods[0].pod, "shop/api-1");
    assert_eq!(answer.pods[0].client.as_deref(), Some("shop/web-1"));
    assert_eq!(answer.pods[0].port, 8080);
    assert_eq!(answer.note, None);
}

#[test]
fn a_request_is_judged_as_the_servers_proxy_would() {
    let mut snapshot = shop();
    let mut policy = allow("web");
    policy.rules[0].l7 = true;
    policy.rules[0].http = Some(HttpAttributes {
        methods: vec!["GET".into()],
        paths: vec![PathRule::Prefix("/items".into())],
        ..HttpAttributes::default()
    });
    snapshot.policies = Arc::new([(policy.name.clone(), Arc::new(policy))].into());
    let ask = |method: Option<&str>, path: Option<&str>| {
        let (method, path) = (method.map(str::to_owned), path.map(str::to_owned));
        let (from, to) = ("shop/web".to_owned(), "shop/api".to_owned());
        let answer = authz(
            &snapshot,
            &AuthzQuery { from, to, port: 80, method, path, ..AuthzQuery::default() },
            &|_, _, _| Ok(None),
        );
        let answer = answer.unwrap();
        (answer.verdict, answer.reason, answer.note.is_some())
    };
    let denied = |reason: &str| (Verdict::Denied, Some(reason.to_owned()), false);
    assert_eq!(ask(None, Some("/items/1?all")), (Verdict::Forwarded, None, false));
    assert_eq!(ask(Some("POST"), Some("/items")), denied("NotAllowed"));
    assert_eq!(ask(None, Some("/items/..%2fadmin")), denied("NotAllowed"));
    assert_eq!(ask(None, Some("/items%00")), denied("PathInvalid"));
    let (verdict, _, is_noted) = ask(None, None);
    assert_eq!((verdict, is_noted), (Verdict::Denied, true), "bytes, and that is said");
}

#[test]
fn a_client_without_pods_is_judged_as_one_on_the_servers_node_and_that_is_said() {
    let answer = check(&shop(), "shop/cart");
    assert_eq!(answer.verdict, Verdict::Denied);
    assert_eq!(answer.reason.as_deref(), Some("NotAllowed"));
    assert_eq!(answer.note.as_deref(), Some("no pod runs as shop/cart: judged as one on the server's node"));
}

#[test]
fn a_client_of_another_node_has_an_identity_that_nothing_proves() {
    let mut snapshot = shop();
    let workloads = Arc::get_mut(&mut snapshot.workloads).unwrap();
    let web = Arc::get_mut(workloads.get_mut(&ObjectName::new("shop", "web-1")).unwrap()).unwrap();
    (web.local, web.node) = (false, Some("n2".into()));
    let answer = check(&snapshot, "shop/web");
    assert_eq!((answer.verdict, answer.reason.as_deref()), (Verdict::Denied, Some("IdentityUnproven")));
}

#[test]
fn an_audit_policy_is_shown_and_does_not_decide() {
    let mut snapshot = shop();
    let mut policy = allow("cart");
    policy.mode = Mode::Audit;
    snapshot.policies = one(policy, |policy| policy.name.clone());
    let answer = check(&snapshot, "shop/web");
    assert_eq!((answer.verdict, answer.reason.as_deref()), (Verdict::Audit, Some("NotAllowed")));
}

#[test]
fn a_service_without_endpoints_refuses_everyone() {
    let mut snapshot = shop();
    let mut api = service("api", 2);
    api.ports[0].groups[0].endpoints.clear();
    snapshot.services = one(api, |service| service.name.clone());
    let answer = check(&snapshot, "shop/web");
    assert_eq!((answer.verdict, answer.reason.as_deref()), (Verdict::Denied, Some("NoEndpoints")));
}

#[test]
fn a_question_about_what_is_not_there_says_what_is() {
    let ask = |to: &str, port| {
        let query = AuthzQuery { from: "shop/web".into(), to: to.into(), port, ..AuthzQuery::default() };
        authz(&shop(), &query, &|_, _, _| Ok(None)).unwrap_err().to_string()
    };
    assert_eq!(ask("shop/api", 81), "Service shop/api has no port 81; its ports are 80");
    assert_eq!(ask("shop/db", 80), "there is no Service shop/db; see: weft get services");
    assert_eq!(ask("api", 80), "\"api\" is no Service; write NAMESPACE/NAME:PORT");
}

#[test]
fn an_endpoint_shows_whether_this_node_uses_it() {
    let mut snapshot = shop();
    let mut api = service("api", 2);
    let group = &mut api.ports[0].groups[0];
    let mut going = group.endpoints[0].clone();
    (going.ready, going.terminating) = (false, true);
    group.endpoints.push(going);
    snapshot.services = one(api, |service| service.name.clone());
    let states: Vec<_> = endpoints(&snapshot).iter().map(|e| (e.state, e.eligible)).collect();
    assert_eq!(states, [(EndpointState::Ready, true), (EndpointState::Serving, false)]);
    let port = &services(&snapshot)[0].ports[0];
    assert_eq!((port.eligible, port.endpoints), (1, 2));
}

#[test]
fn a_split_names_the_backend_and_a_share_of_zero_takes_nothing() {
    let mut snapshot = shop();
    let mut api = service("api", 2);
    let mut canary = api.ports[0].groups[0].clone();
    (canary.service, canary.weight) = (ObjectName::new("shop", "api-v2"), 0);
    api.ports[0].groups.push(canary);
    snapshot.services = one(api, |service| service.name.clone());
    let shown: Vec<_> = endpoints(&snapshot).into_iter().map(|e| (e.backend, e.weight, e.eligible)).collect();
    assert_eq!(shown, [(None, 1, true), (Some("shop/api-v2".to_owned()), 0, false)]);
    let port = &services(&snapshot)[0].ports[0];
    assert_eq!((port.eligible, port.endpoints), (1, 1));
}

#[test]
fn a_policy_names_its_target_its_rules_and_the_pods_it_protects() {
    let view = &policies(&shop())[0];
    assert_eq!((view.action.as_str(), view.mode.as_str()), ("ALLOW", "Enforce"));
    assert_eq!(view.target, "pods app=api");
    assert_eq!(view.pods, ["shop/api-1"]);
    assert_eq!(view.rules[0].sources.as_deref(), Some(["shop/web".to_owned()].as_slice()));
    assert_eq!(view.rules[0].ports.as_deref(), Some(["8080".to_owned()].as_slice()));
}

#[test]
fn a_selector_reads_as_kubectl_writes_it() {
    let expression = |key: &str, operator| Expression { key: key.into(), operator };
    let selector = Selector {
        labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
        expressions: vec![
            expression("tier", Operator::In(vec!["a".into(), "b".into()])),
            expression("env", Operator::NotIn(vec!["test".into()])),
            expression("beta", Operator::Exists),
            expression("canary", Operator::DoesNotExist),
        ],
    };
    assert_eq!(view_selector(&selector), "app=web,tier in (a,b),env notin (test),beta,!canary");
}
