//! What became of routes.

use weft_model::{BackendShare, Condition, ParentStatus, RouteName, RouteStatus, RuleSummary, Snapshot};

use crate::api::{BackendShareView, ConditionView, RouteParentView, RouteRuleView, RouteView};

/// All routes, by kind and name.
pub fn routes(snapshot: &Snapshot) -> Vec<RouteView> {
    snapshot.routes.iter().map(|(name, status)| view_route(name, status)).collect()
}

fn view_route(name: &RouteName, status: &RouteStatus) -> RouteView {
    RouteView {
        kind: name.kind.to_string(),
        namespace: name.name.namespace.to_string(),
        name: name.name.name.to_string(),
        hostnames: status.hostnames.iter().map(ToString::to_string).collect(),
        parents: status.parents.iter().map(view_parent).collect(),
        rules: status.rules.iter().map(view_rule).collect(),
    }
}

fn view_parent(parent: &ParentStatus) -> RouteParentView {
    RouteParentView {
        service: parent.service.as_ref().map(ToString::to_string),
        port: parent.port,
        section_name: parent.section.as_ref().map(ToString::to_string),
        accepted: view_condition(&parent.accepted),
        resolved_refs: view_condition(&parent.resolved),
    }
}

fn view_condition(condition: &Condition) -> ConditionView {
    ConditionView {
        status: condition.status,
        reason: condition.reason.to_string(),
        message: condition.message.clone(),
    }
}

fn view_rule(rule: &RuleSummary) -> RouteRuleView {
    let backend = |share: &BackendShare| BackendShareView { to: share.to.to_string(), weight: share.weight };
    RouteRuleView {
        name: rule.name.as_ref().map(ToString::to_string),
        matches: rule.matches,
        filters: rule.filters,
        backends: rule.backends.iter().map(backend).collect(),
    }
}
