//! `jwt`: whose tokens are taken, and where their keys are.

use std::{collections::HashSet, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{Jwks, JwksSource, JwtProvider, ObjectName, TokenHeader};

use super::super::{check, schema};
use crate::{finding::Report, object::Names, syntax};

/// Who signs tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Jwt {
    /// How rules of AuthorizationPolicies call the provider.
    #[schemars(length(min = 1, max = 253))]
    name: String,
    /// The iss claim of its tokens.
    #[schemars(length(min = 1, max = 2048))]
    issuer: String,
    /// One of them has to be in a token's aud claim. Absent or empty: a token for anybody is believed.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    audiences: Vec<String>,
    /// Where the keys are that verify its tokens. Exactly one of the three.
    jwks: JwksSpec,
    /// Headers that carry tokens. Absent or empty: Authorization, after "Bearer ".
    #[serde(default)]
    #[schemars(length(max = 16), extend(
        "x-kubernetes-list-type" = "atomic",
        "x-kubernetes-validations" = [schema::rule(
            "self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii() \
             && (has(o.prefix) ? o.prefix : '') == (has(h.prefix) ? h.prefix : '')))",
            "the same header and prefix twice: remove one of the two",
        )],
    ))]
    from_headers: Vec<FromHeader>,
    /// Whether the app receives the token. By default it is taken away.
    #[serde(default)]
    forward_original_token: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule(
    "[has(self.uri), has(self.inline), has(self.backendRef)].filter(there, there).size() == 1",
    "exactly one of uri, inline and backendRef says where the keys are: keep one of the three",
)]))]
struct JwksSpec {
    /// An http or https URL of a JSON Web Key Set. It is fetched every five minutes.
    #[schemars(with = "Option<schema::JwksUri>")]
    uri: Option<String>,
    /// The JSON Web Key Set itself, as JSON.
    #[schemars(length(min = 1, max = 65536))]
    inline: Option<String>,
    /// A Service of the mesh that has the keys.
    backend_ref: Option<BackendRef>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["name", "port"], "x-kubernetes-validations" = [schema::rule(
    "self.?group.orValue('') == '' && self.?kind.orValue('Service') == 'Service'",
    "only a Service has keys: write kind: Service, with group \"\" or none",
)]))]
struct BackendRef {
    /// "", or absent.
    #[schemars(length(max = 253))]
    group: Option<String>,
    /// Service, or absent.
    #[schemars(length(max = 63))]
    kind: Option<String>,
    /// The policy's own namespace, or absent.
    #[schemars(with = "Option<schema::ServiceName>")]
    namespace: Option<String>,
    /// The Service's name.
    #[schemars(with = "schema::ServiceName")]
    name: String,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    port: Option<i64>,
    /// Where the Service has its keys. Absent: /.well-known/jwks.json.
    #[schemars(with = "Option<schema::JwksPath>")]
    path: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".name",
    "!(self.name.lowerAscii() in ['connection', 'content-length', 'content-type', 'expect', 'host', 'te', \
     'transfer-encoding', 'upgrade'])",
    "the header holds the message together and carries no token: name another header",
)]))]
struct FromHeader {
    /// The header's name, in whatever case.
    #[schemars(with = "schema::HeaderName")]
    name: String,
    /// What stands before the token. Absent: "Bearer " for Authorization, nothing for other headers.
    #[schemars(with = "Option<schema::HeaderPrefix>")]
    prefix: Option<String>,
}

const MAX_PROVIDERS: usize = 16;
const MAX_AUDIENCES: usize = 32;
const MAX_HEADERS: usize = 16;
const LONGEST_URI: usize = 2048;
const LONGEST_PREFIX: usize = 64;
/// Where keys are at a Service that does not say it.
const WELL_KNOWN: &str = "/.well-known/jwks.json";
/// What holds a message together; a header that carried a token would be taken away with it.
const FRAMING: [&str; 8] =
    ["connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding", "upgrade"];

