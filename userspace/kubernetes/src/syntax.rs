//! The small languages inside Kubernetes' strings: names, labels, durations, blocks of addresses.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

/// An RFC 1123 label: Namespaces, Services, port names of endpoints.
pub(crate) fn dns_label(text: &str) -> Result<(), &'static str> {
    match text.len() {
        1..=63 if words(text) && !text.contains('.') => Ok(()),
        64.. => Err("is longer than 63 characters"),
        _ => Err("is no RFC 1123 label: a-z, 0-9 and '-', beginning and ending with a letter or digit"),
    }
}

/// An RFC 1123 subdomain: most objects' names.
pub(crate) fn dns_subdomain(text: &str) -> Result<(), &'static str> {
    match text.len() {
        1..=253 if text.split('.').all(words) => Ok(()),
        254.. => Err("is longer than 253 characters"),
        _ => Err(
            "is no RFC 1123 name: a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit",
        ),
    }
}

/// A label key: `name` or `prefix.example/name`.
pub(crate) fn label_key(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| dns_subdomain(prefix).is_err()) {
        return Err("is no label key: what stands before '/' must be a DNS name");
    }
    if name.is_empty() || label_value(name).is_err() {
        return Err(
            "is no label key: 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', with a letter or digit at both ends",
        );
    }
    Ok(())
}

/// A label value.
pub(crate) fn label_value(text: &str) -> Result<(), &'static str> {
    let inner = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let ends = |c: Option<&u8>| c.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if bytes.len() <= 63 && bytes.iter().copied().all(inner) && ends(bytes.first()) && ends(bytes.last()) {
        Ok(())
    } else {
        Err(
            "is no label value: at most 63 of a-z, A-Z, 0-9, '-', '_' and '.', with a letter or digit at both ends",
        )
    }
}

/// An HTTP header's name.
pub(crate) fn header_name(text: &str) -> bool {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    (1..=256).contains(&text.len()) && text.bytes().all(token)
}

/// An HTTP header's value: no control characters but the tab, and none that a parser would trim.
pub(crate) fn header_value(text: &str) -> bool {
    let inner = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let trimmed = |c: Option<char>| c.is_some_and(|c| c == ' ' || c == '\t');
    text.bytes().all(inner) && !trimmed(text.chars().next()) && !trimmed(text.chars().last())
}

/// Whether these are the characters of a path (RFC 3986, section 3.3).
pub(crate) fn path_characters(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte);
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |i: usize| bytes.get(at + i).is_some_and(u8::is_ascii_hexdigit);
        match byte {
            b'%' if hex(1) && hex(2) => at += 3,
            _ if plain(*byte) => at += 1,
            _ => return false,
        }
    }
    true
}

/// A path that a route matches on: one that every server reads alike; or what is wrong and a remedy.
pub(crate) fn route_path(text: &str) -> Result<(), (String, String)> {
    let wrong = |what: &str, remedy: &str| Err((format!("\"{text}\" {what}"), remedy.to_owned()));
    if !text.starts_with('/') {
        return wrong("does not begin with /", &format!("write /{text}"));
    }
    for part in ["//", "/./", "/../"] {
        if text.contains(part) {
            let message = format!("has {part} in it, which servers read in different ways");
            return wrong(&message, "write the path without it");
        }
    }
    for end in ["/.", "/.."] {
        if text.ends_with(end) {
            return wrong(&format!("ends with {end}"), "write the path that is meant");
        }
    }
    if text.to_ascii_lowercase().contains("%2f") {
        return wrong(
            "has an encoded / in it, which servers read in different ways",
            "write /, or match less",
        );
    }
    if text.contains('#') {
        return wrong("has a # in it, which no request has", "end the path before it");
    }
    if !path_characters(text) {
        let remedy = "percent-encode what is no letter, digit or one of /-._~!$&'()*+,;=:@";
        return wrong("is no path", remedy);
    }
    Ok(())
}

/// The full name of a gRPC service.
pub(crate) fn grpc_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(grpc_method)
}

/// The name of a gRPC method.
pub(crate) fn grpc_method(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(word) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// A duration of the Gateway API (GEP-2257): one to four numbers, each with its unit.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut parts, mut total) = (text, 0, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if !(1..=5).contains(&digits) || parts == 4 {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        let (unit, after) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find_map(|(unit, millis)| Some((millis, after.strip_prefix(unit)?)))?;
        total += Duration::from_millis(number * unit);
        (rest, parts) = (after, parts + 1);
    }
    (parts > 0 && total <= LONGEST).then_some(total)
}

