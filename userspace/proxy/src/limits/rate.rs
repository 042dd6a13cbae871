//! Local rate limits: token buckets, one for each distinct value of a rule's keys.
//!
//! A request passes when every rule has a token for it, and only then are tokens taken: all rules of a
//! policy are judged under one lock, held for the look-ups alone. A bucket is one number (GCRA): the moment at
//! which it would be full again, so an idle bucket is as good as none and may be forgotten.
//!
//! A rule remembers [`KEYS`] values at once. Over that, values that are new share one bucket: they get less
//! than they might, never more (fail closed), until idle ones make room. Who has a bucket keeps it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use weft_model::{LimitKey, RateLimitRule, ServiceAccount};

use crate::clock::{Moment, nanos};

/// The rate limits of one policy on this node, all workers together. Other rules are another one.
#[derive(Debug)]
pub struct RateLimit {
    made_of: Box<[RateLimitRule]>,
    rules: Box<[Rule]>,
    /// Keyed by what nobody outside knows: a client cannot make its value meet another's bucket. A value is
    /// kept as its hash, so a bucket costs the same whatever a header says.
    hasher: RandomState,
    buckets: Mutex<Box<[Buckets]>>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The client's ServiceAccount, where it is known. All that are not known are one.
    pub identity: Option<&'a ServiceAccount>,
    /// The client pod's address.
    pub ip: IpAddr,
    /// The request's headers. All requests without a key's header are one.
    pub headers: &'a HeaderMap,
}

/// A request is over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "rule {rule} of the rate limit has no token left, one comes in {wait:?}; try again later or raise the limit"
)]
pub struct Limited {
    /// The rule, the one with the longest wait where several refuse.
    pub rule: usize,
    /// Until every rule has a token, if nobody else takes it.
    pub wait: Duration,
}

impl Limited {
    /// `Retry-After`: whole seconds, at least one.
    pub fn retry_after(&self) -> u64 {
        let part = u64::from(self.wait.subsec_nanos() != 0);
        (self.wait.as_secs() + part).max(1)
    }
}

impl RateLimit {
    /// Every bucket is full.
    pub fn new(rules: &[RateLimitRule]) -> Self {
        Self {
            made_of: rules.into(),
            rules: rules.iter().map(Rule::of).collect(),
            hasher: RandomState::new(),
            buckets: Mutex::new(rules.iter().map(|_| Buckets::default()).collect()),
        }
    }

    /// Whether these are the rules that it was made of.
    pub fn is_of(&self, rules: &[RateLimitRule]) -> bool {
        *self.made_of == *rules
    }

    /// Takes a token of every rule, or none at all.
    pub fn take(&self, source: &Source<'_>, now: Moment) -> Result<(), Limited> {
        // Before the lock: a header may be long. More rules than that are rare enough to allocate.
        let (mut few, mut many) = ([0; 8], Vec::new());
        let hashes = few.get_mut(..self.rules.len()).unwrap_or_else(|| {
            many.resize(self.rules.len(), 0);
            &mut many
        });
        for (rule, hash) in self.rules.iter().zip(&mut *hashes) {
            *hash = self.hash(rule, source);
        }
        self.take_hashed(hashes, now)
    }

    fn take_hashed(&self, hashes: &[u64], now: Moment) -> Result<(), Limited> {
        let mut all = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut limited: Option<Limited> = None;
        for (index, (rule, buckets)) in self.rules.iter().zip(&mut *all).enumerate() {
            let wait = rule.wait(buckets.full_at(hashes[index], now), now);
            if !wait.is_zero() && limited.is_none_or(|before| before.wait < wait) {
                limited = Some(Limited { rule: index, wait });
            }
        }
        if let Some(limited) = limited {
            return Err(limited);
        }
        for ((rule, buckets), hash) in self.rules.iter().zip(&mut *all).zip(hashes) {
            buckets.fill_later(*hash, rule.interval, now);
        }
        Ok(())
    }

    fn hash(&self, rule: &Rule, source: &Source<'_>) -> u64 {
        let mut hash = self.hasher.build_hasher();
        for key in &rule.keys {
            match key {
                LimitKey::SourceIp => std::hash::Hash::hash(&source.ip.to_canonical(), &mut hash),
                LimitKey::SourceIdentity => std::hash::Hash::hash(&source.identity, &mut hash),
                LimitKey::Header(name) => {
                    for value in source.headers.get_all(&**name) {
                        std::hash::Hash::hash(value.as_bytes(), &mut hash);
                    }
                    hash.write_u8(0xff);
                }
            }
        }
        hash.finish()
    }
}

#[derive(Debug)]
struct Rule {
    /// A token comes so often; 0 is never.
    interval: u64,
    /// A bucket that is so far from full has one token left.
    reach: u64,
    /// For a rule that never lets anything pass.
    per: Duration,
    keys: Vec<LimitKey>,
}

impl Rule {
    /// A bucket without room for one token would be a rule that lets nothing pass: it has room for one.
    fn of(rule: &RateLimitRule) -> Self {
        let interval = nanos(rule.per).checked_div(u64::from(rule.requests)).map_or(0, |time| time.max(1));
        let reach = interval.saturating_mul(u64::from(rule.burst.max(1) - 1));
        Self { interval, reach, per: rule.per, keys: rule.keys.clone() }
    }

    /// How long until a bucket that is full at `full_at` has a token.
    fn wait(&self, full_at: u64, now: Moment) -> Duration {
        if self.interval == 0 {
            return self.per.max(Duration::from_nanos(1));
        }
        Duration::from_nanos(full_at.saturating_sub(self.reach).saturating_sub(now.nanos()))
    }
}

/// The buckets of one rule: when each is full.
#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<u64, u64>,
    /// For values that found no room.
    overflow: u64,
    /// No use in looking for idle ones before.
    crowded_until: u64,
}

impl Buckets {
    fn full_at(&mut self, value: u64, now: Moment) -> u64 {
        if let Some(full_at) = self.full_at.get(&value) {
            return *full_at;
        }
        if self.full_at.len() < KEYS || self.makes_room(now) { 0 } else { self.overflow }
    }

    /// Takes a token: the bucket is full so much later.
    fn fill_later(&mut self, value: u64, interval: u64, now: Moment) {
        let later = |full_at: u64| full_at.max(now.nanos()).saturating_add(interval);
        if let Some(full_at) = self.full_at.get_mut(&value) {
            *full_at = later(*full_at);
        } else if self.full_at.len() < KEYS {
            self.full_at.insert(value, later(0));
        } else {
            self.overflow = later(self.overflow);
        }
    }

    /// Forgets the idle ones. Looks at all, so not more often than once in a while.
    fn makes_room(&mut self, now: Moment) -> bool {
        if now.nanos() < self.crowded_until {
            return false;
        }
        self.full_at.retain(|_, full_at| *full_at > now.nanos());
        self.crowded_until = now.after(PAUSE).nanos();
        self.full_at.len() < KEYS
    }
}

/// Values that one rule tells apart at once.
pub const KEYS: usize = 8192;
/// Between two searches for idle buckets: each looks at all of them, under the lock.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
