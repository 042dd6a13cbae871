//! Pods: by address, for all of the mesh; by network namespace, for those of this node.

mod stricter;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    net::IpAddr,
    thread,
    time::Duration,
};

use weft_abi::{Addr, BePort, NetnsKey, Pod, PodPort, PodPortKey, PodRow, pod_flags};
use weft_model::{Mtls, MtlsMode, ObjectName, Passage, Workload};

use crate::{
    maps::{Error, Maps},
    netns::Namespaces,
    rows::token,
};

/// What the kernel has of pods.
#[derive(Default)]
pub(crate) struct Pods {
    ips: HashMap<Addr, PodRow>,
    ports: HashMap<PodPortKey, PodPort>,
    netns: HashMap<u64, Pod>,
    /// Where the node's proxy listens in the pods' network namespaces.
    listening: HashMap<u64, Listening>,
}

/// The rows by address that are wanted.
#[derive(Default)]
pub(crate) struct Wanted {
    ips: HashMap<Addr, PodRow>,
    ports: HashMap<PodPortKey, PodPort>,
}

/// Ports of the listeners of a pod's own and of others' connections; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listening {
    pub outbound: BePort,
    pub inbound: BePort,
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
    /// Where the node's proxy listens.
    pub listening: Listening,
}

impl Pods {
    /// What an earlier agent left in the maps.
    pub(crate) fn adopt(maps: &Maps) -> Self {
        let ips = maps.pod_ips.entries().into_iter().collect();
        let netns: HashMap<_, _> =
            maps.pods.entries().into_iter().map(|(key, pod)| (key.cookie, pod)).collect();
        let ports = maps.pod_ports.entries().into_iter().collect();
        let listens = |pod: &Pod| Listening { outbound: pod.outbound, inbound: pod.inbound };
        let listening = netns.iter().map(|(cookie, pod)| (*cookie, listens(pod))).collect();
        Self { ips, ports, netns, listening }
    }

    /// The addresses of pods that are spoken to by mutual TLS, of this node and of others.
    pub(crate) fn sealed(&self) -> HashSet<IpAddr> {
        let sealed = |row: &PodRow| {
            let modes = row.flags & (pod_flags::TLS | pod_flags::BY_PORT);
            row.flags & (pod_flags::ENROLLED | pod_flags::PASSING) == pod_flags::ENROLLED && modes != 0
        };
        self.ips.iter().filter(|(_, row)| sealed(row)).map(|(addr, _)| addr.to_ip()).collect()
    }

