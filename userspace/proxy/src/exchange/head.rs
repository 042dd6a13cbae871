//! Heads between HTTP/1 and HTTP/2, and what ends at this hop.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, Version,
    header::{CONNECTION, COOKIE, EXPECT, HOST, UPGRADE},
    request, response,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::websocket;
use crate::{
    draw::Draw as _,
    forwarded::Proven,
    http1::hop_by_hop::{Upgrading, strip},
    observe::Protocol,
    serve::Client,
};

/// Names a request for everybody who sees it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives a request an id where it has none: a random UUID, as Envoy's.
pub(super) fn identify(parts: &mut request::Parts, client: &Client) {
    if parts.headers.contains_key(REQUEST_ID) {
        return;
    }
    let mut dice = client.served.worker.dice.borrow_mut();
    let (high, low) = (dice.number(), dice.number());
    let id = uuid(high, low);
    parts.headers.insert(REQUEST_ID, HeaderValue::from_bytes(&id).expect("hexadecimal digits and dashes"));
}

/// A random UUID (RFC 9562 5.4) in its text form.
fn uuid(high: u64, low: u64) -> [u8; 36] {
    let mut random = u128::from(high) << 64 | u128::from(low);
    let mut take = |mask| {
        let four = usize::try_from(random & mask).expect("four bits at most");
        random >>= 4;
        four
    };
    let mut text = *b"........-....-4...-v...-............";
    for sign in &mut text {
        match *sign {
            b'.' => *sign = DIGITS[take(15)],
            b'v' => *sign = DIGITS[8 | take(3)],
            _ => {}
        }
    }
    text
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Tells the server at `to` who asks.
pub(super) fn tell(parts: &mut request::Parts, client: &Client, to: SocketAddr) {
    let (pod, tables) = (&client.served.pod, client.served.worker.shared.tables.load());
    let own = pod.service_account.as_ref().or_else(|| tables.identity(&pod.name));
    // Of one that is made to the pod, the pod is the server.
    let (asks, asked, certificate) = match &client.caller {
        Some(incoming) => (incoming.caller.proven.as_ref(), own, incoming.certificate.as_deref()),
        None => (own, tables.proven_to(&pod.name, to), None),
    };
    let proven = asks.zip(asked).map(|(client, server)| Proven {
        client,
        server,
        trust_domain: tables.trust_domain(),
        certificate,
    });
    client.said.tell(&mut parts.headers, proven);
}

/// Makes of a client's head what a server of `version` is sent.
pub(super) fn for_server(parts: &mut request::Parts, client: &Client, version: Protocol, tunnel: bool) {
    strip(&mut parts.headers, if tunnel { Upgrading::WebSocket } else { Upgrading::No });
    // Answered here, with the first byte of the body that is read.
    parts.headers.remove(EXPECT);
    let host = parts.uri.authority().cloned();
    if version == Protocol::Http2 {
        let host = host.or_else(|| Authority::try_from(parts.headers.get(HOST)?.as_bytes()).ok());
        let host = host.unwrap_or_else(|| dialled(client));
        for name in [HOST, CONNECTION, UPGRADE] {
            parts.headers.remove(name);
        }
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(host));
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        parts.uri = Uri::from_parts(uri).expect("it has a scheme, a host and a path");
        if tunnel {
            websocket::ask_http2(parts);
        }
        parts.version = Version::HTTP_2;
        return;
    }
    if let Some(host) = host {
        let value = HeaderValue::from_str(host.as_str()).expect("an authority is visible ASCII");
        parts.headers.insert(HOST, value);
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    } else if !parts.headers.contains_key(HOST) {
        let value = HeaderValue::from_str(dialled(client).as_str());
        parts.headers.insert(HOST, value.expect("an authority is visible ASCII"));
    }
    if tunnel {
        websocket::ask_http1(&mut parts.headers, &mut *client.served.worker.dice.borrow_mut());
    }
    join_cookies(&mut parts.headers);
    parts.version = Version::HTTP_11;
}

/// Makes of a server's head what the client is sent.
pub(super) fn for_client(parts: &mut response::Parts, client: &Client) {
    strip(&mut parts.headers, Upgrading::No);
    if client.spoken == Protocol::Http2 {
        parts.headers.remove(CONNECTION);
    }
    parts.version = Version::HTTP_11;
}

/// A client without a host, which HTTP/1.0 allows, asked for the address that it dialled.
fn dialled(client: &Client) -> Authority {
    Authority::try_from(client.dialled.to_string()).expect("an address with a port is an authority")
}

/// HTTP/2 may send a cookie in crumbs (RFC 9113 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("made of header values");
    headers.insert(COOKIE, joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_random_uuid() {
        let text = |high, low| String::from_utf8(uuid(high, low).to_vec()).unwrap();
        assert_eq!(text(0, 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(text(u64::MAX, u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(text(0, 0x1234), "43210000-0000-4000-8000-000000000000");
        assert_ne!(text(1 << 40, 0), text(0, 0), "both numbers are in it");
    }

    #[test]
    fn crumbs_of_a_cookie_become_one_line() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
