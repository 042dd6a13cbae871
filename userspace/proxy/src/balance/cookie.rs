//! Cookies, as much of RFC 6265 as a proxy needs: one value read, one `Set-Cookie` written.

use std::{fmt::Write, time::Duration};

use http::{HeaderMap, HeaderValue, header::COOKIE};
use weft_model::{HashKey, PathMatch, RouteMatch};

use super::hash;
use crate::draw::Draw;

/// The value of the first cookie of that name, quotes taken off.
pub fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    let named = |pair: &'a [u8]| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    };
    pairs.into_iter().find_map(named).map(unquoted)
}

/// A `Set-Cookie` that gives `value` to the client.
///
/// `HttpOnly`, for no script has a use for it; `SameSite=Lax`, for browsers behind a gateway, where a link
/// from elsewhere must not lose its session. Not `Secure`: apps inside the mesh speak HTTP to the proxy, and
/// a client that keeps to RFC 6265 would never send such a cookie back.
///
/// `None` where `name`, `value` or `path` has bytes that a header cannot carry.
pub fn set(name: &str, value: &str, path: &str, max_age: Option<Duration>) -> Option<HeaderValue> {
    let path = if path.starts_with('/') && !path.contains(';') { path } else { "/" };
    let mut line = format!("{name}={value}; Path={path}");
    if let Some(age) = max_age {
        // Zero would delete the cookie.
        write!(line, "; Max-Age={}", age.as_secs().max(1)).expect("a String takes any text");
    }
    line.push_str("; HttpOnly; SameSite=Lax");
    HeaderValue::try_from(line).ok()
}

/// The path that every request to a rule with these matches has in front, by whole elements.
///
/// A regular expression or a gRPC pattern says nothing of its beginning: `/`.
pub fn path(matches: &[RouteMatch]) -> &str {
    let mut common: Option<&str> = None;
    for one in matches {
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &one.path else { return "/" };
        common = Some(common.map_or(path, |so_far| shared(so_far, path)));
    }
    common.filter(|path| path.starts_with('/')).unwrap_or("/")
}

/// What a client without a hash cookie is given: its hash and the `Set-Cookie`. `None` for any other key.
pub fn grant(key: &HashKey, dice: &mut impl Draw) -> Option<(u64, HeaderValue)> {
    let HashKey::Cookie { name, path, ttl } = key else { return None };
    let value = format!("{:016x}", dice.number());
    let line = set(name, &value, path.as_deref().unwrap_or("/"), ttl.filter(|ttl| !ttl.is_zero()))?;
    Some((hash::text(value.as_bytes()), line))
}

/// The elements that two paths begin with.
fn shared<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let ends = |path: &str| path.len() == same || path.as_bytes()[same] == b'/';
    if ends(one) && ends(other) {
        return &one[..same];
    }
    &one[..one.as_bytes()[..same].iter().rposition(|byte| *byte == b'/').unwrap_or(0)]
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Dice;

    #[test]
    fn the_first_cookie_of_the_name_counts() {
        for (line, expected) in [
            ("s=1", Some("1")),
            ("a=0; s=1; s=2", Some("1")),
            ("ss=0;s = 1 ", Some("1")),
            ("s=\"1\"", Some("1")),
            ("s=a=b", Some("a=b")),
            ("s=", Some("")),
            ("s", None),
            ("S=1", None),
            ("a=s=1", None),
            (";;=;", None),
        ] {
            let headers = HeaderMap::from_iter([(COOKIE, line.parse().unwrap())]);
            assert_eq!(value(&headers, "s"), expected.map(str::as_bytes), "{line}");
        }
        assert_eq!(value(&HeaderMap::new(), "s"), None);
    }

    #[test]
    fn a_cookie_is_set_for_its_path_and_time() {
        let line = set("s", "1", "/shop", Some(Duration::from_mins(1))).unwrap();
        assert_eq!(line, "s=1; Path=/shop; Max-Age=60; HttpOnly; SameSite=Lax");
        let over = set("s", "1", "/", Some(Duration::ZERO)).unwrap();
        assert_eq!(over, "s=1; Path=/; Max-Age=1; HttpOnly; SameSite=Lax", "zero would delete it");
        assert_eq!(set("s", "1", "", None).unwrap(), "s=1; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(set("s", "1", "/a;Domain=x", None).unwrap(), "s=1; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(set("s", "1\r\nx: y", "/", None), None);
    }

    #[test]
    fn a_rules_path_is_what_all_its_matches_begin_with() {
        let prefix = |path: &str| PathMatch::Prefix(path.into());
        let exact = |path: &str| PathMatch::Exact(path.into());
        for (paths, expected) in [
            (vec![], "/"),
            (vec![prefix("")], "/"),
            (vec![prefix("/shop")], "/shop"),
            (vec![prefix("/shop/a"), exact("/shop/b")], "/shop"),
            (vec![prefix("/shop"), prefix("/shop/a")], "/shop"),
            (vec![prefix("/shop/a"), prefix("/shop")], "/shop"),
            (vec![prefix("/shop"), prefix("/shopping")], "/"),
            (vec![prefix("/a/shop"), prefix("/a/shopping")], "/a"),
            (vec![prefix("/shop"), PathMatch::Regex("/shop/.*".into())], "/"),
            (vec![PathMatch::Grpc { service: None, method: None }], "/"),
        ] {
            let of = |path: &PathMatch| RouteMatch { path: path.clone(), ..RouteMatch::any() };
            assert_eq!(path(&paths.iter().map(of).collect::<Vec<_>>()), expected, "{paths:?}");
        }
    }

    #[test]
    fn a_granted_hash_cookie_hashes_to_the_same_when_it_comes_back() {
        let key = HashKey::Cookie {
            name: "user".into(),
            path: Some("/shop".into()),
            ttl: Some(Duration::from_secs(5)),
        };
        let (granted, line) = grant(&key, &mut Dice::seeded(3)).unwrap();
        let text = line.to_str().unwrap();
        assert!(text.ends_with("; Path=/shop; Max-Age=5; HttpOnly; SameSite=Lax"), "{text}");
        let back = HeaderMap::from_iter([(COOKIE, text.split(';').next().unwrap().parse().unwrap())]);
        assert_eq!(hash::of(&key, [10, 0, 0, 1].into(), &back, None), Some(granted));
        assert!(grant(&HashKey::SourceIp, &mut Dice::seeded(3)).is_none());
    }
}
