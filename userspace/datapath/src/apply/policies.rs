//! Policy rows. An id stands for its whole content: it is complete before a pod names it, and removed
//! after the last pod let go of it.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;
use weft_abi::{CidrMatch, PolicyKey};
use weft_policy::RuleName;

use super::GRACE;
use crate::{
    maps::{Error, Maps},
    rows::policy::PolicyRows,
};

/// What the kernel has of policies.
#[derive(Default)]
pub(crate) struct Policies {
    live: HashMap<u64, Keys>,
    /// Ids that an earlier agent wrote: it may not have come to the end.
    unsure: HashSet<u64>,
    retired: HashMap<u64, Instant>,
    rules: HashMap<u32, RuleName>,
}

#[derive(Default)]
struct Keys {
    policy: Vec<PolicyKey>,
    cidr: Vec<(u32, CidrMatch)>,
}

impl Policies {
    /// What an earlier agent left in the maps.
    pub(crate) fn adopt(maps: &Maps) -> Self {
        let mut adopted = Self::default();
        for (key, _) in maps.policy.entries() {
            adopted.live.entry(key.policy).or_default().policy.push(key);
        }
        for (key, _) in maps.cidr.entries() {
            adopted.live.entry(key.1.policy).or_default().cidr.push(key);
        }
        adopted.unsure = adopted.live.keys().copied().collect();
        adopted
    }

    /// Fails unless all of `wanted` fits beside what is there.
    pub(crate) fn fits(&self, maps: &Maps, wanted: &HashMap<u64, PolicyRows>) -> Result<(), Error> {
        let new: Vec<_> = wanted.values().filter(|rows| !self.live.contains_key(&rows.id)).collect();
        let (policy, cidr) = self.fill();
        maps.policy.room_for(policy + new.iter().map(|rows| rows.policy.len()).sum::<usize>())?;
        maps.cidr.room_for(cidr + new.iter().map(|rows| rows.cidr.len()).sum::<usize>())
    }

    /// Writes what is not there yet. Rows of an id that an earlier agent began are written again: it may
    /// not have come to the end.
    pub(crate) fn add(&mut self, maps: &mut Maps, wanted: HashMap<u64, PolicyRows>) -> Result<(), Error> {
        self.rules.clear();
        for (id, rows) in wanted {
            self.retired.remove(&id);
            self.rules.extend(rows.rules.iter().cloned());
            if self.live.contains_key(&id) && !self.unsure.contains(&id) {
                continue;
            }
            rows.cidr.iter().try_for_each(|(key, class)| maps.cidr.put(key, class))?;
            rows.policy.iter().try_for_each(|(key, row)| maps.policy.put(key, row))?;
            self.unsure.remove(&id);
            let policy = rows.policy.into_iter().map(|(key, _)| key).collect();
            self.live.insert(id, Keys { policy, cidr: rows.cidr.into_iter().map(|(key, _)| key).collect() });
        }
        Ok(())
    }

    /// Lets go of every id that is not in `used`.
    pub(crate) fn retire(&mut self, used: &HashSet<u64>) {
        let now = Instant::now();
        for id in self.live.keys().filter(|id| !used.contains(id)) {
            self.retired.entry(*id).or_insert(now);
        }
    }

    /// Removes what was let go of long enough ago; whether that was anything.
    pub(crate) fn sweep(&mut self, maps: &mut Maps, now: Instant) -> Result<bool, Error> {
        let due: Vec<u64> = self
            .retired
            .iter()
            .filter(|(_, since)| now.duration_since(**since) >= GRACE)
            .map(|(id, _)| *id)
            .collect();
        for id in &due {
            self.retired.remove(id);
            let Some(keys) = self.live.remove(id) else { continue };
            keys.policy.iter().try_for_each(|key| maps.policy.remove(key))?;
            keys.cidr.iter().try_for_each(|key| maps.cidr.remove(key))?;
        }
        Ok(!due.is_empty())
    }

    /// The rule that an event names.
    pub(crate) fn rules(&self) -> &HashMap<u32, RuleName> {
        &self.rules
    }

    /// Policy and CIDR rows in the maps.
    pub(crate) fn fill(&self) -> (usize, usize) {
        let sum = |of: fn(&Keys) -> usize| self.live.values().map(of).sum();
        (sum(|keys| keys.policy.len()), sum(|keys| keys.cidr.len()))
    }
}
