//! What a rule asks of a request: `httpAttributes` and `jwt`.

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{ClaimRule, HeaderRule, HttpAttributes as Attributes, PathRule, TokenRule};
use weft_policy::path;

use super::super::{check, schema};
use crate::{finding::Report, object::Names, syntax};

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct HttpAttributes {
    /// One of them has to be the method.
    #[serde(default)]
    #[schemars(with = "Vec<schema::Method>", length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    methods: Vec<String>,
    /// One of them has to match the path. That of gRPC is /package.Service/Method.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    paths: Vec<PathMatch>,
    /// One of them has to be the host, whatever the port. *.example.com is all below example.com.
    #[serde(default)]
    #[schemars(with = "Vec<schema::Host>", length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    hosts: Vec<String>,
    /// All of them have to be there.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    headers: Vec<HeaderMatch>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct PathMatch {
    /// Exact is this path alone, `PathPrefix` everything below it, too, element by element.
    r#type: PathType,
    /// A normalised path, like /reviews.
    #[schemars(with = "schema::Path")]
    value: String,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum PathType {
    Exact,
    PathPrefix,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct HeaderMatch {
    /// The header's name, in whatever case.
    #[schemars(with = "schema::HeaderName")]
    name: String,
    /// Its exact value. For a rule of DENY it is enough that it is in a list.
    #[schemars(with = "schema::HeaderValue")]
    value: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Jwt {
    /// A provider of an AuthenticationPolicy that is for the same workload.
    #[schemars(length(min = 1, max = 253))]
    provider: String,
    /// All of them have to be in the token.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    claims: Vec<Claim>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["name", "values"]))]
struct Claim {
    /// The claim, below others with dots, like realm.roles.
    #[schemars(with = "schema::Claim")]
    name: String,
    /// One of them has to be the claim, or in its list.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64), inner(length(max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
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
}

/// An address, a name, or a name behind `*.`.
fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bracketed.is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
        || syntax::dns_subdomain(name).is_ok()
}
