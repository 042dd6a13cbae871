//! Hashes that every node and every version of the proxy computes alike.
//!
//! A client that may choose the hashed value chooses its endpoint anyway, so they need not resist one.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use weft_model::{HashKey, MaglevSeeds};

use super::cookie;
use crate::draw::mixed;

/// The hash of what `key` names in a request; `None` where the request has no such thing.
///
/// A header's values count in their order; a query parameter counts as it is written, the first of its name.
pub fn of(key: &HashKey, client: IpAddr, headers: &HeaderMap, query: Option<&str>) -> Option<u64> {
    match key {
        HashKey::SourceIp => Some(ip(client)),
        HashKey::Header(name) => {
            let mut values = headers.get_all(&**name).iter().peekable();
            values.peek()?;
            Some(finished(values.fold(BASIS, |hash, value| fold(separated(hash), value.as_bytes()))))
        }
        HashKey::Query(name) => {
            let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            let (_, value) = pairs.into_iter().find(|(key, _)| *key == &**name)?;
            Some(text(value.as_bytes()))
        }
        HashKey::Cookie { name, .. } => cookie::value(headers, name).map(text),
    }
}

/// The hash of some bytes.
pub fn text(bytes: &[u8]) -> u64 {
    finished(fold(separated(BASIS), bytes))
}

/// The hash of a client's address. An IPv4 address in an IPv6 one is that IPv4 address.
pub fn ip(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(ip) => text(&ip.octets()),
        IpAddr::V6(ip) => text(&ip.octets()),
    }
}

/// The name of an endpoint.
pub(super) fn address(of: SocketAddr) -> u64 {
    mixed(ip(of.ip()) ^ mixed(u64::from(of.port())))
}

/// Where and how an endpoint walks through a Maglev table.
pub(super) fn seeds(id: u64) -> MaglevSeeds {
    MaglevSeeds { offset: mixed(id ^ 1), skip: mixed(id ^ 2) }
}

/// FNV-1a.
fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Keeps "ab", "c" apart from "a", "bc": 0xff stands in no header's text.
fn separated(hash: u64) -> u64 {
    fold(hash, &[0xff])
}

/// FNV's upper bits are weak for short texts.
fn finished(hash: u64) -> u64 {
    mixed(hash)
}

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut all, (name, value): (http::HeaderName, _)| {
                all.append(name, value);
                all
            })
    }

    #[test]
    fn a_request_is_hashed_by_what_the_key_names() {
        let client = [10, 0, 0, 1].into();
        let lines = headers(&[("x-user", "ann"), ("cookie", "a=1; user=ann"), ("cookie", "b=2")]);
        let of = |key: &HashKey| of(key, client, &lines, Some("q=1&user=ann&user=bob&flag"));
        let cookie = |name: &str| HashKey::Cookie { name: name.into(), path: None, ttl: None };
        let ann = Some(text(b"ann"));
        assert_eq!(of(&HashKey::Header("x-user".into())), ann);
        assert_eq!(of(&HashKey::Query("user".into())), ann);
        assert_eq!(of(&HashKey::Query("flag".into())), Some(text(b"")));
        assert_eq!(of(&cookie("user")), ann);
        assert_eq!(of(&cookie("b")), Some(text(b"2")));
        assert_eq!(of(&HashKey::SourceIp), Some(ip(client)));
        for missing in [HashKey::Header("x".into()), HashKey::Query("x".into()), cookie("x")] {
            assert_eq!(of(&missing), None, "{missing:?}");
        }
    }

    #[test]
    fn two_header_lines_do_not_run_together() {
        let hash = |lines: &[(&'static str, &str)]| {
            of(&HashKey::Header("x".into()), [10, 0, 0, 1].into(), &headers(lines), None)
        };
        assert_ne!(hash(&[("x", "ab"), ("x", "c")]), hash(&[("x", "a"), ("x", "bc")]));
        assert_ne!(hash(&[("x", "ab"), ("x", "c")]), hash(&[("x", "abc")]));
    }

    #[test]
    fn hashes_are_the_same_on_every_node_and_in_every_version() {
        assert_eq!(fold(BASIS, b"foobar"), 0x8594_4171_f739_67e8, "FNV-1a's published vector");
        assert_eq!(text(b"ann"), 0x9e8e_eeb7_fd99_f146);
        assert_eq!(address(([10, 0, 0, 1], 80).into()), 0x2ec1_a6dc_707e_820c);
        assert_eq!(ip("::ffff:10.0.0.1".parse().unwrap()), ip([10, 0, 0, 1].into()));
    }
}
