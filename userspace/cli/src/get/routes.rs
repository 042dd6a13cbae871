//! Routes, a line for each parent; what is wrong with them stands below, where a sentence has room.

use weft_telemetry::api::{ConditionView, RouteParentView, RouteRuleView, RouteView};

use super::bare;
use crate::table::{Column, Table};

/// A line for each parent of each route.
pub(crate) fn routes<'a>(list: impl Iterator<Item = &'a RouteView> + Clone) -> Table {
    let named = list.clone().any(|route| !route.hostnames.is_empty());
    let hostnames = named.then(|| Column::folding("HOSTNAMES"));
    let before = [Column::whole("NAMESPACE"), Column::whole("NAME"), Column::folding("PARENT")];
    let after = [Column::whole("ACCEPTED"), Column::whole("RESOLVED-REFS"), Column::folding("RULES")];
    let mut table = Table::new(before.into_iter().chain(hostnames).chain(after));
    for route in list {
        for parent in &route.parents {
            let before = [route.namespace.clone(), route.name.clone(), place(parent, &route.namespace)];
            let hostnames = named.then(|| route.hostnames.join(", "));
            let after = [
                condition(&parent.accepted),
                condition(&parent.resolved_refs),
                rules(&route.rules, &route.namespace),
            ];
            table.push(before.into_iter().chain(hostnames).chain(after).collect());
        }
    }
    table
}

/// What is wrong with them, below their table.
pub(crate) fn complaints<'a>(list: impl Iterator<Item = &'a RouteView>) -> String {
    let mut messages: Vec<_> = list.flat_map(messages).collect();
    messages.dedup();
    if messages.is_empty() { String::new() } else { format!("\n{}\n", messages.join("\n")) }
}

/// `api:80`, with its namespace where that is another than the route's.
pub(crate) fn place(parent: &RouteParentView, namespace: &str) -> String {
    let service = bare(parent.service.as_deref(), namespace);
    let port = parent.port.map(|port| format!(":{port}")).unwrap_or_default();
    let section = parent.section_name.as_ref().map(|name| format!("#{name}")).unwrap_or_default();
    format!("{service}{port}{section}")
}

/// `True`, else the Gateway API's reason why not.
pub(crate) fn condition(condition: &ConditionView) -> String {
    if condition.status { "True".to_owned() } else { condition.reason.clone() }
}

/// `2 matches -> api-v1:80 (90), api-v2:80 (10); -> api:80`.
pub(crate) fn rules(rules: &[RouteRuleView], namespace: &str) -> String {
    let rule = |rule: &RouteRuleView| {
        let matches = match rule.matches {
            0 => String::new(),
            1 => "1 match ".to_owned(),
            count => format!("{count} matches "),
        };
        let alone = rule.backends.len() == 1;
        let backends = rule.backends.iter().map(|backend| {
            let weight = if alone { String::new() } else { format!(" ({})", backend.weight) };
            format!("{}{weight}", bare(Some(&backend.to), namespace))
        });
        let backends: Vec<_> = backends.collect();
        let to = if backends.is_empty() { "nowhere".to_owned() } else { backends.join(", ") };
        let name = rule.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        format!("{name}{matches}-> {to}")
    };
    rules.iter().map(rule).collect::<Vec<_>>().join("; ")
}

/// `shop/web: Conflicted: HTTPRoute shop/old has port 80 of Service shop/web`.
fn messages(route: &RouteView) -> Vec<String> {
    let conditions = route.parents.iter().flat_map(|parent| [&parent.accepted, &parent.resolved_refs]);
    let wrong = conditions.filter(|condition| !condition.message.is_empty());
    wrong.map(|c| format!("{}/{}: {}: {}", route.namespace, route.name, c.reason, c.message)).collect()
}
