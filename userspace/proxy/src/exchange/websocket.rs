//! WebSocket in the forms of HTTP/1 (RFC 6455) and of HTTP/2 (RFC 8441), each made of the other.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::UPGRADE, request, response};
use hyper::ext::Protocol as ConnectProtocol;
use sha1::{Digest as _, Sha1};

use crate::{draw::Draw, observe::Protocol};

/// Has a request ask as HTTP/1 does: with a key, which HTTP/2 has none of.
pub(super) fn ask_http1(headers: &mut HeaderMap, dice: &mut impl Draw) {
    if !headers.contains_key(KEY) {
        let nonce = [dice.number().to_be_bytes(), dice.number().to_be_bytes()].concat();
        headers.insert(KEY, digits(&nonce));
    }
}

/// Has a request ask as HTTP/2 does: nothing is switched.
pub(super) fn ask_http2(parts: &mut request::Parts) {
    parts.method = Method::CONNECT;
    parts.extensions.insert(ConnectProtocol::from_static("websocket"));
    parts.headers.remove(KEY);
}

/// Whether a server of `version` agrees.
pub(super) fn agreed(status: StatusCode, version: Protocol) -> bool {
    match version {
        Protocol::Http2 => status == StatusCode::OK,
        _ => status == StatusCode::SWITCHING_PROTOCOLS,
    }
}

/// Whether a client of `version` takes an answer that does not agree for one that does: over HTTP/2 every 2xx is consent
/// (RFC 8441 5).
pub(super) fn is_taken_for_consent(status: StatusCode, version: Protocol) -> bool {
    version == Protocol::Http2 && status.is_success()
}

/// Has an answer agree as a client of `version` understands it. `key` is that client's.
pub(super) fn agree(parts: &mut response::Parts, version: Protocol, key: Option<&HeaderValue>) {
    if version == Protocol::Http2 {
        parts.status = StatusCode::OK;
        for name in [UPGRADE, ACCEPT, http::header::CONNECTION, http::header::CONTENT_LENGTH] {
            parts.headers.remove(name);
        }
        return;
    }
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(key) = key.filter(|_| !parts.headers.contains_key(ACCEPT)) {
        parts.headers.insert(ACCEPT, accept(key));
    }
}

/// What proves that the server has understood the key (RFC 6455 4.2.2).
fn accept(key: &HeaderValue) -> HeaderValue {
    let hash = Sha1::new().chain_update(key.as_bytes()).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    digits(&hash.finalize())
}

/// In base64 (RFC 4648 4).
fn digits(bytes: &[u8]) -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for three in bytes.chunks(3) {
        let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let six = usize::try_from(word >> (18 - 6 * place) & 63).expect("six bits");
            text.push(if place <= three.len() { DIGITS[six] } else { b'=' });
        }
    }
    HeaderValue::from_bytes(&text).expect("letters, digits, `+`, `/` and `=`")
}

pub(super) const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_written_as_rfc_4648_writes_it() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(digits(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_proof_is_that_of_rfc_6455() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
