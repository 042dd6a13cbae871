//! What became of the shop's routes.

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{
    BackendShare, Condition, ObjectName, ParentStatus, RouteKind, RouteName, RouteReason, RouteStatus,
    RuleSummary,
};

/// One that holds, one whose backend is missing, one that lost to another, one that cannot be read, and one
/// for server names.
pub(crate) fn all() -> BTreeMap<RouteName, Arc<RouteStatus>> {
    let canary = status(
        vec![parent("api", accepted(), resolved())],
        vec![
            rule(Some("canary"), 2, &[("shop/api-v1:80", 90), ("shop/api-v2:80", 10)]),
            rule(None, 0, &[("shop/api:80", 1)]),
        ],
    );
    let missing = Condition::bad(RouteReason::BackendNotFound, "there is no Service shop/gone");
    let dangling = status(
        vec![parent("web", accepted(), missing)],
        vec![rule(None, 1, &[("shop/gone:80", 1), ("stock/list:80", 3)])],
    );
    let lost =
        Condition::bad(RouteReason::Conflicted, "GRPCRoute shop/calls has port 80 of Service shop/api");
    let conflicted =
        status(vec![parent("api", lost, resolved())], vec![rule(None, 0, &[("shop/api:80", 1)])]);
    let unread = Condition::bad(
        RouteReason::UnsupportedValue,
        "spec.rules[0].matches[0].path.value: the expression is not closed",
    );
    let nothing = Condition::bad(RouteReason::BackendNotFound, "nothing of the route could be read");
    let broken = status(
        vec![ParentStatus { service: None, port: None, section: None, accepted: unread, resolved: nothing }],
        Vec::new(),
    );
    let names = RouteStatus {
        hostnames: vec!["db.example".into(), "*.db.example".into()],
        ..status(vec![parent("db", accepted(), resolved())], vec![rule(None, 0, &[("shop/db:5432", 1)])])
    };
    let all = [
        (RouteKind::Http, "canary", canary),
        (RouteKind::Http, "dangling", dangling),
        (RouteKind::Http, "late", conflicted),
        (RouteKind::Http, "unread", broken),
        (RouteKind::Tls, "names", names),
    ];
    let object = |name: &str| ObjectName::new("shop", name);
    all.into_iter()
        .map(|(kind, name, status)| (RouteName { kind, name: object(name) }, Arc::new(status)))
        .collect()
}

fn status(parents: Vec<ParentStatus>, rules: Vec<RuleSummary>) -> RouteStatus {
    RouteStatus { parents, hostnames: Vec::new(), rules }
}

fn parent(service: &str, accepted: Condition, resolved: Condition) -> ParentStatus {
    let service = Some(ObjectName::new("shop", service));
    ParentStatus { service, port: Some(80), section: None, accepted, resolved }
}

fn rule(name: Option<&str>, matches: usize, backends: &[(&str, u32)]) -> RuleSummary {
    let share = |(to, weight): &(&str, u32)| BackendShare { to: (*to).into(), weight: *weight };
    RuleSummary {
        name: name.map(Into::into),
        matches,
        filters: 0,
        backends: backends.iter().map(share).collect(),
    }
}

fn accepted() -> Condition {
    Condition::good(RouteReason::Accepted)
}

fn resolved() -> Condition {
    Condition::good(RouteReason::ResolvedRefs)
}
