//! Request targets and hosts: RFC 9112 3.2.

use std::ops::Range;

use super::{
    super::Malformed,
    syntax::{is_target, is_unreserved},
};

/// Checks a target against its method. Returns where the authority stands in it, if it has one, and the port that
/// stands for none.
pub(super) fn check(method: &[u8], target: &[u8]) -> Result<Option<Authority>, Malformed> {
    if !is_target(target) {
        return Err(if target.contains(&b'\r') { Malformed::BareCr } else { Malformed::Target });
    }
    if method == b"CONNECT" {
        return match port_of(target) {
            Some(port) if is_host(target) && !port.is_empty() => {
                Ok(Some(Authority { at: 0..target.len(), default_port: None }))
            }
            _ => Err(Malformed::TargetForm),
        };
    }
    match target {
        [b'/', ..] => check_path(target).map(|()| None),
        b"*" if method == b"OPTIONS" => Ok(None),
        _ => absolute(target).map(Some),
    }
}

/// The authority of a target.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) at: Range<usize>,
    pub(super) default_port: Option<&'static [u8]>,
}

/// A name or an address with an optional port.
pub(super) fn is_host(host: &[u8]) -> bool {
    let name = &host[..host.len() - port_of(host).map_or(0, |port| port.len() + 1)];
    let port = port_of(host).unwrap_or_default();
    let in_range =
        |port: &[u8]| port.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0')) <= 65_535;
    if port.len() > 5 || !port.iter().all(u8::is_ascii_digit) || !in_range(port) {
        return false;
    }
    match name {
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok())
        }
        name => !name.is_empty() && is_unreserved(name),
    }
}

/// Whether two hosts are the same, with `default_port` for none.
pub(super) fn same_host(one: &[u8], other: &[u8], default_port: Option<&'static [u8]>) -> bool {
    let parts = |host| {
        let port = port_of(host);
        let name: &[u8] = &host[..host.len() - port.map_or(0, |port| port.len() + 1)];
        (name, port.filter(|port| !port.is_empty()).or(default_port))
    };
    let ((one, its), (other, others)) = (parts(one), parts(other));
    one.eq_ignore_ascii_case(other) && its == others
}

fn absolute(target: &[u8]) -> Result<Authority, Malformed> {
    let schemes: [(&[u8], &'static [u8]); 2] = [(b"http://", b"80"), (b"https://", b"443")];
    let fits = |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
    let Some((scheme, port)) = schemes.into_iter().find(|(scheme, _)| fits(scheme)) else {
        return Err(Malformed::TargetForm);
    };
    let rest = &target[scheme.len()..];
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    // `user@host` is a way to have two readers see two hosts (RFC 9110 4.2.4).
    if !is_host(&rest[..length]) {
        return Err(Malformed::TargetForm);
    }
    check_path(&rest[length..])?;
    Ok(Authority { at: scheme.len()..scheme.len() + length, default_port: Some(port) })
}

/// A percent sign in a path stands before two hexadecimal digits. (In a query it is the application's.)
fn check_path(path_and_query: &[u8]) -> Result<(), Malformed> {
    let end = memchr::memchr(b'?', path_and_query).unwrap_or(path_and_query.len());
    let path = &path_and_query[..end];
    let escaped = |at: usize| path.get(at + 1..at + 3).is_some_and(|it| it.iter().all(u8::is_ascii_hexdigit));
    if memchr::memchr_iter(b'%', path).all(escaped) { Ok(()) } else { Err(Malformed::Target) }
}

/// What follows the last colon outside of brackets.
fn port_of(host: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memrchr(b':', host)?;
    let port = &host[colon + 1..];
    (!port.contains(&b']')).then_some(port)
}
