//! Frontends, slots, backends.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use tokio::time::Instant;
use weft_abi::{Backend, BackendKey, MaglevKey, ServiceKey, ServiceRow, SlotKey, UDP};
use weft_model::{Locality, ObjectName, Service};
use weft_transport::Protocol;

use super::GRACE;
use crate::{
    maps::{Error, Maps},
    rows::service::{Frontend, compile},
};

/// What the kernel has of services, and what is to be removed.
#[derive(Default)]
pub(crate) struct Services {
    live: HashMap<ServiceKey, Live>,
    seen: BTreeMap<ObjectName, Seen>,
    locality: Arc<Locality>,
    retired: Vec<(Instant, Retired)>,
    generation: u32,
    slots: usize,
    /// Whether connections may go through the node's proxy.
    may_proxy: bool,
}

/// A change that is ready to be written.
#[derive(Default)]
pub(crate) struct Change {
    frontends: Vec<(ObjectName, Frontend)>,
    gone: Vec<ServiceKey>,
    seen: Vec<(ObjectName, Option<Seen>)>,
}

struct Live {
    frontend: Frontend,
    generation: u32,
    owner: ObjectName,
}

struct Seen {
    service: Arc<Service>,
    keys: Vec<ServiceKey>,
    /// Some of them are for the proxy, once it knows them.
    early: bool,
}

enum Retired {
    Slots { service: u64, generation: u32, slots: u32, chunks: u32 },
    Backends { key: ServiceKey, ids: Vec<u64> },
}

impl Services {
    /// What an earlier agent left in the maps, under no owner until a Snapshot names it.
    pub(crate) fn adopt(maps: &mut Maps, may_proxy: bool) -> Result<Self, Error> {
        let mut adopted = Self { may_proxy, ..Self::default() };
        let slots: HashMap<_, _> = maps.slots.entries().into_iter().collect();
        let mut backends: HashMap<u64, Vec<_>> = HashMap::new();
        for (key, backend) in maps.backends.entries() {
            backends.entry(backend.service).or_default().push((key.id, backend));
        }
        let maglev: HashMap<_, _> = maps.maglev.entries().into_iter().collect();
        let mut kept = HashSet::new();
        for (key, row) in maps.services.entries() {
            let at = |slot| SlotKey { service: row.id, generation: row.generation, slot };
            let chunk = |chunk| MaglevKey { service: row.id, generation: row.generation, chunk };
            let mut own = backends.remove(&row.id).unwrap_or_default();
            own.sort_unstable_by_key(|(id, _)| *id);
            let chunks = row.maglev.div_ceil(weft_abi::MAGLEV_CHUNK);
            let frontend = Frontend {
                key,
                id: row.id,
                flags: row.flags,
                algorithm: row.algorithm,
                affinity_s: row.affinity_s,
                slots: (0..row.slots).filter_map(|slot| slots.get(&at(slot)).copied()).collect(),
                backends: own,
                maglev: (0..chunks).filter_map(|index| maglev.get(&chunk(index)).copied()).collect(),
                maglev_size: row.maglev,
            };
            kept.insert((row.id, row.generation));
            adopted.generation = adopted.generation.max(row.generation);
            adopted.slots += frontend.slots.len();
            adopted.live.insert(key, Live { frontend, generation: row.generation, owner: nobody() });
        }
        // What an interrupted update left behind.
        slots
            .keys()
            .filter(|key| !kept.contains(&(key.service, key.generation)))
            .try_for_each(|key| maps.slots.remove(key))?;
        maglev
            .keys()
            .filter(|key| !kept.contains(&(key.service, key.generation)))
            .try_for_each(|key| maps.maglev.remove(key))?;
        backends.values().flatten().try_for_each(|(id, _)| maps.backends.remove(&BackendKey { id: *id }))?;
        adopted.generation = slots.keys().map(|key| key.generation).fold(adopted.generation, u32::max);
        Ok(adopted)
    }

    /// Whether connections may go through the node's proxy.
    pub(crate) fn may_proxy(&self) -> bool {
        self.may_proxy
    }

    /// Whether there are frontends for the proxy that it does not know yet.
    pub(crate) fn wait_for_proxy(&self) -> bool {
        self.seen.values().any(|seen| seen.early)
    }

