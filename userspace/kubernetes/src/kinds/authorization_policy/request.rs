//! What a rule asks of a request: `httpAttributes` and `jwt`.

use serde::Deserialize;
use weft_model::{ClaimRule, HeaderRule, HttpAttributes as Attributes, PathRule, TokenRule};
use weft_policy::path;

use super::super::check;
use crate::{finding::Report, object::Names, syntax};

#[derive(Debug, Deserialize)]
pub(super) struct HttpAttributes {
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<PathMatch>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    headers: Vec<HeaderMatch>,
}

#[derive(Debug, Deserialize)]
struct PathMatch {
    r#type: PathType,
    value: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum PathType {
    Exact,
    PathPrefix,
}

#[derive(Debug, Deserialize)]
struct HeaderMatch {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Jwt {
    provider: String,
    #[serde(default)]
    claims: Vec<Claim>,
}

#[derive(Debug, Deserialize)]
struct Claim {
    name: String,
    #[serde(default)]
    values: Vec<String>,
}

impl HttpAttributes {
    pub(super) fn is_empty(&self) -> bool {
        self.methods.is_empty() && self.paths.is_empty() && self.hosts.is_empty() && self.headers.is_empty()
    }

    pub(super) fn check(&self, field: &str, names: &mut Names, report: &mut Report<'_>) -> Attributes {
        for (i, method) in self.methods.iter().enumerate() {
            if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                let message = format!("\"{method}\" is no HTTP method");
                report.error(&format!("{field}.methods[{i}]"), message, "write it in capitals, like GET");
            }
        }
        for (i, path) in self.paths.iter().enumerate() {
            if !path::is_plain(&path.value) {
                let message = format!("\"{}\" is no normalised path", path.value);
                let remedy =
                    "begin with '/', without //, /./, /../, '?', '#', ';' and what stands for a slash or a %";
                report.error(&format!("{field}.paths[{i}].value"), message, remedy);
            }
        }
        for (i, host) in self.hosts.iter().enumerate() {
            if !is_host(host) {
                let message = format!("\"{host}\" is no host");
                let remedy = "write a name or an address in lower case, without a port; *. at the beginning is any name";
                report.error(&format!("{field}.hosts[{i}]"), message, remedy);
            }
        }
        for (i, header) in self.headers.iter().enumerate() {
            check::header(&header.name, &format!("{field}.headers[{i}].name"), report);
            let value = header.value.trim();
            if value != header.value || value.contains(|c: char| c.is_control() || c == ',') {
                let message = format!("\"{}\" is no single value of a header", header.value);
                let remedy = "write it without commas, control characters and blanks at its ends";
                report.error(&format!("{field}.headers[{i}].value"), message, remedy);
            }
        }
        let path = |path: &PathMatch, names: &mut Names| match path.r#type {
            PathType::Exact => PathRule::Exact(names.share(&path.value)),
            PathType::PathPrefix => PathRule::Prefix(names.share(&path.value)),
        };
        Attributes {
            methods: self.methods.iter().map(|method| names.share(method)).collect(),
            paths: self.paths.iter().map(|named| path(named, names)).collect(),
            hosts: self.hosts.iter().map(|host| names.share(host)).collect(),
            headers: self
                .headers
                .iter()
                .map(|header| HeaderRule {
                    name: names.share(&header.name.to_ascii_lowercase()),
                    value: names.share(&header.value),
                })
                .collect(),
        }
    }
}

impl Jwt {
    pub(super) fn check(&self, field: &str, names: &mut Names, report: &mut Report<'_>) -> TokenRule {
        if self.provider.is_empty() {
            let remedy = "name a provider of an AuthenticationPolicy";
            report.error(&format!("{field}.provider"), "is empty", remedy);
        }
        for (i, claim) in self.claims.iter().enumerate() {
            let field = format!("{field}.claims[{i}]");
            if claim.name.is_empty() || claim.name.split('.').any(str::is_empty) {
                report.error(
                    &format!("{field}.name"),
                    format!("\"{}\" is no claim", claim.name),
                    "write it like realm.roles",
                );
            }
            if claim.values.is_empty() {
                report.error(
                    &format!("{field}.values"),
                    "no value is named, so nothing could match",
                    "add values",
                );
            }
        }
        let claim = |claim: &Claim, names: &mut Names| ClaimRule {
            name: names.share(&claim.name),
            values: claim.values.iter().map(|value| names.share(value)).collect(),
        };
        TokenRule {
            provider: names.share(&self.provider),
            claims: self.claims.iter().map(|one| claim(one, names)).collect(),
        }
    }

    /// Nobody verifies tokens yet.
    pub(super) fn warn(allows: bool, field: &str, report: &mut Report<'_>) {
        let (message, remedy) = if allows {
            (
                "tokens are not verified yet: this rule allows nothing",
                "allow by sources and httpAttributes meanwhile",
            )
        } else {
            (
                "tokens are not verified yet: the rule's other parts alone deny",
                "deny by sources and httpAttributes meanwhile",
            )
        };
        report.warning(field, message, remedy);
    }
}

/// An address, a name, or a name behind `*.`.
fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bracketed.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
        || syntax::dns_subdomain(name).is_ok()
}
