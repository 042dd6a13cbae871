//! The CORS filter.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use weft_model::{Cors, OriginPattern};

use super::{Context, check};
use crate::finding::Report;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CorsSpec {
    #[serde(default)]
    allow_origins: Vec<String>,
    #[serde(default)]
    allow_credentials: bool,
    #[serde(default)]
    allow_methods: Vec<String>,
    #[serde(default)]
    allow_headers: Vec<String>,
    #[serde(default)]
    expose_headers: Vec<String>,
    max_age: Option<i64>,
}

const MAX_ENTRIES: usize = 64;
const MAX_METHODS: usize = 9;
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const DEFAULT_MAX_AGE: i64 = 5;

impl CorsSpec {
    pub(super) fn check(&self, field: &str, context: &mut Context<'_, '_>) -> Cors {
        let report = &mut *context.report;
        let max_age = self.max_age.unwrap_or(DEFAULT_MAX_AGE);
        check::range(Some(max_age), &(1..=i64::from(i32::MAX)), &format!("{field}.maxAge"), report);
        let origins = format!("{field}.allowOrigins");
        check_list(&self.allow_origins, MAX_ENTRIES, true, &origins, report);
        let methods = format!("{field}.allowMethods");
        check_list(&self.allow_methods, MAX_METHODS, true, &methods, report);
        for (i, method) in self.allow_methods.iter().enumerate() {
            if method != "*" && !METHODS.contains(&method.as_str()) {
                let message = format!("\"{method}\" is no method");
                let remedy = format!("write one of {}, or *", METHODS.join(", "));
                report.error(&format!("{methods}[{i}]"), message, remedy);
            }
        }
        let headers = format!("{field}.allowHeaders");
        check_list(&self.allow_headers, MAX_ENTRIES, true, &headers, report);
        check_names(&self.allow_headers, &headers, report);
        let expose = format!("{field}.exposeHeaders");
        check_list(&self.expose_headers, MAX_ENTRIES, false, &expose, report);
        check_names(&self.expose_headers, &expose, report);
        let patterns = self.allow_origins.iter().enumerate();
        let patterns = patterns.filter_map(|(i, text)| origin(text, &format!("{origins}[{i}]"), report));
        Cors {
            origins: patterns.collect(),
            credentials: self.allow_credentials,
            methods: self.allow_methods.iter().map(|method| context.names.share(method)).collect(),
            headers: lower_case(&self.allow_headers, context),
            expose: lower_case(&self.expose_headers, context),
            max_age: Duration::from_secs(u64::try_from(max_age).unwrap_or_default()),
        }
    }
}

/// A set, in which `*` may stand for everything: then nothing else stands beside it.
fn check_list(list: &[String], most: usize, star_alone: bool, field: &str, report: &mut Report<'_>) {
    check::at_most(list.len(), most, "entries", field, report);
    for (i, entry) in list.iter().enumerate() {
        if list[..i].contains(entry) {
            report.error(
                &format!("{field}[{i}]"),
                format!("{entry} is there twice"),
                "remove one of the two",
            );
        }
    }
    if let Some(i) = list.iter().position(|entry| entry == "*").filter(|_| star_alone && list.len() > 1) {
        report.error(
            &format!("{field}[{i}]"),
            "* beside others: it allows them all",
            "keep * alone, or remove it",
        );
    }
}

fn check_names(list: &[String], field: &str, report: &mut Report<'_>) {
    for (i, name) in list.iter().enumerate() {
        check::header(name, &format!("{field}[{i}]"), report);
    }
}

fn lower_case(list: &[String], context: &mut Context<'_, '_>) -> Vec<Arc<str>> {
    list.iter().map(|name| context.names.share(&name.to_ascii_lowercase())).collect()
}

fn origin(text: &str, field: &str, report: &mut Report<'_>) -> Option<OriginPattern> {
    let pattern = parse_origin(text);
    if pattern.is_none() {
        let remedy = "write https://shop.example, https://*.example:8443 or *";
        report.error(field, format!("\"{text}\" is no origin"), remedy);
    }
    pattern
}

fn parse_origin(text: &str) -> Option<OriginPattern> {
    if text == "*" {
        return Some(OriginPattern::Any);
    }
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme))?;
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let number = |port: &str| {
        port.parse::<u16>().is_ok_and(|port| port != 0) && port.bytes().all(|b| b.is_ascii_digit())
    };
    if text.len() > 253 || port.is_some_and(|port| port != "*" && !number(port)) {
        return None;
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let suffix = match host.strip_prefix('*') {
        None if !host.split('.').all(label) => return None,
        None if port != Some("*") => return Some(OriginPattern::Exact(text.as_str().into())),
        None => return None,
        Some("") => "",
        Some(suffix) => suffix.strip_prefix('.').filter(|rest| rest.split('.').all(label)).map(|_| suffix)?,
    };
    Some(OriginPattern::Wildcard { scheme: scheme.into(), suffix: suffix.into(), port: port.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port_with_a_star_in_front_at_most() {
        let wildcard = |scheme: &str, suffix: &str, port: Option<&str>| OriginPattern::Wildcard {
            scheme: scheme.into(),
            suffix: suffix.into(),
            port: port.map(Into::into),
        };
        for (text, pattern) in [
            ("*", OriginPattern::Any),
            ("https://Shop.example", OriginPattern::Exact("https://shop.example".into())),
            ("http://localhost:8080", OriginPattern::Exact("http://localhost:8080".into())),
            ("https://*.example", wildcard("https", ".example", None)),
            ("https://*.example:8443", wildcard("https", ".example", Some("8443"))),
            ("http://*", wildcard("http", "", None)),
        ] {
            assert_eq!(parse_origin(text), Some(pattern), "{text}");
        }
        for bad in [
            "",
            "shop.example",
            "ftp://shop.example",
            "https://",
            "https://a.*.example",
            "https://*example",
            "https://shop.example/",
            "https://shop.example:0",
            "https://shop.example:70000",
            "https://a..b",
            "https://shop.example:",
            "https://user@shop.example",
            "https://shop.example:*",
        ] {
            assert_eq!(parse_origin(bad), None, "{bad}");
        }
    }
}