/// 99999h59m59s999ms, the longest that GEP-2257 can write.
const LONGEST: Duration = Duration::from_millis(((99_999 * 60 + 59) * 60 + 59) * 1000 + 999);

/// A block of addresses without host bits, or what to write instead.
pub(crate) fn cidr(text: &str) -> Result<IpNet, (String, String)> {
    let block: IpNet = text.parse().map_err(|_| {
        let remedy = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("write {text}/32 for one address"),
            Ok(IpAddr::V6(_)) => format!("write {text}/128 for one address"),
            Err(_) => "write an address and a prefix length, like 10.8.0.0/16".into(),
        };
        (format!("\"{text}\" is no CIDR"), remedy)
    })?;
    if block.trunc() == block {
        Ok(block)
    } else {
        Err((
            format!("{text} has host bits set beyond its prefix"),
            format!(
                "write {}, or {}/{} for that address alone",
                block.trunc(),
                block.addr(),
                block.max_prefix_len()
            ),
        ))
    }
}

/// Whether `number` is a prime.
pub(crate) fn is_prime(number: u32) -> bool {
    number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}

fn words(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "web-1", "10", "a.b-c.d"] {
            assert_eq!(dns_subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".a"] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
        assert!(dns_label("a.b").is_err() && dns_label(&"a".repeat(64)).is_err());
    }

    #[test]
    fn labels_have_their_syntax() {
        for good in ["app", "weft.dev/mesh", "A_b.c"] {
            assert_eq!(label_key(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "A.b/c", "-a", "a b", "a/b/c"] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok() && label_value("-").is_err() && label_value("a/b").is_err());
    }

    #[test]
    fn durations_follow_gep_2257() {
        assert_eq!(duration("1h30m"), Some(Duration::from_mins(90)));
        assert_eq!(duration("1s1s1s"), Some(Duration::from_secs(3)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("99999h59m59s999ms"), Some(LONGEST));
        for bad in ["", "10", "1.5s", "s", "100000s", "1s1s1s1s1s", "1d", " 1s", "99999h60m"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_block_with_host_bits_is_refused_with_both_remedies() {
        assert_eq!(cidr("10.8.0.0/16").unwrap().to_string(), "10.8.0.0/16");
        let (_, remedy) = cidr("10.8.0.1/16").unwrap_err();
        assert_eq!(remedy, "write 10.8.0.0/16, or 10.8.0.1/32 for that address alone");
        assert_eq!(cidr("fd00::1").unwrap_err().1, "write fd00::1/128 for one address");
    }

    #[test]
    fn a_path_that_two_servers_may_read_differently_is_refused() {
        for good in ["/", "/a", "/a/", "/a.b/~c", "/a%20b", "/...", "/a;v=1"] {
            assert_eq!(route_path(good), Ok(()), "{good}");
        }
        for bad in [
            "", "a", "//", "/a//b", "/./a", "/a/../b", "/a/.", "/a/..", "/a%2fb", "/a%2Fb", "/a#b", "/a b",
            "/a?b", "/%", "/%4", "/é",
        ] {
            assert!(route_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn grpc_names_are_identifiers() {
        for good in ["helloworld.Greeter", ".pkg.Greeter", "G_1"] {
            assert!(grpc_service(good), "{good}");
        }
        for bad in ["", ".", "a..b", "1a", "a.1b", "a/b", "a-b"] {
            assert!(!grpc_service(bad), "{bad}");
        }
        assert!(grpc_method("SayHello") && !grpc_method("say.Hello"));
    }

    #[test]
    fn a_header_value_carries_no_line_break() {
        assert!(header_value("a b\tc") && header_value("naïve"));
        for bad in ["a\nb", "a\rb", "a\0", " a", "a ", "\ta", "\u{7f}"] {
            assert!(!header_value(bad), "{bad:?}");
        }
    }

    #[test]
    fn primes_are_told_from_other_numbers() {
        assert!([2, 3, 251, 65537].into_iter().all(is_prime));
        assert!([0, 1, 4, 65536, 65535].into_iter().all(|n| !is_prime(n)));
    }
}