impl Jwt {
    /// The providers of a policy in `namespace`.
    pub(super) fn check_all(
        all: &[Self],
        namespace: &Arc<str>,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Arc<[JwtProvider]> {
        check::at_most(all.len(), MAX_PROVIDERS, "providers", "spec.jwt", report);
        let mut seen = HashSet::new();
        for (i, jwt) in all.iter().enumerate() {
            if !seen.insert(&jwt.name) {
                let message = format!("two providers are named {}", jwt.name);
                report.error(&format!("spec.jwt[{i}].name"), message, "rename one");
            }
        }
        let providers = all.iter().enumerate();
        providers
            .filter_map(|(i, jwt)| jwt.check(&format!("spec.jwt[{i}]"), namespace, names, report))
            .collect()
    }

    fn check(
        &self,
        field: &str,
        namespace: &Arc<str>,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Option<JwtProvider> {
        if self.name.is_empty() {
            report.error(&format!("{field}.name"), "is empty", "write a name for rules to call it by");
        }
        if self.issuer.is_empty() {
            report.error(&format!("{field}.issuer"), "is empty", "write the token's iss claim");
        }
        check::at_most(
            self.audiences.len(),
            MAX_AUDIENCES,
            "audiences",
            &format!("{field}.audiences"),
            report,
        );
        for i in self.audiences.iter().enumerate().filter(|(_, audience)| audience.is_empty()).map(|(i, _)| i)
        {
            report.error(
                &format!("{field}.audiences[{i}]"),
                "is empty",
                "write one of the token's aud claim",
            );
        }
        let headers = FromHeader::check_all(&self.from_headers, &format!("{field}.fromHeaders"), report);
        let keys = self.jwks.check(&format!("{field}.jwks"), namespace, names, report)?;
        Some(JwtProvider {
            name: names.share(&self.name),
            issuer: names.share(&self.issuer),
            audiences: self.audiences.iter().map(|audience| names.share(audience)).collect(),
            keys,
            headers,
            forward: self.forward_original_token,
        })
    }
}

impl JwksSpec {
    fn check(
        &self,
        field: &str,
        namespace: &Arc<str>,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Option<JwksSource> {
        match (&self.uri, &self.inline, &self.backend_ref) {
            (Some(uri), None, None) => {
                if let Err(why) = is_url(uri) {
                    let remedy = "write it like https://idp.example/jwks";
                    report.error(&format!("{field}.uri"), format!("\"{uri}\" {why}"), remedy);
                }
                Some(JwksSource::Uri(names.share(uri)))
            }
            (None, Some(text), None) => inline(text, &format!("{field}.inline"), report),
            (None, None, Some(backend)) => {
                backend.check(&format!("{field}.backendRef"), namespace, names, report)
            }
            _ => {
                let message = "exactly one of uri, inline and backendRef says where the keys are";
                report.error(field, message, "keep one of the three");
                None
            }
        }
    }
}

fn inline(text: &str, field: &str, report: &mut Report<'_>) -> Option<JwksSource> {
    match Jwks::parse(text.as_bytes()) {
        Ok((jwks, skipped)) => {
            for key in skipped {
                report.warning(field, key.to_string(), "tokens that are signed with it are refused");
            }
            Some(JwksSource::Inline(jwks.into()))
        }
        Err(error) => {
            report.error(field, error.to_string(), "paste the provider's JWKS document");
            None
        }
    }
}

impl BackendRef {
    fn check(
        &self,
        field: &str,
        namespace: &Arc<str>,
        names: &mut Names,
        report: &mut Report<'_>,
    ) -> Option<JwksSource> {
        let (group, kind) = (self.group.as_deref().unwrap_or(""), self.kind.as_deref().unwrap_or("Service"));
        if (group, kind) != ("", "Service") {
            let message = format!("a {kind} of group \"{group}\" has no keys");
            report.error(field, message, "write kind: Service, with group \"\" or none");
        }
        if let Some(other) = self.namespace.as_deref().filter(|other| **other != **namespace) {
            let message = format!("{other} is another namespace than the policy's");
            report.error(
                &format!("{field}.namespace"),
                message,
                "name a Service beside the policy, or use uri",
            );
        }
        if let Err(why) = syntax::dns_label(&self.name) {
            report.error(&format!("{field}.name"), format!("\"{}\" {why}", self.name), "name a Service");
        }
        let path = self.path.as_deref().unwrap_or(WELL_KNOWN);
        let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if !is_path || path.len() > LONGEST_URI {
            report.error(&format!("{field}.path"), format!("\"{path}\" is no path"), "begin with '/'");
        }
        let Some(port) = self.port else {
            let remedy = "add port: <the Service's port>";
            report.error(&format!("{field}.port"), "a Service needs a port", remedy);
            return None;
        };
        let port = check::port(port, &format!("{field}.port"), report)?;
        let name = ObjectName::new(Arc::clone(namespace), names.share(&self.name));
        Some(JwksSource::Service { name, port, path: path.into() })
    }
}

impl FromHeader {
    fn check_all(all: &[Self], field: &str, report: &mut Report<'_>) -> Vec<TokenHeader> {
        check::at_most(all.len(), MAX_HEADERS, "headers", field, report);
        if all.is_empty() {
            return vec![TokenHeader::default()];
        }
        let mut headers = Vec::new();
        for (i, header) in all.iter().enumerate() {
            let (field, header) = (format!("{field}[{i}]"), header.check(&format!("{field}[{i}]"), report));
            if headers.contains(&header) {
                report.error(&field, "is there twice", "remove one of the two");
            }
            headers.push(header);
        }
        headers
    }

    fn check(&self, field: &str, report: &mut Report<'_>) -> TokenHeader {
        let name = self.name.to_ascii_lowercase();
        check::header(&self.name, &format!("{field}.name"), report);
        if FRAMING.contains(&name.as_str()) {
            let message = format!("{name} holds the message together and carries no token");
            report.error(&format!("{field}.name"), message, "name another header");
        }
        let usual = TokenHeader::default();
        // Whoever names the usual header means the usual tokens in it, not all that it may carry.
        let prefix = if name == *usual.name {
            self.prefix.as_deref().or(Some(&*usual.prefix))
        } else {
            self.prefix.as_deref()
        };
        let prefix = prefix.unwrap_or_default();
        let is_text = prefix.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !is_text || prefix.len() > LONGEST_PREFIX {
            let message = format!("{prefix:?} stands before no token");
            report.error(
                &format!("{field}.prefix"),
                message,
                "write up to 64 printable characters, like \"Bearer \"",
            );
        }
        TokenHeader { name: name.into(), prefix: prefix.into() }
    }
}

/// Whether keys can be fetched from there: who reads it later reads no more than this.
fn is_url(text: &str) -> Result<(), &'static str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority =
        rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default()).unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.is_empty() || text.len() > LONGEST_URI || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("is no http or https URL with a host");
    }
    if authority.contains('@') || text.contains('#') {
        return Err("has a user or a fragment, which no server of keys is asked with");
    }
    let is_ip = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match is_ip {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => syntax::dns_subdomain(&host.to_ascii_lowercase()).is_ok(),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if is_host && is_port {
        Ok(())
    } else {
        Err("has no host's name or address, or no port, where one should be")
    }
}
