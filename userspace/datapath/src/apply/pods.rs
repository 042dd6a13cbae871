//! Pods: by address, for all of the mesh; by network namespace, for those of this node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    net::IpAddr,
    thread,
    time::Duration,
};

use weft_abi::{Addr, BePort, NetnsKey, Pod, PodRow, pod_flags};
use weft_model::{ObjectName, Workload};

use crate::{
    maps::{Error, Maps},
    netns::Namespaces,
    rows::token,
};

/// What the kernel has of pods.
#[derive(Default)]
pub(crate) struct Pods {
    ips: HashMap<Addr, PodRow>,
    netns: HashMap<u64, Pod>,
    /// Ports of the pods' outbound listeners, by network namespace.
    outbound: HashMap<u64, BePort>,
}

/// What an enrolled pod of this node has beside its Workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Cookie of its network namespace.
    pub netns: u64,
    /// Id of its policies.
    pub policy: u64,
    /// [`pod_flags`] of its policies.
    pub flags: u32,
    /// Port of its outbound listener.
    pub outbound: BePort,
}

impl Pods {
    /// What an earlier agent left in the maps.
    pub(crate) fn adopt(maps: &Maps) -> Self {
        let ips = maps.pod_ips.entries().into_iter().collect();
        let netns: HashMap<_, _> =
            maps.pods.entries().into_iter().map(|(key, pod)| (key.cookie, pod)).collect();
        let outbound = netns.iter().map(|(cookie, pod)| (*cookie, pod.outbound)).collect();
        Self { ips, netns, outbound }
    }

    /// The rows by address that are wanted. Nothing is written; what does not fit is refused here, whole.
    pub(crate) fn plan<'a>(
        &self,
        maps: &Maps,
        workloads: impl Iterator<Item = &'a Workload> + Clone,
        places: &BTreeMap<ObjectName, Place>,
        namespaces: &Namespaces,
    ) -> Result<HashMap<Addr, PodRow>, Error> {
        let mut wanted = rows(workloads.clone(), places);
        beside(&mut wanted, workloads, places, namespaces);
        let new = wanted.keys().filter(|addr| !self.ips.contains_key(addr)).count();
        maps.pod_ips.room_for(self.ips.len() + new)?;
        let netns: HashSet<u64> = places.values().map(|place| place.netns).collect();
        maps.pods.room_for(netns.len())?;
        Ok(wanted)
    }

    /// Writes rows by address. A row carries the pod's policies: this is where a new policy takes hold.
    ///
    /// A pod that had none is marked first: whoever dials it from then on is attested, and handshakes that
    /// are under way end before anybody asks who they are of.
    pub(crate) fn write_ips(&mut self, maps: &mut Maps, wanted: HashMap<Addr, PodRow>) -> Result<(), Error> {
        let mut marked = false;
        for addr in wanted.iter().filter(|(_, row)| row.policy != 0).map(|(addr, _)| addr) {
            if let Some(before) = self.ips.get(addr).filter(|before| before.policy == 0 && before.netns != 0)
            {
                maps.pod_ips.put(addr, &PodRow { flags: before.flags | pod_flags::GUARDED, ..*before })?;
                marked = true;
            }
        }
        if marked {
            thread::sleep(HANDSHAKE);
        }
        for (addr, row) in &wanted {
            if self.ips.get(addr) != Some(row) {
                maps.pod_ips.put(addr, row)?;
            }
        }
        for addr in self.ips.keys().filter(|addr| !wanted.contains_key(addr)) {
            maps.pod_ips.remove(addr)?;
        }
        self.ips = wanted;
        Ok(())
    }

    /// The pods of this node whose address names other policies than `places` gives them. A pod that was
    /// not enrolled here before is not one of them: enrolling cuts nothing.
    pub(crate) fn changed_policies<'a>(
        &self,
        workloads: impl Iterator<Item = &'a Workload>,
        places: &BTreeMap<ObjectName, Place>,
    ) -> BTreeSet<ObjectName> {
        let differs = |workload: &&Workload| {
            places.get(&workload.name).is_some_and(|place| {
                let before =
                    |ip: &IpAddr| self.ips.get(&Addr::from(*ip)).filter(|row| row.netns == place.netns);
                workload.ips.iter().filter_map(before).any(|row| row.policy != place.policy)
            })
        };
        workloads.filter(differs).map(|workload| workload.name.clone()).collect()
    }

    /// Where an earlier agent left a pod, whose namespace cannot be opened now.
    pub(crate) fn left(&self, workload: &Workload) -> Option<Place> {
        let rows = workload.ips.iter().filter_map(|ip| self.ips.get(&Addr::from(*ip)));
        let row = rows.into_iter().find(|row| row.netns != 0)?;
        let flags = row.flags & !(pod_flags::ENROLLED | pod_flags::GUARDED);
        Some(Place { netns: row.netns, policy: row.policy, flags, outbound: row.outbound })
    }

    /// Writes a row by network namespace: from here on the pod's own connections are ours.
    pub(crate) fn enrol(&mut self, maps: &mut Maps, workload: &Workload, netns: u64) -> Result<(), Error> {
        let pod = Pod {
            ip4: first(workload, IpAddr::is_ipv4),
            ip6: first(workload, IpAddr::is_ipv6),
            identity: token::service_account(&workload.service_account),
            namespace: token::namespace(&workload.name.namespace),
            outbound: self.outbound(netns),
            _pad: [0; 6],
        };
        if self.netns.get(&netns) != Some(&pod) {
            maps.pods.put(&NetnsKey { cookie: netns }, &pod)?;
            self.netns.insert(netns, pod);
        }
        Ok(())
    }

    /// Where the connections of a pod come to the node's proxy; port 0 for nowhere. The pod's own row is last:
    /// by then nobody else can come there.
    pub(crate) fn listen(&mut self, maps: &mut Maps, netns: u64, port: u16) -> Result<(), Error> {
        let outbound = BePort::new(port);
        match port {
            // Of a pod that is gone nothing is kept.
            0 => self.outbound.remove(&netns),
            _ => self.outbound.insert(netns, outbound),
        };
        for (addr, row) in self.ips.iter_mut().filter(|(_, row)| row.netns == netns) {
            let new = PodRow { outbound, ..*row };
            if *row != new {
                maps.pod_ips.put(addr, &new)?;
                *row = new;
            }
        }
        if let Some(pod) = self.netns.get_mut(&netns) {
            let new = Pod { outbound, ..*pod };
            if *pod != new {
                maps.pods.put(&NetnsKey { cookie: netns }, &new)?;
                *pod = new;
            }
        }
        Ok(())
    }

    /// See [`Pods::listen`].
    pub(crate) fn outbound(&self, netns: u64) -> BePort {
        self.outbound.get(&netns).copied().unwrap_or(BePort { be: 0 })
    }

    /// Whether connections of any pod come to the node's proxy.
    pub(crate) fn come_to_proxy(&self) -> bool {
        self.outbound.values().any(|port| port.be != 0)
    }

    /// Removes the rows of network namespaces that `keep` does not want.
    pub(crate) fn withdraw(&mut self, maps: &mut Maps, keep: impl Fn(u64) -> bool) -> Result<(), Error> {
        let gone: Vec<u64> = self.netns.keys().copied().filter(|netns| !keep(*netns)).collect();
        for cookie in gone {
            maps.pods.remove(&NetnsKey { cookie })?;
            self.netns.remove(&cookie);
            self.outbound.remove(&cookie);
        }
        Ok(())
    }

    /// Rows by address and by namespace.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.ips.len(), self.netns.len())
    }
}

