//! Session persistence (GEP-1619): a token that names the endpoint, in a cookie or a header.
//!
//! A token is `<endpoint>.<made>`, in hexadecimal: the hash of the endpoint's address and the second of Unix
//! time when the session began. Envoy's is the address itself in base64; neither is authenticated. It need
//! not be: a token only chooses among the endpoints that the rule may use for this client anyway, and a
//! client that lengthens its own session takes nothing from anybody. So every node's proxy can read it, and
//! no key has to be shared or rotated.
//!
//! An endpoint that is gone, ejected or tried already is picked anew, and the client gets a new token.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_model::{RouteMatch, SessionCarrier, SessionPersistence};

use super::cookie;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// [`EndpointState::id`](super::EndpointState::id) of the endpoint.
    pub endpoint: u64,
    /// When it began, in seconds of Unix time.
    pub began: u64,
}

impl Session {
    /// The session of a request; `None` where it has none, or one that is over or that nobody can read.
    /// `unix` is the time since the epoch.
    pub fn read(rule: &SessionPersistence, headers: &HeaderMap, unix: Duration) -> Option<Self> {
        let text = match rule.carrier {
            SessionCarrier::SessionCookie | SessionCarrier::PermanentCookie => {
                cookie::value(headers, &rule.name)?
            }
            SessionCarrier::Header => headers.get(&*rule.name)?.as_bytes(),
        };
        let session = Self::parse(text)?;
        let now = unix.as_secs();
        let ahead = session.began.saturating_sub(now) > SKEW_S; // nodes' clocks differ a little
        let age = now.saturating_sub(session.began);
        let over = rule.absolute_timeout.is_some_and(|limit| age > limit.as_secs());
        (!ahead && !over).then_some(session)
    }

    /// The header that gives the session to the client, for the answer. `matches` are the rule's: a cookie
    /// is for the path that they share.
    ///
    /// A session that goes on (its endpoint is the one the token named) needs none.
    ///
    /// `None` where the rule's name cannot be a header's or a cookie's.
    pub fn write(
        &self,
        rule: &SessionPersistence,
        matches: &[RouteMatch],
        unix: Duration,
    ) -> Option<(HeaderName, HeaderValue)> {
        let token = format!("{:016x}.{:x}", self.endpoint, self.began);
        if rule.carrier == SessionCarrier::Header {
            let name = HeaderName::from_bytes(rule.name.as_bytes()).ok()?;
            return Some((name, HeaderValue::try_from(token).ok()?));
        }
        let left = |limit: Duration| {
            let age = Duration::from_secs(unix.as_secs().saturating_sub(self.began));
            limit.saturating_sub(age)
        };
        let max_age = match rule.carrier {
            SessionCarrier::PermanentCookie => rule.absolute_timeout.map(left),
            _ => None,
        };
        let line = cookie::set(&rule.name, &token, cookie::path(matches), max_age)?;
        Some((http::header::SET_COOKIE, line))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (endpoint, began) = std::str::from_utf8(text).ok()?.split_once('.')?;
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit()); // no sign
            plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        Some(Self { endpoint: number(endpoint)?, began: number(began)? })
    }
}

/// Two numbers of 16 digits and a dot.
const LONGEST: usize = 33;
const SKEW_S: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn rule(carrier: SessionCarrier, absolute_timeout: Option<Duration>) -> SessionPersistence {
        SessionPersistence { name: "sid".into(), carrier, absolute_timeout }
    }

    fn returned(header: &(HeaderName, HeaderValue)) -> HeaderMap {
        let text = header.1.to_str().unwrap().split(';').next().unwrap();
        let name = if header.0 == http::header::SET_COOKIE { http::header::COOKIE } else { header.0.clone() };
        HeaderMap::from_iter([(name, text.parse().unwrap())])
    }

    #[test]
    fn a_session_comes_back_by_cookie_and_by_header() {
        let session = Session { endpoint: 0xbeef, began: 1000 };
        for carrier in
            [SessionCarrier::SessionCookie, SessionCarrier::PermanentCookie, SessionCarrier::Header]
        {
            let rule = rule(carrier, Some(s(600)));
            let headers = returned(&session.write(&rule, &[], s(1000)).unwrap());
            assert_eq!(Session::read(&rule, &headers, s(1500)), Some(session), "{carrier:?}");
        }
    }

    #[test]
    fn only_a_permanent_cookie_outlives_the_client_and_no_longer_than_the_session() {
        let session = Session { endpoint: 0xbeef, began: 1000 };
        let line = |rule: &SessionPersistence| {
            session.write(rule, &[RouteMatch::any()], s(1200)).unwrap().1.to_str().unwrap().to_owned()
        };
        let permanent = line(&rule(SessionCarrier::PermanentCookie, Some(s(600))));
        assert_eq!(permanent, "sid=000000000000beef.3e8; Path=/; Max-Age=400; HttpOnly; SameSite=Lax");
        assert!(!line(&rule(SessionCarrier::SessionCookie, Some(s(600)))).contains("Max-Age"));
    }

    #[test]
    fn a_session_ends_at_its_absolute_timeout() {
        let session = Session { endpoint: 1, began: 1000 };
        for (limit, now, lives) in [
            (Some(s(600)), 1600, true),
            (Some(s(600)), 1601, false),
            (None, 1_000_000, true),
            (Some(s(600)), 1000 - SKEW_S, true), // another node's clock is ahead
            (Some(s(600)), 999 - SKEW_S, false), // nobody's clock is that far ahead
        ] {
            let rule = rule(SessionCarrier::Header, limit);
            let headers = returned(&session.write(&rule, &[], s(1000)).unwrap());
            assert_eq!(Session::read(&rule, &headers, s(now)).is_some(), lives, "{limit:?} at {now}");
        }
    }

    #[test]
    fn what_is_no_token_is_no_session() {
        let long = format!("{}.1", "0".repeat(64));
        for text in ["", ".", "1", "1.", ".1", "g.1", "+1.1", "1.1.1", "-1.1", &long, "11111111111111111.1"] {
            assert_eq!(Session::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Session::parse(b"\xff.1"), None);
        assert_eq!(Session::parse(b"a.1f"), Some(Session { endpoint: 10, began: 31 }));
    }
}
