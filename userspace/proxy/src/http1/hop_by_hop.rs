//! Fields that end at this hop: RFC 9110 7.6.1.
//!
//! A proxy removes `Connection` and every field that it names. A client may name any field, so it could have the proxy
//! remove what the upstream relies on. Those names are not followed, see [`strip`]; the request is forwarded with the
//! field in place, as if `Connection` had not named it.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
};

/// Whether the connection is about to change its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrading {
    /// It is not: Upgrade is removed, so the upstream cannot agree to what weft would not notice.
    No,
    /// To `WebSocket`, which [`asks_for_websocket`] has found.
    WebSocket,
}

/// Whether a request asks for `WebSocket` and nothing else. No other protocol is forwarded: behind `h2c` an upstream would
/// take requests that no policy has seen.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let only = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return false };
    only(protocol) && options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
}

/// Removes what ends at this hop, from a request or from a response: Connection and the fields that it names,
/// Keep-Alive, Proxy-Connection, HTTP2-Settings, Transfer-Encoding, Upgrade unless `upgrading`, and TE except for
/// `trailers`.
///
/// Names that `Connection` may not remove:
/// - framing and routing (Content-Length, Host, Content-Type, ...): without them the message is another one;
/// - who asks, and for whom (Authorization, Cookie, Forwarded, X-Forwarded-*, X-Real-IP, X-Weft-*, ...): an upstream
///   that grants more when they are absent would grant it to everybody;
/// - how an answer may be kept (Cache-Control, Vary, ...), which RFC 9110 7.6.1 names itself.
pub fn strip(headers: &mut HeaderMap, upgrading: Upgrading) {
    // One look at all names: most heads have none of these fields, or one.
    let here = headers.keys().filter_map(place).fold(0_u8, |here, place| here | 1 << place);
    let named: Vec<HeaderName> = options(headers)
        .filter(|option| !ALWAYS.iter().any(|name| option.eq_ignore_ascii_case(name.as_str())))
        .filter_map(|option| option.parse().ok())
        .filter(|name| !is_protected(name))
        .collect();
    let takes_trailers = here & 1 << TRAILERS != 0 && takes_trailers(headers);
    for name in &named {
        headers.remove(name);
    }
    for (place, name) in ALWAYS.iter().enumerate() {
        if here & 1 << place != 0 {
            headers.remove(name);
        }
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    if upgrading == Upgrading::WebSocket {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// The members of all `Connection` fields.
fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|option| !option.is_empty())
}

/// `trailers` as a member of TE. (`chunked;q=0, trailers` is a list of codings that are not wanted.)
fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    PROTECTED.contains(&name) || PROTECTED_BEGIN.iter().any(|start| name.starts_with(start))
}

// Not a constant: each use would make the names anew, and drop them.
static ALWAYS: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Where `ALWAYS` has a name.
fn place(name: &HeaderName) -> Option<usize> {
    ALWAYS.iter().position(|always| always == name)
}

/// The place of TE.
const TRAILERS: usize = 4;

const PROTECTED: &[&str] = &[
    // Framing and routing.
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "trailer",
    "expect",
    "range",
    // Who asks, and for whom.
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "forwarded",
    "via",
    "origin",
    "referer",
    "true-client-ip",
    "x-real-ip",
    "x-request-id",
    "x-api-key",
    "traceparent",
    "tracestate",
    "baggage",
    // How an answer may be kept.
    "cache-control",
    "pragma",
    "vary",
    "etag",
    "expires",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
];

const PROTECTED_BEGIN: &[&str] = &["x-forwarded-", "x-weft-", "x-auth-", "x-envoy-", "access-control-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[track_caller]
    fn assert_left(lines: &[(&str, &str)], left: &[(&str, &str)]) {
        let mut stripped = headers(lines);
        strip(&mut stripped, Upgrading::No);
        assert_eq!(stripped, headers(left), "of {lines:?}");
    }

    #[test]
    fn connection_and_what_it_names_end_here() {
        assert_left(&[("connection", "close, X-Hop"), ("x-hop", "1"), ("x-end", "2")], &[("x-end", "2")]);
        assert_left(&[("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")], &[]);
    }

    #[test]
    fn what_a_hop_always_keeps_to_itself_ends_here_unnamed() {
        let hop = ["keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "http2-settings"];
        for name in hop {
            assert_left(&[(name, "h2c"), ("accept", "*/*")], &[("accept", "*/*")]);
        }
    }

    #[test]
    fn connection_cannot_remove_what_the_upstream_relies_on() {
        let kept =
            ["host", "content-length", "authorization", "cookie", "x-forwarded-for", "x-forwarded-proto"];
        for name in kept.into_iter().chain(["x-weft-client", "forwarded", "x-real-ip", "cache-control"]) {
            assert_left(&[("connection", name), (name, "1")], &[(name, "1")]);
        }
    }

    #[test]
    fn a_client_that_takes_trailers_still_does() {
        let te = [("te", "trailers"), ("connection", "te")];
        assert_left(&[("te", "deflate, Trailers"), ("connection", "te, x"), ("x", "1")], &te);
        assert_left(&[("te", "trailers")], &te);
        assert_left(&[("te", "trailers;q=0.5"), ("connection", "te")], &[]);
    }

    #[test]
    fn websocket_is_the_only_upgrade_that_passes() {
        let asks = |upgrade: &str, connection: &str| {
            asks_for_websocket(&headers(&[("upgrade", upgrade), ("connection", connection)]))
        };
        assert!(asks("WebSocket", "keep-alive, Upgrade"));
        assert!(!asks("websocket", "keep-alive"));
        assert!(!asks("h2c", "upgrade, http2-settings"));
        assert!(!asks("websocket, h2c", "upgrade"));
        let twice = headers(&[("upgrade", "websocket"), ("upgrade", "h2c"), ("connection", "upgrade")]);
        assert!(!asks_for_websocket(&twice));
    }

    #[test]
    fn an_upgrade_is_forwarded_as_weft_words_it() {
        let mut request =
            headers(&[("connection", "upgrade, x-hop"), ("upgrade", "websocket"), ("x-hop", "1")]);
        strip(&mut request, Upgrading::WebSocket);
        assert_eq!(request, headers(&[("upgrade", "websocket"), ("connection", "upgrade")]));
    }
}