/// Adds rows for addresses that a pod's namespace has and its object does not name: nobody shall come
/// round the pod's policies by a second address.
fn beside<'a>(
    rows: &mut HashMap<Addr, PodRow>,
    workloads: impl Iterator<Item = &'a Workload>,
    places: &BTreeMap<ObjectName, Place>,
    namespaces: &Namespaces,
) {
    let mut extra = HashSet::new();
    for workload in workloads {
        let (Some(place), Some(held)) = (places.get(&workload.name), namespaces.get(&workload.name)) else {
            continue;
        };
        for ip in &held.addresses {
            match rows.entry(Addr::from(*ip)) {
                Entry::Vacant(vacant) => {
                    extra.insert(*ip);
                    vacant.insert(row(workload, *place));
                }
                // Another pod has the same one, and policies: it must not lose them to somebody who has none.
                Entry::Occupied(mut other) if extra.contains(ip) && other.get().policy == 0 => {
                    other.insert(row(workload, *place));
                }
                Entry::Occupied(_) => {}
            }
        }
    }
}

fn row(workload: &Workload, place: Place) -> PodRow {
    PodRow {
        netns: place.netns,
        identity: token::service_account(&workload.service_account),
        namespace: token::namespace(&workload.name.namespace),
        policy: place.policy,
        flags: place.flags
            | if workload.enrolled { pod_flags::ENROLLED } else { 0 }
            | if place.policy == 0 { 0 } else { pod_flags::GUARDED },
        outbound: place.outbound,
        _pad: 0,
    }
}

fn rows<'a>(
    workloads: impl Iterator<Item = &'a Workload>,
    places: &BTreeMap<ObjectName, Place>,
) -> HashMap<Addr, PodRow> {
    let mut rows: HashMap<Addr, PodRow> = HashMap::new();
    for workload in workloads {
        let place = places.get(&workload.name).copied().unwrap_or_default();
        let row = row(workload, place);
        for ip in &workload.ips {
            // An address that two pods claim is the one's that is here, else the first's by name.
            let slot = rows.entry(Addr::from(*ip)).or_insert(row);
            if slot.netns == 0 && row.netns != 0 {
                *slot = row;
            }
        }
    }
    rows
}

fn first(workload: &Workload, of: fn(&IpAddr) -> bool) -> Addr {
    workload.ips.iter().find(|ip| of(ip)).map_or(Addr::ANY, |ip| Addr::from(*ip))
}

/// From the connect hook to the server's hook, on one node; much more than it takes.
const HANDSHAKE: Duration = Duration::from_millis(20);
