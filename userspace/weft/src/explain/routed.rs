//! Which rule a request takes: the proxy's own engine is asked.

use std::{ops::ControlFlow, sync::Arc};

use http::{
    HeaderName, HeaderValue, Request,
    header::{HOST, LOCATION},
    request::Parts,
};
use weft_abi::Reason;
use weft_model::{
    BackendTarget, Filter, PathRewrite, PortRouting, Route, RouteKind, RouteName, RouteRule, RouteSet,
};
use weft_policy::path::Readings;
use weft_proxy::route::{
    Asked, PortRoutes, Routes,
    filters::Ended,
    path::normalise_uri,
    table::{CompiledRule, Table},
};
use weft_telemetry::{
    api::{ExplainQuery, ExplainedRule, Failure, NearMiss, OwnAnswer},
    views::AskedRequest,
};

use super::{
    Question,
    backends::{self, Share},
    nearest,
};

/// What the routes of a port say to a request.
#[derive(Default)]
pub(super) struct Found<'a> {
    pub(super) whose: Option<String>,
    pub(super) rule: Option<ExplainedRule>,
    pub(super) nearest: Vec<NearMiss>,
    pub(super) answer: Option<OwnAnswer>,
    pub(super) refused: Option<Reason>,
    /// `None` for plain Service behaviour.
    pub(super) backends: Option<Vec<Share<'a>>>,
    /// The rule's own settings.
    pub(super) handling: Option<&'a RouteRule>,
    /// The route that it takes.
    pub(super) taken: Option<RouteName>,
    /// The request, as its route sees it.
    pub(super) received: Option<AskedRequest>,
    /// The request, as it is forwarded.
    pub(super) asked: Option<AskedRequest>,
}

pub(super) fn find<'a>(question: &Question<'a>, routing: &'a PortRouting) -> Result<Found<'a>, Failure> {
    let namespace = &*question.client.name.namespace;
    let compiled = PortRoutes::compile(routing)
        .map_err(|error| Failure::new(error.to_string(), "the proxy keeps the routes it had; see its log"))?;
    let set = routing.routes_for(namespace);
    let whose = match set {
        RouteSet::None => None,
        _ if routing.consumers.contains_key(namespace) => {
            Some(format!("consumer routes of namespace {namespace}"))
        }
        _ => Some(format!("routes of namespace {}", question.service.name.namespace)),
    };
    let found = match (compiled.for_client(namespace), set) {
        (Routes::Http(table), RouteSet::Http(routes)) => {
            by_request(question, RouteKind::Http, table, routes)?
        }
        (Routes::Grpc(table), RouteSet::Grpc(routes)) => {
            by_request(question, RouteKind::Grpc, table, routes)?
        }
        (Routes::Tls(table), RouteSet::Tls(routes)) => {
            let found = table.find(question.query.server_name.as_deref());
            let route = found.and_then(|found| routes.iter().find(|route| Arc::ptr_eq(route, &found.route)));
            match route {
                None => Found { refused: Some(Reason::NO_TLS_ROUTE), ..Found::default() },
                Some(route) => Found {
                    rule: Some(ExplainedRule {
                        route: format!("TLSRoute {}", route.name),
                        index: 0,
                        name: None,
                        matched: hostnames(&route.hostnames),
                        filters: Vec::new(),
                        forwarded: None,
                    }),
                    backends: Some(backends::of_rule(question.snapshot, &route.backends)),
                    ..Found::default()
                },
            }
        }
        _ => {
            let asked = question.asked()?;
            Found { refused: asked.as_ref().err().copied(), asked: asked.ok(), ..Found::default() }
        }
    };
    Ok(Found { whose, ..found })
}

fn by_request<'a>(
    question: &Question<'a>,
    kind: RouteKind,
    table: &Table,
    routes: &'a [Arc<Route>],
) -> Result<Found<'a>, Failure> {
    let mut parts = head(question.query, question.service.name.to_string())?;
    if normalise_uri(&mut parts.uri).is_err() {
        return Ok(Found { refused: Some(Reason::PATH_INVALID), ..Found::default() });
    }
    let asked = Asked::of(&parts).map_err(|error| Failure::new(error.to_string(), "write another --path"))?;
    let Some(compiled) = table.find(&asked) else {
        let nearest = nearest::nearest(&kind.to_string(), routes, &asked);
        return Ok(Found { refused: Some(Reason::NO_RULE), nearest, ..Found::default() });
    };
    let route = routes.iter().find(|route| Arc::ptr_eq(route, &compiled.route));
    let rule = &route.expect("the table was compiled from these routes").rules[compiled.index];
    let matched = nearest::matched(rule, &asked);
    let received = read(&parts);
    let (answer, forwarded, parts) = after_filters(compiled, parts, question.port.port);
    let explained = ExplainedRule {
        route: format!("{kind} {}", compiled.route.name),
        index: compiled.index,
        name: rule.name.as_ref().map(ToString::to_string),
        matched,
        filters: rule.filters.iter().map(describe).collect(),
        forwarded,
    };
    let backends = Some(backends::of_rule(question.snapshot, &rule.backends));
    Ok(Found {
        rule: Some(explained),
        answer,
        backends,
        handling: Some(rule),
        taken: Some(RouteName { kind, name: compiled.route.name.clone() }),
        received,
        asked: read(&parts),
        ..Found::default()
    })
}

