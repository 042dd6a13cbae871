//! What a client speaks, by its first bytes.
//!
//! For ports of which nobody says it. The caller reads what there is, asks, and reads on while the answer is
//! [`Spoken::NeedMore`] — while it watches the server's side, too: whoever speaks first decides. A client that writes a
//! request no server should take (two spaces, no version) is [`Spoken::Other`] and relayed under the L4 rules, where a
//! rule that asks for HTTP never allows; one whose line is HTTP but for its end is HTTP, and the framing guard's.

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Too few to tell. Never for [`LIMIT`] bytes or more.
    NeedMore,
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// A TLS ClientHello ([`super::tls::server_name`] reads it).
    Tls,
    /// None of these.
    Other,
}

/// So many bytes always suffice for an answer.
pub const LIMIT: usize = 8 * 1024;

/// Says what begins with `first`.
pub fn spoken(first: &[u8]) -> Spoken {
    let candidates = [http2(first), tls(first), http1(first)];
    let decided = candidates.into_iter().find(|found| !matches!(found, Spoken::Other | Spoken::NeedMore));
    let open = candidates.contains(&Spoken::NeedMore);
    decided.unwrap_or(if open { Spoken::NeedMore } else { Spoken::Other })
}

fn http2(first: &[u8]) -> Spoken {
    if first.starts_with(PREFACE) {
        Spoken::Http2
    } else if PREFACE.starts_with(first) {
        Spoken::NeedMore
    } else {
        Spoken::Other
    }
}

/// A record of type handshake, any version 3.x, and in it a ClientHello.
fn tls(first: &[u8]) -> Spoken {
    let expected = |place: usize, byte: &u8| match place {
        0 => *byte == 22,
        1 => *byte == 3,
        2 => *byte <= 4,
        5 => *byte == 1,
        _ => true,
    };
    if !first.iter().take(6).enumerate().all(|(place, byte)| expected(place, byte)) {
        Spoken::Other
    } else if first.len() < 6 {
        Spoken::NeedMore
    } else {
        Spoken::Tls
    }
}

/// `method SP target SP HTTP/1.d`, then the line's end.
fn http1(first: &[u8]) -> Spoken {
    let first = &first[..first.len().min(LIMIT)];
    let is_whole = |part: &[u8]| part.len() < first.len();
    let method = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method.len() > LONGEST_METHOD || !method.iter().copied().all(is_token) {
        return Spoken::Other;
    }
    if !is_whole(method) {
        return Spoken::NeedMore;
    }
    let rest = &first[method.len() + 1..];
    let target = rest.split(|byte| *byte == b' ').next().unwrap_or_default();
    if method.is_empty() || target.iter().any(u8::is_ascii_control) || (target.is_empty() && !rest.is_empty())
    {
        return Spoken::Other;
    }
    if target.len() == rest.len() {
        // A target this long is refused as a request, not let through as something else.
        return if first.len() < LIMIT { Spoken::NeedMore } else { Spoken::Http1 };
    }
    match &rest[target.len() + 1..] {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9', b'\r' | b'\n', ..] => Spoken::Http1,
        part if part.len() < 9 && is_version_start(part) => {
            if first.len() < LIMIT {
                Spoken::NeedMore
            } else {
                Spoken::Http1
            }
        }
        _ => Spoken::Other,
    }
}

fn is_version_start(part: &[u8]) -> bool {
    match part {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', digit] => digit.is_ascii_digit(),
        part => b"HTTP/1.".starts_with(part),
    }
}

/// RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest registered one has 17 letters.
const LONGEST_METHOD: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn protocols_are_known_by_their_first_bytes() {
        for (first, what) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], Spoken::Http1),
            (b"OPTIONS * HTTP/1.0\r\n", Spoken::Http1),
            (b"BREW coffee://pot HTTP/1.1\r\n", Spoken::Http1),
            (b"GET / HTTP/1.1\nHost: a\n", Spoken::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Spoken::Http2),
            (&[22, 3, 1, 2, 0, 1, 0], Spoken::Tls),
            (&[22, 3, 3, 0, 1, 1], Spoken::Tls),
        ] {
            assert_eq!(spoken(first), what, "{first:?}");
        }
    }

    #[test]
    fn what_is_neither_http_nor_tls_is_told_at_once() {
        for first in [
            &b"*1\r\n$4\r\nPING\r\n"[..],  // redis
            b"PING\r\n",                   // redis, inline
            b"GET key\r\n",                // redis, inline, looks like HTTP for longest
            b"\0\0\0\x08\x04\xd2\x16\x2f", // PostgreSQL, SSLRequest
            b"\0\0\0\x54\0\x03\0\0user\0", // PostgreSQL, startup
            b"EHLO mail.example.com\r\n",  // SMTP
            b"SSH-2.0-OpenSSH_9.2\r\n",    // SSH
            b"GET / HTTP/2.0\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET / HTTP/1.1 \r\n",
            b"GET /\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b" / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nXX",
            &[22, 3, 9],
            &[22, 3, 1, 0, 10, 2],
            &[0x80, 0x2e, 1, 3, 1], // SSLv2
        ] {
            assert_eq!(spoken(first), Spoken::Other, "{first:?}");
        }
    }

    #[test]
    fn every_beginning_of_a_protocol_needs_more() {
        for whole in [&b"GET /a/b HTTP/1.1\r"[..], PREFACE, &[22, 3, 1, 2, 0, 1]] {
            for length in 0..whole.len() {
                assert_eq!(spoken(&whole[..length]), Spoken::NeedMore, "{:?}", &whole[..length]);
            }
            assert_ne!(spoken(whole), Spoken::NeedMore);
        }
    }

    #[test]
    fn a_target_longer_than_the_bound_is_http_all_the_same() {
        let line = |target: usize| [&b"GET /"[..], &vec![b'a'; target]].concat();
        assert_eq!(spoken(&line(LIMIT - 6)), Spoken::NeedMore);
        assert_eq!(spoken(&line(LIMIT - 5)), Spoken::Http1);
        let version = [&line(LIMIT - 9)[..], b" HTTP/1.1\r\n"].concat();
        assert_eq!(spoken(&version), Spoken::Http1);
    }

    proptest! {
        #[test]
        fn the_bound_is_kept_and_nothing_panics(
            start in prop::sample::select(vec![&b""[..], b"GET ", b"GET / ", &[22, 3], b"PRI *"]),
            tail in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = [start, &tail].concat();
            let early = spoken(&bytes);
            bytes.resize(LIMIT, b'a');
            let late = spoken(&bytes);
            prop_assert_ne!(late, Spoken::NeedMore);
            prop_assert!(early == Spoken::NeedMore || early == late, "a decision stands: {:?} then {:?}", early, late);
        }
    }
}