    /// Whether connections to any Service go to the node's proxy.
    pub(crate) fn go_to_proxy(&self) -> bool {
        self.live.values().any(|live| live.frontend.is_for_proxy())
    }

    /// Compares `services` with what is there. Nothing is written; an update that does not fit is refused
    /// here, whole.
    ///
    /// A frontend that becomes the proxy's stays in the kernel until the proxy `knows` these Services: sent there
    /// before, its connections would be refused. One that is the proxy's already stays so, whatever became of it.
    pub(crate) fn plan(
        &self,
        maps: &Maps,
        services: &BTreeMap<ObjectName, Arc<Service>>,
        locality: &Arc<Locality>,
        knows: bool,
    ) -> Result<Change, Error> {
        let moved = self.locality != *locality;
        let mut change = Change::default();
        let mut kept = Vec::with_capacity(self.seen.len());
        // Both are in the order of their names, and nearly all are the same: looking each up would take longer
        // than all the rest of a small change.
        let mut before = self.seen.iter().peekable();
        for (name, service) in services {
            while let Some((old, seen)) = before.next_if(|(old, _)| *old < name) {
                change.forget(old, seen);
            }
            let seen = before.next_if(|(old, _)| *old == name).map(|(_, seen)| seen);
            let same = |seen: &&Seen| !moved && Arc::ptr_eq(&seen.service, service) && !(seen.early && knows);
            if let Some(seen) = seen.filter(same) {
                kept.push(seen);
                continue;
            }
            let mut frontends = compile(service, locality);
            let early = self.keep_in_the_kernel(&mut frontends, knows);
            let keys: Vec<_> = frontends.iter().map(|frontend| frontend.key).collect();
            if let Some(seen) = seen {
                change.gone.extend(seen.keys.iter().filter(|key| !keys.contains(key)));
            }
            change.seen.push((name.clone(), Some(Seen { service: Arc::clone(service), keys, early })));
            change.frontends.extend(frontends.into_iter().map(|frontend| (name.clone(), frontend)));
        }
        before.for_each(|(old, seen)| change.forget(old, seen));
        if self.seen.is_empty() {
            // Nothing was written yet: what an earlier agent left has no owner.
            let nobody = nobody();
            change
                .gone
                .extend(self.live.iter().filter(|(_, live)| live.owner == nobody).map(|(key, _)| *key));
        }
        if !change.gone.is_empty() {
            let changed = change.seen.iter().filter_map(|(_, seen)| seen.as_ref());
            let claimed: HashSet<_> =
                kept.into_iter().chain(changed).flat_map(|seen| &seen.keys).copied().collect();
            change.gone.retain(|key| !claimed.contains(key));
        }
        change.frontends.retain(|(name, new)| {
            self.live.get(&new.key).is_none_or(|live| live.frontend != *new || live.owner != *name)
        });
        self.fits(maps, &change)?;
        Ok(change)
    }

    /// Takes the proxy out of those that cannot go there, and tells whether some can later.
    fn keep_in_the_kernel(&self, frontends: &mut [Frontend], knows: bool) -> bool {
        let there = |key: &ServiceKey| self.live.get(key).is_some_and(|live| live.frontend.is_for_proxy());
        let mut early = false;
        for frontend in frontends.iter_mut().filter(|frontend| frontend.is_for_proxy()) {
            let waits = !knows && !there(&frontend.key);
            if waits || !self.may_proxy {
                frontend.stay_in_the_kernel();
            }
            early |= waits && self.may_proxy;
        }
        early
    }

    /// Writes a change. A frontend is switched by one write of its row.
    pub(crate) fn write(
        &mut self,
        maps: &mut Maps,
        change: Change,
        locality: &Arc<Locality>,
    ) -> Result<(), Error> {
        for (owner, frontend) in change.frontends {
            match self.live.get_mut(&frontend.key) {
                Some(live) if live.frontend == frontend => live.owner = owner,
                _ => self.switch(maps, owner, frontend)?,
            }
        }
        for key in change.gone {
            maps.services.remove(&key)?;
            if let Some(live) = self.live.remove(&key) {
                self.retire(&live, &[]);
            }
        }
        for (name, seen) in change.seen {
            match seen {
                Some(seen) => self.seen.insert(name, seen),
                None => self.seen.remove(&name),
            };
        }
        self.locality = Arc::clone(locality);
        Ok(())
    }

