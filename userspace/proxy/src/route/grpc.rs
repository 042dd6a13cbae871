//! gRPC over HTTP/2, as far as a proxy has to know it (grpc/doc/PROTOCOL-HTTP2.md, http-grpc-status-mapping.md).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The status code of a call.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The status in words, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How long the client waits.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The names in a call's path, `/service/method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The service, with its package.
    pub service: &'a str,
    /// The method.
    pub method: &'a str,
}

impl<'a> Call<'a> {
    /// Reads a path; `None` unless it is two elements.
    pub fn of(path: &'a str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let valid = !service.is_empty() && !method.is_empty() && !method.contains('/');
        valid.then_some(Self { service, method })
    }
}

/// Whether a message is gRPC by its content type. gRPC-Web is not: its trailers are in the body.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some(value) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return false };
    match value.split_at_checked(NAME.len()) {
        Some((name, rest)) => {
            name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' ' | b'\t'))
        }
        None => false,
    }
}

/// A status code of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($constant:ident = $code:literal, $http:literal;)*) => {
        #[expect(missing_docs, reason = "the names are gRPC's own")]
        impl Code {
            $(pub const $constant: Self = Self($code);)*

            /// All that gRPC defines.
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// Its name, as in a TrafficPolicy's `grpcCodes`.
            pub const fn name(self) -> &'static str {
                match self.0 { $($code => stringify!($constant),)* _ => "UNKNOWN" }
            }

            /// The HTTP status that means the same (`google.rpc.Code`), for metrics and outlier detection.
            pub const fn http_status(self) -> u16 {
                match self.0 { $($code => $http,)* _ => 500 }
            }
        }
    };
}

codes! {
    OK = 0, 200;
    CANCELLED = 1, 499;
    UNKNOWN = 2, 500;
    INVALID_ARGUMENT = 3, 400;
    DEADLINE_EXCEEDED = 4, 504;
    NOT_FOUND = 5, 404;
    ALREADY_EXISTS = 6, 409;
    PERMISSION_DENIED = 7, 403;
    RESOURCE_EXHAUSTED = 8, 429;
    FAILED_PRECONDITION = 9, 400;
    ABORTED = 10, 409;
    OUT_OF_RANGE = 11, 400;
    UNIMPLEMENTED = 12, 501;
    INTERNAL = 13, 500;
    UNAVAILABLE = 14, 503;
    DATA_LOSS = 15, 500;
    UNAUTHENTICATED = 16, 401;
}

impl Code {
    /// What a client takes an answer without `grpc-status` for.
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::INTERNAL,
            401 => Self::UNAUTHENTICATED,
            403 => Self::PERMISSION_DENIED,
            404 => Self::UNIMPLEMENTED,
            429 | 502..=504 => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }

    /// What weft's own refusal with an HTTP status is to a gRPC client: as [`Code::from_http`], but an invalid backend
    /// (500) is `UNAVAILABLE`, a rate limit or a size bound `RESOURCE_EXHAUSTED`, and a timeout `DEADLINE_EXCEEDED`.
    pub fn for_refusal(status: StatusCode) -> Self {
        match status.as_u16() {
            413 | 429 | 431 => Self::RESOURCE_EXHAUSTED,
            500 => Self::UNAVAILABLE,
            408 | 504 => Self::DEADLINE_EXCEEDED,
            _ => Self::from_http(status),
        }
    }

    /// The code that a trailer or a trailers-only answer says; `None` if it says none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(STATUS)?.to_str().ok()?;
        value.parse().ok().map(Self)
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit. `None` is a malformed one; gRPC fails the call then.
pub fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Writes `grpc-timeout` in the finest unit that eight digits hold, rounded up: a server never gives up before the
/// client does. Above what can be said, it is the most that can be (11 415 years).
pub fn format_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let nanos = timeout.as_nanos();
    let units =
        [("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", NANOS), ("M", 60 * NANOS), ("H", 3600 * NANOS)];
    let mut counts = units.iter().map(|(unit, size)| (unit, nanos.div_ceil(*size)));
    let (unit, count) = counts.find(|(_, count)| *count <= MOST).unwrap_or((&"H", MOST));
    format!("{count}{unit}")
}

/// Percent-encodes `grpc-message`: what is not visible ASCII or a space, and `%`.
pub fn encode_message(message: &str) -> String {
    utf8_percent_encode(message, NOT_IN_MESSAGE).to_string()
}