    /// The rows by address that are wanted. Nothing is written; what does not fit is refused here, whole.
    pub(crate) fn plan<'a>(
        &self,
        maps: &Maps,
        workloads: impl Iterator<Item = &'a Workload> + Clone,
        places: &BTreeMap<ObjectName, Place>,
        namespaces: &Namespaces,
        mtls: &Mtls,
    ) -> Result<Wanted, Error> {
        let mut wanted = rows(workloads.clone(), places, mtls);
        beside(&mut wanted, workloads, places, namespaces, mtls);
        let new = wanted.ips.keys().filter(|addr| !self.ips.contains_key(addr)).count();
        maps.pod_ips.room_for(self.ips.len() + new)?;
        let new = wanted.ports.keys().filter(|key| !self.ports.contains_key(key)).count();
        maps.pod_ports.room_for(self.ports.len() + new)?;
        let netns: HashSet<u64> = places.values().map(|place| place.netns).collect();
        maps.pods.room_for(netns.len())?;
        Ok(wanted)
    }

    /// Writes rows by address. A row carries the pod's policies: this is where a new policy takes hold.
    ///
    /// A pod that nobody asked about before is marked first: whoever dials it from then on is attested, and
    /// handshakes that are under way end before anybody asks who they are of.
    pub(crate) fn write_ips(&mut self, maps: &mut Maps, wanted: Wanted) -> Result<(), Error> {
        let Wanted { ips: wanted, ports } = wanted;
        for (key, port) in ports.iter().filter(|(key, port)| self.ports.get(key) != Some(port)) {
            maps.pod_ports.put(key, port)?;
        }
        let is_guarded = |row: &PodRow| row.flags & pod_flags::GUARDED != 0;
        let mut marked = false;
        for addr in wanted.iter().filter(|(_, row)| is_guarded(row)).map(|(addr, _)| addr) {
            if let Some(before) = self.ips.get(addr).filter(|before| !is_guarded(before) && before.netns != 0)
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
        for key in self.ports.keys().filter(|key| !ports.contains_key(key)) {
            maps.pod_ports.remove(key)?;
        }
        self.ports = ports;
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
        let flags = row.flags & pod_flags::OF_POLICIES;
        let listening = Listening { outbound: row.outbound, inbound: row.inbound };
        Some(Place { netns: row.netns, policy: row.policy, flags, listening })
    }

    /// Writes a row by network namespace: from here on the pod's own connections are ours.
    pub(crate) fn enrol(&mut self, maps: &mut Maps, workload: &Workload, netns: u64) -> Result<(), Error> {
        let Listening { outbound, inbound } = self.listening(netns);
        let pod = Pod {
            ip4: first(workload, IpAddr::is_ipv4),
            ip6: first(workload, IpAddr::is_ipv6),
            identity: token::service_account(&workload.service_account),
            namespace: token::namespace(&workload.name.namespace),
            outbound,
            inbound,
            _pad: [0; 4],
        };
        if self.netns.get(&netns) != Some(&pod) {
            maps.pods.put(&NetnsKey { cookie: netns }, &pod)?;
            self.netns.insert(netns, pod);
        }
        Ok(())
    }

    /// Where the connections of a pod come to the node's proxy, and those that are made to it. The pod's own row is
    /// last: by then nobody else can come there.
    pub(crate) fn listen(&mut self, maps: &mut Maps, netns: u64, listening: Listening) -> Result<(), Error> {
        // Of a pod that is gone nothing is kept.
        if listening == Listening::default() {
            self.listening.remove(&netns);
        } else {
            self.listening.insert(netns, listening);
        }
        let Listening { outbound, inbound } = listening;
        for (addr, row) in self.ips.iter_mut().filter(|(_, row)| row.netns == netns) {
            let new = PodRow { outbound, inbound, ..*row };
            if *row != new {
                maps.pod_ips.put(addr, &new)?;
                *row = new;
            }
        }
        if let Some(pod) = self.netns.get_mut(&netns) {
            let new = Pod { outbound, inbound, ..*pod };
            if *pod != new {
                maps.pods.put(&NetnsKey { cookie: netns }, &new)?;
                *pod = new;
            }
        }
        Ok(())
    }

    /// See [`Pods::listen`].
    pub(crate) fn listening(&self, netns: u64) -> Listening {
        self.listening.get(&netns).copied().unwrap_or_default()
    }

    /// Whether connections of any pod come to the node's proxy.
    pub(crate) fn come_to_proxy(&self) -> bool {
        self.listening.values().any(|listening| listening.outbound.be != 0)
    }

    /// Whether connections to any pod may come to the node's proxy.
    pub(crate) fn are_dialled_by_proxy(&self) -> bool {
        self.listening.values().any(|listening| listening.inbound.be != 0)
    }

    /// No hook runs for what this pod dials: whoever accepts it has to report it.
    pub(crate) fn is_unseen(&mut self, maps: &mut Maps, netns: u64) -> Result<(), Error> {
        for (addr, row) in self.ips.iter_mut().filter(|(_, row)| row.netns == netns) {
            row.flags &= !pod_flags::ENROLLED;
            maps.pod_ips.put(addr, row)?;
        }
        Ok(())
    }

    /// Cookies of the network namespaces that have a row.
    pub(crate) fn enrolled(&self) -> impl Iterator<Item = u64> {
        self.netns.keys().copied()
    }

    /// Removes the rows of network namespaces that `keep` does not want: what these pods dial is not ours any more.
    pub(crate) fn withdraw(&mut self, maps: &mut Maps, keep: impl Fn(u64) -> bool) -> Result<(), Error> {
        let gone: Vec<u64> = self.netns.keys().copied().filter(|netns| !keep(*netns)).collect();
        for cookie in gone {
            maps.pods.remove(&NetnsKey { cookie })?;
            self.netns.remove(&cookie);
        }
        Ok(())
    }

    /// Forgets the listeners of pods that are withdrawn. By then no row by address says that connections go there: one that
    /// was handed to a listener that is not there would be refused.
    pub(crate) fn forget_listeners(&mut self, maps: &mut Maps) -> Result<(), Error> {
        let gone: Vec<u64> =
            self.listening.keys().copied().filter(|cookie| !self.netns.contains_key(cookie)).collect();
        for cookie in gone {
            self.listening.remove(&cookie);
            maps.hand_over(cookie, None)?;
        }
        Ok(())
    }

    /// Rows of ports with modes of their own.
    pub(crate) fn ports(&self) -> usize {
        self.ports.len()
    }

    /// Rows by address and by namespace.
    pub(crate) fn fill(&self) -> (usize, usize) {
        (self.ips.len(), self.netns.len())
    }
}

