//! Tokens of the requests that come to a pod: whose are taken, whether they are good, and what they say.
//!
//! ```text
//! headers ──► the place's prefix? ──► Token::read ──► providers of that place and issuer ──► Verifier ──► ProvenClaims
//!               no: no token            └────────────── any refusal: 401, with its Reason ◄─────┘
//! ```
//! A request without a token passes, and proves nothing; it is for policies to ask for one. A token that is not good is
//! refused, whatever policies say. What was verified is taken out of the request, unless the provider says otherwise.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_identity::{Token, TokenRefused, Verifier};
use weft_model::{Jwks, JwksHeld, JwksSource, JwtProvider, ObjectName, ProvenClaims, Snapshot};

use crate::Reason;

/// Whose tokens the pods of this node take, of one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    pods: HashMap<ObjectName, Arc<Providers>>,
    /// The keys that are in force, by their place.
    keys: JwksHeld,
}

/// Whose tokens one pod takes.
#[derive(Debug)]
pub(crate) struct Providers {
    from: Arc<[JwtProvider]>,
    keys: Vec<Option<Arc<Jwks>>>,
    /// One for each of `from`; `None` while it has no keys.
    verifiers: Vec<Option<Verifier>>,
    headers: Vec<(HeaderName, Vec<Place>)>,
}

/// A place in a header that may have a token.
#[derive(Debug)]
struct Place {
    prefix: Arc<str>,
    /// Indices of the providers whose tokens may be there.
    providers: Vec<usize>,
}

/// Why a request is not taken with the token that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The token is not good.
    Token(TokenRefused),
    /// Several tokens, of which each reader would take another.
    Several,
    /// Whether it is good nobody can say: its provider's keys have never been had here.
    NoKeys,
}

/// What the tokens in `headers` prove to `pod`, as its node's proxy would say by `snapshot`; they are taken out as there.
/// `None` where nobody looks at tokens.
pub fn authenticate(
    snapshot: &Snapshot,
    pod: &ObjectName,
    headers: &mut HeaderMap,
) -> Result<Option<ProvenClaims>, Reason> {
    let tokens = Tokens::updated(snapshot, &Tokens::default());
    let providers = tokens.of(pod);
    providers.map(|providers| providers.authenticate(headers)).transpose().map_err(Refusal::reason)
}

impl Tokens {
    /// Those of `snapshot`. Keys that it does not have stay as they were: an agent that has just been started has none.
    pub(crate) fn updated(snapshot: &Snapshot, before: &Self) -> Self {
        let sources =
            snapshot.jwt.values().flat_map(|providers| providers.iter()).map(|provider| &provider.keys);
        let held = |location: Arc<str>| {
            let keys = snapshot.jwks.get(&location).or_else(|| before.keys.get(&location))?;
            Some((location, Arc::clone(keys)))
        };
        let keys: JwksHeld = sources.filter_map(JwksSource::location).filter_map(held).collect();
        let pods = snapshot.jwt.iter().map(|(pod, providers)| {
            let keys = providers.iter().map(|provider| keys_of(provider, &keys)).collect();
            let same = before.pods.get(pod).filter(|last| last.from == *providers && last.keys == keys);
            (pod.clone(), same.map_or_else(|| Arc::new(Providers::new(providers, keys)), Arc::clone))
        });
        Self { pods: pods.collect(), keys }
    }

    /// Whose tokens `pod` takes; `None` where nobody looks at tokens.
    pub(crate) fn of(&self, pod: &ObjectName) -> Option<&Arc<Providers>> {
        self.pods.get(pod)
    }
}

