//! `CORS`: the Fetch standard's protocol, answered here instead of by the backend.
//!
//! Where the Gateway API leaves a choice: a preflight is answered with 204 whatever its origin, without CORS headers if
//! that one may not ask; `*` is answered as `*` where credentials are off, but requested headers are always echoed,
//! because `*` does not cover `Authorization`. The filter speaks for the backend: what that says of CORS is taken away.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, CONTENT_LANGUAGE,
        CONTENT_LENGTH, CONTENT_TYPE, EXPIRES, LAST_MODIFIED, ORIGIN, PRAGMA, SET_COOKIE, VARY,
    },
    request,
};
use weft_model::OriginPattern;

use super::{FilterError, bare, headers};
use crate::route::asked::joined;

/// The policy of a rule.
#[derive(Clone, Debug)]
pub(super) struct Cors {
    origins: Vec<OriginPattern>,
    credentials: bool,
    methods: Listed,
    headers: Listed,
    expose: Listed,
    max_age: HeaderValue,
}

/// A list as the answer shows it.
#[derive(Clone, Debug)]
enum Listed {
    Nothing,
    Any,
    Names(HeaderValue),
}

impl Cors {
    pub(super) fn compile(cors: &weft_model::Cors) -> Result<Self, FilterError> {
        Ok(Self {
            origins: cors.origins.clone(),
            credentials: cors.credentials,
            methods: Listed::compile(&cors.methods)?,
            headers: Listed::compile(&cors.headers)?,
            expose: Listed::compile(&cors.expose)?,
            max_age: HeaderValue::from(Duration::as_secs(&cors.max_age)),
        })
    }

    /// The answer to a preflight; `None` if the request is none.
    pub(super) fn preflight(&self, parts: &request::Parts) -> Option<Response<()>> {
        let origin = parts.headers.get(ORIGIN)?;
        let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        if parts.method != Method::OPTIONS {
            return None;
        }
        let mut answer = bare(StatusCode::NO_CONTENT);
        let to = answer.headers_mut();
        self.allow_origin(to, Some(origin));
        if !to.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            return Some(answer);
        }
        let methods = match &self.methods {
            Listed::Any if self.credentials => Some(method.clone()),
            listed => listed.shown(),
        };
        let asked = joined(&parts.headers, &ACCESS_CONTROL_REQUEST_HEADERS);
        let headers = match (&self.headers, asked) {
            (Listed::Any, Some(asked)) => {
                vary(to, "access-control-request-headers");
                HeaderValue::from_bytes(&asked).ok()
            }
            (Listed::Any, None) if self.credentials => None,
            (listed, _) => listed.shown(),
        };
        if matches!(self.methods, Listed::Any) && self.credentials {
            vary(to, "access-control-request-method");
        }
        let lists = [(ACCESS_CONTROL_ALLOW_METHODS, methods), (ACCESS_CONTROL_ALLOW_HEADERS, headers)];
        to.extend(lists.into_iter().filter_map(|(name, value)| Some((name, value?))));
        to.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(answer)
    }

    /// What an answer of the backend says to scripts of `origin`.
    pub(super) fn on_response(&self, to: &mut HeaderMap, origin: Option<&HeaderValue>) {
        for header in
            [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS]
        {
            to.remove(header);
        }
        let exposed = match &self.expose {
            // `*` would be the name of a header here: name what there is.
            Listed::Any if self.credentials => named(to),
            listed => listed.shown(),
        };
        self.allow_origin(to, origin);
        if to.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            to.extend(exposed.map(|exposed| (ACCESS_CONTROL_EXPOSE_HEADERS, exposed)));
        }
    }

    /// Allows `origin` if it may ask. Every answer that would be another one for another origin says so to caches.
    fn allow_origin(&self, to: &mut HeaderMap, origin: Option<&HeaderValue>) {
        let any = self.origins.contains(&OriginPattern::Any);
        if !any || self.credentials {
            vary(to, "origin");
        }
        let Some(origin) = origin.filter(|origin| any || self.lists(origin)) else { return };
        let shown = if any && !self.credentials { HeaderValue::from_static("*") } else { origin.clone() };
        to.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
        if self.credentials {
            to.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn lists(&self, origin: &HeaderValue) -> bool {
        let Some(asked) = origin.to_str().ok().and_then(Origin::parse) else { return false };
        self.origins.iter().any(|pattern| asked.is(pattern))
    }
}

impl Listed {
    fn compile(names: &[Arc<str>]) -> Result<Self, FilterError> {
        if names.is_empty() {
            return Ok(Self::Nothing);
        }
        if names.iter().any(|name| &**name == "*") {
            return Ok(Self::Any);
        }
        let names = names.join(", ").into();
        headers::compile_pair(&"access-control-allow-headers".into(), &names)
            .map(|(_, value)| Self::Names(value))
    }

    fn shown(&self) -> Option<HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Names(names) => Some(names.clone()),
        }
    }
}

/// An origin in its parts; the port is the scheme's where none is named.
#[derive(PartialEq)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: &'a str,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if rest.contains(['/', '?', '#', '@', '\\']) {
            return None; // no browser's origin, and a `*` must not run over a host's end
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (rest, default_port(scheme)),
        };
        Some(Self { scheme, host, port })
    }

    fn is(&self, pattern: &OriginPattern) -> bool {
        match pattern {
            OriginPattern::Any => true,
            OriginPattern::Exact(exact) => Origin::parse(exact).is_some_and(|exact| {
                self.scheme.eq_ignore_ascii_case(exact.scheme)
                    && self.host.eq_ignore_ascii_case(exact.host)
                    && self.port == exact.port
            }),
            OriginPattern::Wildcard { scheme, suffix, port } => {
                let wanted = port.as_deref().unwrap_or_else(|| default_port(scheme));
                self.scheme.eq_ignore_ascii_case(scheme)
                    && (wanted == "*" || wanted == self.port)
                    && self.host.len() > suffix.len()
                    && self.host.as_bytes()[self.host.len() - suffix.len()..]
                        .eq_ignore_ascii_case(suffix.as_bytes())
            }
        }
    }
}

fn default_port(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" }
}

/// Adds `name` to `Vary`, once.
fn vary(to: &mut HeaderMap, name: &'static str) {
    let before = joined(to, &VARY).unwrap_or_default();
    let mut names = before.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if !names.any(|named| named == b"*" || named.eq_ignore_ascii_case(name.as_bytes())) {
        headers::append(to, &VARY, &HeaderValue::from_static(name));
    }
}

/// The headers of an answer that scripts do not see by themselves and may be shown.
fn named(headers: &HeaderMap) -> Option<HeaderValue> {
    let names = headers.keys().filter(|name| !SEEN_OR_NEVER.contains(name));
    let names = names.map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(names).ok().filter(|names| !names.is_empty())
}

/// The safelisted ones (Fetch 2.2.2), and the one that no script ever sees.
static SEEN_OR_NEVER: [HeaderName; 8] = [
    CACHE_CONTROL,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPIRES,
    LAST_MODIFIED,
    PRAGMA,
    SET_COOKIE,
];
