//! What a request asks for, in the form in which everything is compared with it.

use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

use http::{
    HeaderMap, HeaderName, Method,
    header::{COOKIE, HOST},
    request,
};
use percent_encoding::percent_decode;

use super::path::{self, PathError};

/// A request as rules, policies and logs see it.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path: normal, slashes merged.
    pub path: Cow<'a, str>,
    /// Its query, as it was sent.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// `:authority`, or the host of an absolute request target, which outranks `Host` (RFC 9112 3.2.2).
    pub authority: Option<&'a str>,
    /// The first value of each query parameter. Read when it is asked for, once for all rules that do.
    parameters: OnceLock<HashMap<Bytes<'a>, Bytes<'a>>>,
}

/// Decoded text, which need not be UTF-8.
type Bytes<'a> = Cow<'a, [u8]>;

impl<'a> Asked<'a> {
    /// Reads a request's head. `CONNECT` without a `:protocol` asks for no path; refuse it before.
    ///
    /// # Errors
    /// The path has no agreed meaning; answer with 400.
    pub fn of(parts: &'a request::Parts) -> Result<Self, PathError> {
        let path = match path::normalise(parts.uri.path())? {
            Cow::Borrowed(path) => path::merge_slashes(path),
            Cow::Owned(path) => path::merge_slashes(&path).into_owned().into(),
        };
        Ok(Self {
            method: &parts.method,
            path,
            query: parts.uri.query(),
            headers: &parts.headers,
            authority: parts.uri.authority().map(http::uri::Authority::as_str),
            parameters: OnceLock::new(),
        })
    }

    /// The value of a header, several lines joined by `,` (RFC 9110 5.2, as Envoy does). `host` is the authority.
    pub fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        match self.authority {
            Some(authority) if *name == HOST => Some(authority.as_bytes().into()),
            _ => joined(self.headers, name),
        }
    }

    /// The value of the first query parameter of this name, both decoded as forms are (`+` is a space).
    pub fn query_value(&self, name: &str) -> Option<&[u8]> {
        let query = self.query?;
        let parameters = self.parameters.get_or_init(|| {
            let mut first = HashMap::new();
            for pair in query.split('&') {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                first.entry(decoded(name)).or_insert_with(|| decoded(value));
            }
            first
        });
        parameters.get(name.as_bytes()).map(|value| &**value)
    }
}

/// All lines of a header as one value; HTTP/2's cookie crumbs by `; ` (RFC 9113 8.2.3).
pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    let mut all = Cow::Borrowed(first);
    for line in lines {
        let all = all.to_mut();
        all.extend_from_slice(separator(name));
        all.extend_from_slice(line.as_bytes());
    }
    Some(all)
}

/// What stands between two values of a header on one line.
pub(super) fn separator(name: &HeaderName) -> &'static [u8] {
    if *name == COOKIE { b"; " } else { b"," }
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode(spaced.as_bytes()).collect());
    }
    percent_decode(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use http::{Request, header::ACCEPT};

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn lines_of_one_header_are_one_value() {
        let parts = parts("/", &[("accept", "a"), ("Accept", "b"), ("cookie", "a=1"), ("cookie", "b=2")]);
        let asked = Asked::of(&parts).unwrap();
        assert_eq!(asked.header(&ACCEPT).as_deref(), Some(&b"a,b"[..]));
        assert_eq!(asked.header(&COOKIE).as_deref(), Some(&b"a=1; b=2"[..]));
        assert_eq!(asked.header(&HOST), None);
    }

    #[test]
    fn the_authority_outranks_the_host_header() {
        let both = parts("http://a:80/", &[("host", "b")]);
        assert_eq!(Asked::of(&both).unwrap().header(&HOST).as_deref(), Some(&b"a:80"[..]));
        let header = parts("/", &[("host", "b")]);
        assert_eq!(Asked::of(&header).unwrap().header(&HOST).as_deref(), Some(&b"b"[..]));
    }

    #[test]
    fn the_first_query_parameter_of_a_name_counts() {
        let parts = parts("/?a=1&b=x%20y+z&a=2&c&%64=%zz", &[]);
        let asked = Asked::of(&parts).unwrap();
        for (name, value) in
            [("a", Some("1")), ("b", Some("x y z")), ("c", Some("")), ("d", Some("%zz")), ("A", None)]
        {
            assert_eq!(asked.query_value(name), value.map(str::as_bytes), "{name}");
        }
    }
}