    /// Removes what was replaced long enough ago; whether that was anything.
    pub(crate) fn sweep(&mut self, maps: &mut Maps, now: Instant) -> Result<bool, Error> {
        let due = self.retired.partition_point(|(since, _)| now.duration_since(*since) >= GRACE);
        for (_, retired) in self.retired.drain(..due).collect::<Vec<_>>() {
            match retired {
                Retired::Slots { service, generation, slots, chunks } => {
                    self.slots -= slots as usize;
                    (0..slots)
                        .try_for_each(|slot| maps.slots.remove(&SlotKey { service, generation, slot }))?;
                    (0..chunks).try_for_each(|chunk| {
                        maps.maglev.remove(&MaglevKey { service, generation, chunk })
                    })?;
                }
                Retired::Backends { key, ids } => {
                    let back = |id: &u64| self.live.get(&key).is_some_and(|live| live.frontend.has(*id));
                    for id in ids.into_iter().filter(|id| !back(id)) {
                        maps.backends.remove(&BackendKey { id })?;
                        maps.open.remove(&BackendKey { id })?;
                    }
                }
            }
        }
        Ok(due > 0)
    }

    /// The Service of a frontend.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (u64, &ObjectName)> {
        self.live.values().map(|live| (live.frontend.id, &live.owner))
    }

    /// Every frontend with its generation and owner.
    pub(crate) fn frontends(&self) -> impl Iterator<Item = (&Frontend, u32, &ObjectName)> {
        self.live.values().map(|live| (&live.frontend, live.generation, &live.owner))
    }

    /// The backends of UDP frontends.
    pub(crate) fn udp_backends(&self) -> HashSet<u64> {
        let udp = self.live.values().filter(|live| live.frontend.key.protocol == UDP);
        udp.flat_map(|live| &live.frontend.backends).map(|(id, _)| *id).collect()
    }

    /// The addresses and ports behind frontends.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        self.live.values().flat_map(|Live { frontend, .. }| {
            let protocol = if frontend.key.protocol == UDP { Protocol::Udp } else { Protocol::Tcp };
            let at = |backend: &Backend| SocketAddr::new(backend.addr.to_ip(), backend.port.get());
            frontend.backends.iter().map(move |(_, backend)| (protocol, at(backend)))
        })
    }

    /// Frontends, slots and backends in the maps.
    pub(crate) fn fill(&self) -> (usize, usize, usize) {
        (self.live.len(), self.slots, self.live.values().map(|live| live.frontend.backends.len()).sum())
    }

    fn switch(&mut self, maps: &mut Maps, owner: ObjectName, frontend: Frontend) -> Result<(), Error> {
        self.generation += 1;
        let generation = self.generation;
        let before =
            self.live.get(&frontend.key).map(|old| old.frontend.backends.as_slice()).unwrap_or_default();
        if let Err(error) = write(maps, &frontend, generation, before) {
            // The row still names the old generation; what was written of the new one goes.
            let kept: Vec<_> = before.iter().map(|(id, _)| *id).collect();
            self.slots += frontend.slots.len();
            self.retire(&Live { frontend, generation, owner }, &kept);
            return Err(error);
        }
        let old = self.live.remove(&frontend.key);
        let before = old.as_ref().map(|old| old.frontend.backends.as_slice()).unwrap_or_default();
        let mut left = before.iter().filter(|(id, _)| !frontend.has(*id));
        // The new generation is in force: whatever comes of this, the old one has to be accounted for.
        let marked = left.try_for_each(|(id, backend)| {
            maps.backends.put(&BackendKey { id: *id }, &Backend { retired: 1, ..*backend })
        });
        self.slots += frontend.slots.len();
        if let Some(old) = old {
            self.retire(&old, &frontend.backends.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        }
        self.live.insert(frontend.key, Live { frontend, generation, owner });
        marked
    }

    fn retire(&mut self, old: &Live, kept: &[u64]) {
        let now = Instant::now();
        let count = |n: usize| u32::try_from(n).expect("rows of one frontend");
        let (slots, chunks) = (count(old.frontend.slots.len()), count(old.frontend.maglev.len()));
        let (service, generation) = (old.frontend.id, old.generation);
        self.retired.push((now, Retired::Slots { service, generation, slots, chunks }));
        let kept: HashSet<_> = kept.iter().collect();
        let ids: Vec<_> =
            old.frontend.backends.iter().map(|(id, _)| *id).filter(|id| !kept.contains(id)).collect();
        if !ids.is_empty() {
            self.retired.push((now, Retired::Backends { key: old.frontend.key, ids }));
        }
    }

    fn fits(&self, maps: &Maps, change: &Change) -> Result<(), Error> {
        let new = |of: fn(&Frontend) -> usize| {
            change.frontends.iter().map(|(_, frontend)| of(frontend)).sum::<usize>()
        };
        if change.frontends.is_empty() {
            return Ok(());
        }
        // What is replaced stays beside what replaces it, and is removed later.
        let (services, slots, backends) = self.fill();
        let (retired, retired_chunks) = self.retired();
        let added = change.frontends.iter().filter(|(_, f)| !self.live.contains_key(&f.key)).count();
        maps.services.room_for(services + added)?;
        maps.slots.room_for(slots + new(|frontend| frontend.slots.len()))?;
        let chunks: usize = self.live.values().map(|live| live.frontend.maglev.len()).sum();
        maps.maglev.room_for(chunks + retired_chunks + new(|frontend| frontend.maglev.len()))?;
        let unknown = |frontend: &Frontend| {
            let old = self.live.get(&frontend.key);
            frontend.backends.iter().filter(|(id, _)| old.is_none_or(|old| !old.frontend.has(*id))).count()
        };
        let unknown: usize = change.frontends.iter().map(|(_, frontend)| unknown(frontend)).sum();
        maps.backends.room_for(backends + retired + unknown)
    }

    /// Backends and Maglev chunks that are still to be removed.
    fn retired(&self) -> (usize, usize) {
        let count = |retired: &Retired| match retired {
            Retired::Slots { chunks, .. } => (0, *chunks as usize),
            Retired::Backends { ids, .. } => (ids.len(), 0),
        };
        let counts = self.retired.iter().map(|(_, retired)| count(retired));
        counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Frontend {
    fn has(&self, id: u64) -> bool {
        self.backends.binary_search_by_key(&id, |(id, _)| *id).is_ok()
    }

    fn row(&self, generation: u32) -> ServiceRow {
        ServiceRow {
            id: self.id,
            generation,
            slots: u32::try_from(self.slots.len()).expect("a Service has fewer than 2^32 endpoints"),
            flags: self.flags,
            algorithm: self.algorithm,
            affinity_s: self.affinity_s,
            maglev: self.maglev_size,
        }
    }
}

impl Change {
    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.frontends.is_empty() && self.gone.is_empty() && self.seen.is_empty()
    }

    /// The Service is no more.
    fn forget(&mut self, name: &ObjectName, seen: &Seen) {
        self.gone.extend(&seen.keys);
        self.seen.push((name.clone(), None));
    }
}

/// Writes a generation of a frontend, its row last.
fn write(
    maps: &mut Maps,
    frontend: &Frontend,
    generation: u32,
    before: &[(u64, Backend)],
) -> Result<(), Error> {
    let service = frontend.id;
    for (id, backend) in frontend.backends.iter().filter(|new| !has(before, new)) {
        maps.backends.put(&BackendKey { id: *id }, backend)?;
    }
    for (slot, value) in (0..).zip(&frontend.slots) {
        maps.slots.put(&SlotKey { service, generation, slot }, value)?;
    }
    for (chunk, value) in (0..).zip(&frontend.maglev) {
        maps.maglev.put(&MaglevKey { service, generation, chunk }, value)?;
    }
    maps.services.put(&frontend.key, &frontend.row(generation))
}

fn has(backends: &[(u64, Backend)], one: &(u64, Backend)) -> bool {
    backends.binary_search_by_key(&one.0, |(id, _)| *id).is_ok_and(|at| backends[at].1 == one.1)
}

fn nobody() -> ObjectName {
    ObjectName::new("", "")
}