/// Decodes `grpc-message`. Never fails: what is no escape stays, what is no UTF-8 is replaced.
pub fn decode_message(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// An answer that ends a call at once, without a body: status 200, everything else in its headers.
pub fn trailers_only(code: Code, message: &str) -> Response<()> {
    let mut answer = Response::new(());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(code.0));
    if !message.is_empty() {
        let message = HeaderValue::try_from(encode_message(message));
        headers.insert(MESSAGE, message.expect("an encoded message is visible ASCII and spaces"));
    }
    answer
}

const NANOS: u128 = 1_000_000_000;
const NOT_IN_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::fixture::request;

    #[test]
    fn a_call_is_two_elements() {
        assert_eq!(Call::of("/pkg.Svc/Get"), Some(Call { service: "pkg.Svc", method: "Get" }));
        for path in ["", "/", "/a", "/a/", "//b", "/a/b/c", "a/b", "*"] {
            assert_eq!(Call::of(path), None, "{path}");
        }
    }

    #[test]
    fn grpc_is_known_by_its_content_type_and_grpc_web_is_not_grpc() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("a", false),
        ] {
            assert_eq!(is_grpc(&request("/", &[("content-type", value)]).headers), grpc, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn http_statuses_map_as_the_specification_says() {
        for (http, grpc) in [
            (400, "INTERNAL"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "UNIMPLEMENTED"),
            (429, "UNAVAILABLE"),
            (502, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "UNAVAILABLE"),
            (500, "UNKNOWN"),
            (200, "UNKNOWN"),
        ] {
            assert_eq!(Code::from_http(StatusCode::from_u16(http).unwrap()).name(), grpc, "{http}");
        }
    }

    #[test]
    fn our_own_refusals_have_the_code_of_their_cause() {
        for (http, grpc) in [
            (403, "PERMISSION_DENIED"),
            (404, "UNIMPLEMENTED"),
            (429, "RESOURCE_EXHAUSTED"),
            (431, "RESOURCE_EXHAUSTED"),
            (500, "UNAVAILABLE"),
            (503, "UNAVAILABLE"),
            (504, "DEADLINE_EXCEEDED"),
        ] {
            assert_eq!(Code::for_refusal(StatusCode::from_u16(http).unwrap()).name(), grpc, "{http}");
        }
    }

    #[test]
    fn a_timeout_is_eight_digits_and_a_unit_at_most() {
        for (value, timeout) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("005m", Some(Duration::from_millis(5))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("+1S", None),
            ("100000000S", None),
            ("1 S", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(value), timeout, "{value}");
        }
    }

    #[test]
    fn a_timeout_is_written_as_fine_as_it_fits() {
        assert_eq!(format_timeout(Duration::ZERO), "0n");
        assert_eq!(format_timeout(Duration::from_millis(50)), "50000000n");
        assert_eq!(format_timeout(Duration::from_nanos(100_000_001)), "100001u");
        assert_eq!(format_timeout(Duration::MAX), "99999999H");
    }

    #[test]
    fn an_answer_without_a_body_carries_its_status_in_its_headers() {
        let answer = trailers_only(Code::UNAVAILABLE, "no endpoint: 100 %\nü");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(answer.headers()[MESSAGE], "no endpoint: 100 %25%0A%C3%BC");
        assert_eq!(Code::of(answer.headers()), Some(Code::UNAVAILABLE));
        assert!(trailers_only(Code::OK, "").headers().get(MESSAGE).is_none());
    }

    proptest! {
        #[test]
        fn a_timeout_reads_back_not_shorter_and_hardly_longer(nanos in 0u64..) {
            let timeout = Duration::from_nanos(nanos);
            let read = parse_timeout(&format_timeout(timeout)).unwrap();
            prop_assert!(read >= timeout && read.as_nanos() <= timeout.as_nanos() + timeout.as_nanos() / 100_000 + 1);
        }

        #[test]
        fn a_message_reads_back(message in ".*") {
            prop_assert_eq!(decode_message(&encode_message(&message)), message.clone());
            prop_assert!(HeaderValue::try_from(encode_message(&message)).is_ok());
        }

        #[test]
        fn any_timeout_is_read_without_panic(value in ".*") {
            let _ = parse_timeout(&value);
        }
    }
}