/// The answer of a filter, or what the request asks for after all of them where that is something else.
fn after_filters(
    rule: &CompiledRule,
    mut parts: Parts,
    port: u16,
) -> (Option<OwnAnswer>, Option<String>, Parts) {
    let before = asks(&parts);
    let (answer, forwarded) = match rule.filters.on_request(&mut parts, port) {
        ControlFlow::Break(Ended::Refused(reason)) => {
            let why = "a filter makes more of it than can be sent".to_owned();
            (Some(OwnAnswer { status: reason.status(), location: None, why }), None)
        }
        ControlFlow::Break(Ended::Answered(answer)) => {
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let why = if location.is_some() { "a filter redirects it" } else { "a filter answers it" };
            let status = Some(answer.status().as_u16());
            (Some(OwnAnswer { status, location: location.map(str::to_owned), why: why.to_owned() }), None)
        }
        ControlFlow::Continue(()) => {
            let after = asks(&parts);
            (None, (after != before).then_some(after))
        }
    };
    (answer, forwarded, parts)
}

/// A head whose path is normal, as policies read it.
pub(super) fn read(parts: &Parts) -> Option<AskedRequest> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = parts.uri.authority().map(ToString::to_string);
    Some(AskedRequest {
        method: parts.method.to_string(),
        path: Readings::of(parts.uri.path()).ok()?,
        host: host.or_else(|| parts.headers.get(HOST).map(text)),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
    })
}

/// The path, and the host where one is named.
fn asks(parts: &Parts) -> String {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    format!("{path} of {host}")
}

pub(super) fn head(query: &ExplainQuery, host: String) -> Result<Parts, Failure> {
    let wrong = |what: String, remedy: &str| Failure::new(what, remedy);
    if !query.path.starts_with('/') {
        return Err(wrong(format!("{:?} is no path", query.path), "begin it with a slash"));
    }
    let request = Request::builder().method(&*query.method).uri(&*query.path).body(());
    let request = request.map_err(|error| {
        wrong(
            format!("no request can ask for {} {}: {error}", query.method, query.path),
            "escape what is no path",
        )
    })?;
    let mut parts = request.into_parts().0;
    for line in query.headers.lines() {
        let header = || {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        };
        let (name, value) =
            header().ok_or_else(|| wrong(format!("{line:?} is no header"), "write 'NAME: VALUE'"))?;
        parts.headers.append(name, value);
    }
    if !parts.headers.contains_key(HOST) {
        // As the name is dialled from anywhere in the cluster.
        let name = host.split_once('/').map(|(namespace, name)| format!("{name}.{namespace}"));
        let value = HeaderValue::from_str(&name.unwrap_or(host)).expect("names of objects are ASCII");
        parts.headers.insert(HOST, value);
    }
    Ok(parts)
}

fn hostnames(names: &[Arc<str>]) -> String {
    if names.is_empty() {
        "any server name".to_owned()
    } else {
        format!("server name {}", names.join(" or "))
    }
}

fn describe(filter: &Filter) -> String {
    let path = |path: &PathRewrite| match path {
        PathRewrite::Full(path) => format!("path {path}"),
        PathRewrite::Prefix { matched, replacement } => {
            let shown = |text: &str| if text.is_empty() { "/".to_owned() } else { text.to_owned() };
            format!("prefix {} to {}", shown(matched), shown(replacement))
        }
    };
    match filter {
        Filter::RequestHeaders(_) => "RequestHeaderModifier".to_owned(),
        Filter::ResponseHeaders(_) => "ResponseHeaderModifier".to_owned(),
        Filter::Redirect(redirect) => format!("RequestRedirect {}", redirect.status),
        Filter::Rewrite(rewrite) => {
            let host = rewrite.hostname.iter().map(|name| format!("host {name}"));
            let parts: Vec<_> = host.chain(rewrite.path.iter().map(path)).collect();
            format!("URLRewrite {}", parts.join(", "))
        }
        Filter::Mirror(mirror) => {
            let to = match &mirror.target {
                BackendTarget::Service { name, port } => format!("{name}:{port}"),
                BackendTarget::Invalid { why } => format!("nowhere: {why}"),
            };
            let share = f64::from(mirror.share.numerator) * 100.0 / f64::from(mirror.share.denominator);
            format!("RequestMirror {share} % to {to}")
        }
        Filter::Cors(_) => "CORS".to_owned(),
    }
}