impl Providers {
    fn new(from: &Arc<[JwtProvider]>, keys: Vec<Option<Arc<Jwks>>>) -> Self {
        let with_keys = from.iter().zip(&keys);
        let verifiers =
            with_keys.map(|(provider, keys)| Some(Verifier::new(provider, keys.as_ref()?))).collect();
        let mut places: BTreeMap<&str, BTreeMap<&Arc<str>, Vec<usize>>> = BTreeMap::new();
        for (index, provider) in from.iter().enumerate() {
            for header in &provider.headers {
                places.entry(&header.name).or_default().entry(&header.prefix).or_default().push(index);
            }
        }
        let headers = places.into_iter().filter_map(|(name, prefixes)| {
            let prefixes = prefixes.into_iter();
            let place = |(prefix, providers): (&Arc<str>, _)| Place { prefix: Arc::clone(prefix), providers };
            let mut places: Vec<_> = prefixes.map(place).collect();
            // Of two prefixes that a value begins with, the longer one is meant.
            places.sort_by_key(|place| std::cmp::Reverse(place.prefix.len()));
            // Names are checked where the policy is read.
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, places))
        });
        Self { from: Arc::clone(from), headers: headers.collect(), keys, verifiers }
    }

    /// What the tokens in `headers` prove. They are taken out, unless the app is to see them, too.
    pub(crate) fn authenticate(&self, headers: &mut HeaderMap) -> Result<ProvenClaims, Refusal> {
        let mut proven = ProvenClaims::default();
        for (name, places) in &self.headers {
            let mut lines = headers.get_all(name).iter().enumerate();
            let found = |(line, value)| Some((line, places.iter().find_map(|place| place.token(value))?));
            let mut found = lines.by_ref().filter_map(found);
            let Some((line, (place, text))) = found.next() else { continue };
            if found.next().is_some() {
                return Err(Refusal::Several);
            }
            let text = str::from_utf8(text).map_err(|_| Refusal::Token(TokenRefused::Malformed))?;
            let stays = self.prove(text, place, &mut proven)?;
            if !stays {
                take_out(headers, name, line);
            }
        }
        Ok(proven)
    }

    /// Adds what a token proves; whether the app is to see it.
    fn prove(&self, text: &str, place: &Place, proven: &mut ProvenClaims) -> Result<bool, Refusal> {
        let token = Token::read(text).map_err(Refusal::Token)?;
        let issuers = place.providers.iter().filter(|&&index| *self.from[index].issuer == *token.issuer());
        let (mut refusal, mut forward, mut is_good) = (Refusal::Token(TokenRefused::Issuer), false, false);
        let mut is_first = true;
        // Two providers may be of one issuer, for different audiences.
        for &index in issuers {
            let provider = &self.from[index];
            let verified = match &self.verifiers[index] {
                Some(verifier) => verifier.verify(&token).map_err(Refusal::Token),
                None => Err(Refusal::NoKeys),
            };
            match verified {
                Ok(claims) => {
                    if proven.0.insert(Arc::clone(&provider.name), claims).is_some() {
                        return Err(Refusal::Several);
                    }
                    forward |= provider.forward;
                    is_good = true;
                }
                Err(why) if is_first => refusal = why,
                Err(_) => {}
            }
            is_first = false;
        }
        if is_good { Ok(forward) } else { Err(refusal) }
    }
}

impl Place {
    /// The token in `value`, if it is one of this place.
    fn token<'v>(&self, value: &'v HeaderValue) -> Option<(&Self, &'v [u8])> {
        let (start, rest) = value.as_bytes().split_at_checked(self.prefix.len())?;
        start.eq_ignore_ascii_case(self.prefix.as_bytes()).then_some((self, rest))
    }
}

impl Refusal {
    /// The reason that users see.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Token(why) => why.reason(),
            Self::Several => Reason::TOKEN_MALFORMED,
            Self::NoKeys => Reason::TOKEN_KEYS_UNAVAILABLE,
        }
    }

    /// What `WWW-Authenticate` says (RFC 6750, 3). `None` where another token would not help.
    pub(crate) fn challenge(self) -> Option<HeaderValue> {
        let said = match self {
            Self::NoKeys => return None,
            Self::Several => "there are several tokens".to_owned(),
            Self::Token(why) => why.to_string(),
        };
        let text = format!("Bearer error=\"invalid_token\", error_description=\"{said}\"");
        Some(HeaderValue::try_from(text).expect("what is said is plain text without quotes"))
    }
}

fn keys_of(provider: &JwtProvider, held: &JwksHeld) -> Option<Arc<Jwks>> {
    match &provider.keys {
        JwksSource::Inline(jwks) => Some(Arc::clone(jwks)),
        elsewhere => held.get(&elsewhere.location()?).cloned(),
    }
}

/// Removes one line of a header.
fn take_out(headers: &mut HeaderMap, name: &HeaderName, line: usize) {
    let all = headers.get_all(name).iter().enumerate();
    let others: Vec<_> = all.filter(|(other, _)| *other != line).map(|(_, value)| value.clone()).collect();
    headers.remove(name);
    for value in others {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests;
