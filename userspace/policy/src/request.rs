//! What a rule asks of a request, and whether the request is like that.
//!
//! A request that can be read in two ways fails closed: to allow it, every reading has to match; to deny it, one is enough.

use std::fmt;

use weft_model::{ClaimRule, HeaderRule, HttpAttributes, ProvenClaims, Rule, TokenRule};

use crate::path::Readings;

/// A request as policies see it.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path. That of a gRPC call is `/package.Service/Method`.
    pub path: &'a Readings,
    /// `:authority`, or the host that HTTP/1 asks for; a port may follow.
    pub host: Option<&'a str>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// What its token says, where tokens are verified: `None` where nobody looks, nothing in it where there is no token.
    pub claims: Option<&'a dyn Claims>,
}

/// The headers of a request.
pub trait Headers {
    /// Shows each line of this name, which is in lower case.
    fn each(&self, name: &str, line: &mut dyn FnMut(&[u8]));
}

/// What verified tokens of a request say.
pub trait Claims {
    /// Whether there is a token of this provider.
    fn is_of(&self, provider: &str) -> bool;

    /// Whether it has this claim (names with dots between them), as `value` or with it in a list.
    fn has(&self, provider: &str, claim: &str, value: &str) -> bool;
}

/// Names and values, the names in lower case.
impl Headers for Vec<(String, String)> {
    fn each(&self, name: &str, line: &mut dyn FnMut(&[u8])) {
        self.iter().filter(|(own, _)| own == name).for_each(|(_, value)| line(value.as_bytes()));
    }
}

impl Claims for ProvenClaims {
    fn is_of(&self, provider: &str) -> bool {
        Self::is_of(self, provider)
    }

    fn has(&self, provider: &str, claim: &str, value: &str) -> bool {
        Self::has(self, provider, claim, value)
    }
}

impl fmt::Debug for HttpRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, host, .. } = self;
        f.debug_struct("HttpRequest").field("method", method).field("path", path).field("host", host).finish()
    }
}

/// Whether `request` is what `rule` asks for, however it is read.
pub(crate) fn surely(rule: &Rule, request: Option<&HttpRequest<'_>>) -> bool {
    let Some(request) = request else { return !rule.l7 };
    let asks_nothing_known = rule.l7 && rule.http.is_none() && rule.token.is_none();
    !asks_nothing_known
        && rule.http.as_ref().is_none_or(|http| is_like(http, request, Reading::Every))
        && rule.token.as_ref().is_none_or(|token| request.claims.is_some_and(|claims| carries(token, claims)))
}

/// Whether `request` may be what `rule` asks for.
pub(crate) fn possibly(rule: &Rule, request: Option<&HttpRequest<'_>>) -> bool {
    let Some(request) = request else { return true };
    rule.http.as_ref().is_none_or(|http| is_like(http, request, Reading::Any))
        && rule.token.as_ref().is_none_or(|token| request.claims.is_none_or(|claims| carries(token, claims)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Every,
    Any,
}

/// Each list of the rule that is not empty has something that matches.
fn is_like(http: &HttpAttributes, request: &HttpRequest<'_>, reading: Reading) -> bool {
    let any = reading == Reading::Any;
    let method =
        |wanted: &str| wanted == request.method || (any && wanted.eq_ignore_ascii_case(request.method));
    let path = |wanted| {
        if any { request.path.may_match(wanted) } else { request.path.must_match(wanted) }
    };
    (http.methods.is_empty() || http.methods.iter().any(|wanted| method(wanted)))
        && (http.paths.is_empty() || http.paths.iter().any(path))
        && (http.hosts.is_empty() || http.hosts.iter().any(|wanted| is_host(wanted, request.host)))
        && (http.headers.is_empty() || http.headers.iter().any(|wanted| has(wanted, request, any)))
}

/// Hosts are compared without their ports, and without the dot of a name that is complete.
fn is_host(wanted: &str, host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    match wanted.strip_prefix('*') {
        None => wanted.eq_ignore_ascii_case(host),
        Some(end) => {
            let at = host.len().checked_sub(end.len()).filter(|at| *at > 0);
            at.is_some_and(|at| host.as_bytes()[at..].eq_ignore_ascii_case(end.as_bytes()))
        }
    }
}

/// One line says the value. Several lines, or one with commas, are a list to some servers: to deny, one of its members is
/// enough; to allow, there has to be nothing else.
fn has(wanted: &HeaderRule, request: &HttpRequest<'_>, any: bool) -> bool {
    let (mut lines, mut same, mut member) = (0, 0, false);
    request.headers.each(&wanted.name, &mut |line| {
        let is = |value: &[u8]| value.trim_ascii() == wanted.value.as_bytes();
        lines += 1;
        same += usize::from(is(line));
        member |= line.split(|byte| *byte == b',').any(is);
    });
    if any { same > 0 || member } else { lines == 1 && same == 1 }
}

fn carries(token: &TokenRule, claims: &dyn Claims) -> bool {
    let says =
        |claim: &ClaimRule| claim.values.iter().any(|value| claims.has(&token.provider, &claim.name, value));
    claims.is_of(&token.provider) && (token.claims.is_empty() || token.claims.iter().any(says))
}

#[cfg(test)]
mod tests;
