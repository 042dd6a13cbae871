//! `RequestRedirect`: a ready answer.

use http::{
    HeaderValue, Response, StatusCode,
    header::{HOST, LOCATION},
    request,
    uri::Authority,
};

use super::{FilterError, bare, rewrite};
use crate::route::path;

/// A redirect.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    scheme: Option<Scheme>,
    host: Option<Authority>,
    port: Option<u16>,
    path: Option<rewrite::Path>,
    status: StatusCode,
}

#[derive(Clone, Copy, Debug)]
enum Scheme {
    Http,
    Https,
}

impl Redirect {
    pub(super) fn compile(redirect: &weft_model::Redirect) -> Result<Self, FilterError> {
        let status = StatusCode::from_u16(redirect.status).ok();
        let status = status.filter(|status| [301, 302, 303, 307, 308].contains(&status.as_u16()));
        let scheme =
            |scheme: &str| if scheme.eq_ignore_ascii_case("https") { Scheme::Https } else { Scheme::Http };
        Ok(Self {
            scheme: redirect.scheme.as_deref().map(scheme),
            host: redirect.hostname.as_ref().map(rewrite::compile_host).transpose()?,
            port: redirect.port,
            path: redirect.path.as_ref().map(rewrite::Path::compile).transpose()?,
            status: status.ok_or(FilterError::Status(redirect.status))?,
        })
    }

    /// The answer to a request that came to `service_port` in clear text. Its query is kept.
    pub(super) fn answer(&self, parts: &request::Parts, service_port: u16) -> Response<()> {
        let path = parts.uri.path();
        let path =
            self.path.as_ref().and_then(|change| change.apply(path)).unwrap_or_else(|| path.to_owned());
        let mut location = match self.host.clone().or_else(|| asked_host(parts)) {
            Some(host) => self.origin(host.host(), service_port) + &path,
            // No host to name (HTTP/1.0): a relative reference. `//` in front would make a host of the first element.
            None => path::merge_slashes(&path).into_owned(),
        };
        if let Some(query) = parts.uri.query() {
            location.push('?');
            location.push_str(query);
        }
        let mut answer = bare(self.status);
        let location = HeaderValue::from_bytes(location.as_bytes());
        answer.headers_mut().insert(LOCATION, location.expect("a URI has no control characters"));
        answer
    }

    /// `scheme://host`, and the port where it is not the scheme's own.
    fn origin(&self, host: &str, service_port: u16) -> String {
        let scheme = self.scheme.unwrap_or(Scheme::Http);
        let derived = self.scheme.map_or(service_port, Scheme::port);
        let port = self.port.unwrap_or(derived);
        let name = scheme.name();
        if port == scheme.port() { format!("{name}://{host}") } else { format!("{name}://{host}:{port}") }
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The well-known port.
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The host that was asked for, if it is one.
fn asked_host(parts: &request::Parts) -> Option<Authority> {
    let header = || Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok();
    parts.uri.authority().cloned().or_else(header).filter(|authority| !authority.host().is_empty())
}
