//! What a rule asks for, in words, and what of that a request has not.

use std::sync::Arc;

use weft_model::{NameMatch, ObjectName, PathMatch, Route, RouteMatch, RouteRule, Timeouts, ValueMatch};
use weft_proxy::route::{Asked, table::Table};
use weft_telemetry::api::NearMiss;

/// The first match of `rule` that holds for the request, in words.
pub(super) fn matched(rule: &RouteRule, asked: &Asked<'_>) -> String {
    let found = rule.matches.iter().find(|wanted| holds((*wanted).clone(), asked));
    found.map(describe).unwrap_or_default()
}

/// The rules that miss least, the one that comes nearest first.
pub(super) fn nearest(kind: &str, routes: &[Arc<Route>], asked: &Asked<'_>) -> Vec<NearMiss> {
    let mut all = Vec::new();
    for route in routes {
        for (index, rule) in route.rules.iter().enumerate() {
            all.extend(rule.matches.iter().map(|wanted| NearMiss {
                route: format!("{kind} {}", route.name),
                index,
                wanted: describe(wanted),
                missing: missing(wanted, asked),
            }));
        }
    }
    all.sort_by_key(|miss| miss.missing.len()); // stable: the routes' order decides between equals
    all.truncate(SHOWN);
    all
}

/// Each part is asked alone, and of the engine itself.
fn missing(wanted: &RouteMatch, asked: &Asked<'_>) -> Vec<String> {
    let mut missing = Vec::new();
    if !holds(RouteMatch { path: wanted.path.clone(), ..RouteMatch::any() }, asked) {
        missing.push(format!("{}: it asks for {}", describe_path(&wanted.path), asked.path));
    }
    if let Some(method) = &wanted.method
        && !holds(RouteMatch { method: Some(Arc::clone(method)), ..RouteMatch::any() }, asked)
    {
        missing.push(format!("method {method}: its method is {}", asked.method));
    }
    for header in &wanted.headers {
        if !holds(RouteMatch { headers: vec![header.clone()], ..RouteMatch::any() }, asked) {
            let has = asked.headers.get(&*header.name).map(|value| String::from_utf8_lossy(value.as_bytes()));
            let has = has.map_or_else(|| "it has none".to_owned(), |value| format!("it has {value}"));
            missing.push(format!("header {}: {has}", describe_value(header)));
        }
    }
    for query in &wanted.query {
        if !holds(RouteMatch { query: vec![query.clone()], ..RouteMatch::any() }, asked) {
            let has = asked.query_value(&query.name).map(String::from_utf8_lossy);
            let has = has.map_or_else(|| "it has none".to_owned(), |value| format!("it has {value}"));
            missing.push(format!("query {}: {has}", describe_value(query)));
        }
    }
    missing
}

fn holds(wanted: RouteMatch, asked: &Asked<'_>) -> bool {
    let rule = RouteRule {
        name: None,
        matches: vec![wanted],
        filters: Vec::new(),
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        traffic: Arc::default(),
    };
    let route = Arc::new(Route { name: ObjectName::new("", "alone"), rules: vec![rule] });
    Table::compile(&[route]).is_ok_and(|table| table.find(asked).is_some())
}

/// `path below /v1, method GET, header version = 2`.
fn describe(wanted: &RouteMatch) -> String {
    let path = describe_path(&wanted.path);
    let method = wanted.method.iter().map(|method| format!("method {method}"));
    let headers = wanted.headers.iter().map(|header| format!("header {}", describe_value(header)));
    let query = wanted.query.iter().map(|query| format!("query {}", describe_value(query)));
    std::iter::once(path).chain(method).chain(headers).chain(query).collect::<Vec<_>>().join(", ")
}

fn describe_path(path: &PathMatch) -> String {
    let name = |name: &Option<NameMatch>| match name {
        None => "*".to_owned(),
        Some(NameMatch::Exact(name)) => name.to_string(),
        Some(NameMatch::Regex(pattern)) => format!("~{pattern}"),
    };
    match path {
        PathMatch::Exact(path) => format!("path {path}"),
        PathMatch::Prefix(path) if path.is_empty() => "any path".to_owned(),
        PathMatch::Prefix(path) => format!("path below {path}"),
        PathMatch::Regex(pattern) => format!("path ~ {pattern}"),
        PathMatch::Grpc { service: None, method: None } => "any gRPC call".to_owned(),
        PathMatch::Grpc { service, method } => format!("gRPC call {}/{}", name(service), name(method)),
    }
}

fn describe_value(wanted: &ValueMatch) -> String {
    match &wanted.value {
        NameMatch::Exact(value) => format!("{} = {value}", wanted.name),
        NameMatch::Regex(pattern) => format!("{} ~ {pattern}", wanted.name),
    }
}

/// Rules that are shown.
const SHOWN: usize = 3;
