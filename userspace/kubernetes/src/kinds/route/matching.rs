//! `matches`: what a rule asks of a request.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;
use weft_model::{NameMatch, PathMatch, RouteMatch, ValueMatch};

use super::{Context, check};
use crate::{finding::Report, syntax};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::kinds) struct HttpMatch {
    path: Option<PathSpec>,
    #[serde(default)]
    headers: Vec<HeaderMatch>,
    #[serde(default)]
    query_params: Vec<HeaderMatch>,
    method: Option<Method>,
}

#[derive(Debug, Deserialize)]
struct PathSpec {
    r#type: Option<PathType>,
    value: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum PathType {
    Exact,
    PathPrefix,
    RegularExpression,
}

/// A header or a query parameter.
#[derive(Debug, Deserialize)]
pub(in crate::kinds) struct HeaderMatch {
    r#type: Option<ValueType>,
    name: String,
    value: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
enum ValueType {
    Exact,
    RegularExpression,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

const MAX_MATCHES: usize = 64;
const MAX_MATCHES_OF_A_ROUTE: usize = 128;
const MAX_VALUES: usize = 16;
const MAX_PATH: usize = 1024;
const MAX_HEADER_VALUE: usize = 4096;
const MAX_QUERY_VALUE: usize = 1024;

/// The matches of each rule are not too many, nor are those of all rules.
pub(in crate::kinds) fn paths_total(matches: impl Iterator<Item = usize>, report: &mut Report<'_>) {
    let mut total = 0;
    for (i, matches) in matches.enumerate() {
        check::at_most(matches, MAX_MATCHES, "matches", &format!("spec.rules[{i}].matches"), report);
        total += matches;
    }
    let most = MAX_MATCHES_OF_A_ROUTE;
    check::at_most(total, most, "matches in all rules together", "spec.rules", report);
}

impl HttpMatch {
    pub(in crate::kinds) fn check(&self, field: &str, context: &mut Context<'_, '_>) -> RouteMatch {
        let path = self.path.as_ref();
        let method = self.method.map(|method| method.name().into());
        RouteMatch {
            path: path.map_or_else(
                || PathMatch::Prefix("".into()),
                |path| path.check(&format!("{field}.path"), context.report),
            ),
            method,
            headers: headers(&self.headers, &format!("{field}.headers"), context),
            query: query(&self.query_params, &format!("{field}.queryParams"), context),
        }
    }
}

impl PathSpec {
    fn check(&self, field: &str, report: &mut Report<'_>) -> PathMatch {
        let value = self.value.as_deref().unwrap_or("/");
        let field = format!("{field}.value");
        if value.len() > MAX_PATH {
            let message = format!("{} characters; a path has at most {MAX_PATH}", value.len());
            report.error(&field, message, "write a shorter path");
        }
        let kind = self.r#type.unwrap_or(PathType::PathPrefix);
        if kind == PathType::RegularExpression {
            check::regex(value, &field, report);
            return PathMatch::Regex(value.into());
        }
        if let Err((message, remedy)) = syntax::route_path(value) {
            report.error(&field, message, remedy);
        }
        match kind {
            PathType::Exact => PathMatch::Exact(value.into()),
            _ => PathMatch::Prefix(value.strip_suffix('/').unwrap_or(value).into()),
        }
    }
}

/// Headers by lower-case name. Of two that differ in case only, the first counts.
pub(in crate::kinds) fn headers(
    headers: &[HeaderMatch],
    field: &str,
    context: &mut Context<'_, '_>,
) -> Vec<ValueMatch> {
    values(headers, MAX_HEADER_VALUE, field, str::to_ascii_lowercase, context)
}

fn query(parameters: &[HeaderMatch], field: &str, context: &mut Context<'_, '_>) -> Vec<ValueMatch> {
    values(parameters, MAX_QUERY_VALUE, field, str::to_owned, context)
}

fn values(
    matches: &[HeaderMatch],
    longest: usize,
    field: &str,
    fold: fn(&str) -> String,
    context: &mut Context<'_, '_>,
) -> Vec<ValueMatch> {
    check::at_most(matches.len(), MAX_VALUES, "entries", field, context.report);
    let (mut seen, mut checked) = (BTreeSet::new(), Vec::new());
    for (i, HeaderMatch { r#type, name, value }) in matches.iter().enumerate() {
        let field = format!("{field}[{i}]");
        check::header(name, &format!("{field}.name"), context.report);
        if value.is_empty() || value.len() > longest {
            let message = format!("{} characters; a value has 1 to {longest}", value.len());
            context.report.error(&format!("{field}.value"), message, "write a value of that length");
        }
        let value: Arc<str> = value.as_str().into();
        let value = if *r#type == Some(ValueType::RegularExpression) {
            check::regex(&value, &format!("{field}.value"), context.report);
            NameMatch::Regex(value)
        } else {
            NameMatch::Exact(value)
        };
        if matches[..i].iter().any(|other| other.name == *name) {
            let message = format!("{name} is there twice");
            context.report.error(&format!("{field}.name"), message, "name each once; all must match");
        }
        let name = fold(name);
        if seen.insert(name.clone()) {
            checked.push(ValueMatch { name: context.names.share(&name), value });
        } else {
            let message = format!("{name} stands above in another spelling, which counts");
            context.report.warning(&format!("{field}.name"), message, "remove it");
        }
    }
    checked
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}