/// Adds rows for addresses that a pod's namespace has and its object does not name: nobody shall come
/// round the pod's policies by a second address.
fn beside<'a>(
    rows: &mut Wanted,
    workloads: impl Iterator<Item = &'a Workload>,
    places: &BTreeMap<ObjectName, Place>,
    namespaces: &Namespaces,
    mtls: &Mtls,
) {
    let mut extra = HashSet::new();
    for workload in workloads {
        let (Some(place), Some(held)) = (places.get(&workload.name), namespaces.get(&workload.name)) else {
            continue;
        };
        for ip in &held.addresses {
            rows.ports(workload, *ip, mtls);
            match rows.ips.entry(Addr::from(*ip)) {
                Entry::Vacant(vacant) => {
                    extra.insert(*ip);
                    vacant.insert(row(workload, *place, mtls));
                }
                // Another pod has the same one, and policies: it must not lose them to somebody who has none.
                Entry::Occupied(mut other) if extra.contains(ip) && other.get().policy == 0 => {
                    other.insert(row(workload, *place, mtls));
                }
                Entry::Occupied(_) => {}
            }
        }
    }
}

fn row(workload: &Workload, place: Place, mtls: &Mtls) -> PodRow {
    let modes = if workload.enrolled { modes(workload, mtls) } else { 0 };
    // Where only who is attested may come from this node, it has to be.
    let guarded = place.policy != 0 || modes & pod_flags::GUARDED != 0;
    PodRow {
        netns: place.netns,
        identity: token::service_account(&workload.service_account),
        namespace: token::namespace(&workload.name.namespace),
        policy: place.policy,
        flags: place.flags
            | modes
            | if workload.enrolled { pod_flags::ENROLLED } else { 0 }
            | if workload.passage == Passage::Done { 0 } else { pod_flags::PASSING }
            | if guarded { pod_flags::GUARDED } else { 0 },
        outbound: place.listening.outbound,
        inbound: place.listening.inbound,
    }
}

/// [`pod_flags`] of the modes of a pod.
fn modes(workload: &Workload, mtls: &Mtls) -> u32 {
    let (mode, ports) = mtls.modes(&workload.name);
    ports.fold(bits(mode), |flags, (_, own)| {
        let strict = bits(own) & pod_flags::STRICT != 0;
        flags | pod_flags::BY_PORT | if strict { pod_flags::GUARDED } else { 0 }
    }) | if mode == MtlsMode::Strict { pod_flags::GUARDED } else { 0 }
}

fn bits(mode: MtlsMode) -> u32 {
    match mode {
        MtlsMode::Disabled => 0,
        MtlsMode::Permissive => pod_flags::TLS,
        MtlsMode::Strict => pod_flags::TLS | pod_flags::STRICT,
    }
}

impl Wanted {
    /// Adds the ports of an address that have modes of their own.
    fn ports(&mut self, workload: &Workload, ip: IpAddr, mtls: &Mtls) {
        if !workload.enrolled {
            return;
        }
        for (port, mode) in mtls.modes(&workload.name).1 {
            let key = PodPortKey { addr: ip.into(), port: BePort::new(port), _pad: [0; 6] };
            self.ports.entry(key).or_insert(PodPort { flags: bits(mode), _pad: 0 });
        }
    }
}

fn rows<'a>(
    workloads: impl Iterator<Item = &'a Workload> + Clone,
    places: &BTreeMap<ObjectName, Place>,
    mtls: &Mtls,
) -> Wanted {
    let place = |workload: &Workload| places.get(&workload.name).copied().unwrap_or_default();
    let mut rows = Wanted::default();
    let mut claims: HashMap<Addr, _> = HashMap::new();
    for workload in workloads.clone() {
        let row = row(workload, place(workload), mtls);
        for ip in &workload.ips {
            // An address that two pods claim is the one's that is here, else the first's by name of those that do not leave:
            // it may have been given on before the API server has forgotten who had it.
            let claim = (row.netns != 0, !workload.terminating);
            if claims.get(&Addr::from(*ip)).is_none_or(|before| *before < claim) {
                claims.insert(Addr::from(*ip), claim);
                rows.ips.insert(Addr::from(*ip), row);
            }
        }
    }
    for workload in workloads.filter(|workload| mtls.pods.contains_key(&workload.name)) {
        let row = row(workload, place(workload), mtls);
        for ip in &workload.ips {
            if rows.ips.get(&Addr::from(*ip)) == Some(&row) {
                rows.ports(workload, *ip, mtls);
            }
        }
    }
    rows
}

fn first(workload: &Workload, of: fn(&IpAddr) -> bool) -> Addr {
    workload.ips.iter().find(|ip| of(ip)).map_or(Addr::ANY, |ip| Addr::from(*ip))
}

/// From the connect hook to the server's hook, on one node; much more than it takes.
pub(crate) const HANDSHAKE: Duration = Duration::from_millis(20);
