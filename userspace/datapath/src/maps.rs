//! The maps, typed, as user space writes them.
#![expect(unsafe_code, reason = "an event is read out of the ring by copying its bytes")]

use std::{
    hash::Hash,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use aya::{
    Ebpf, Pod as Plain,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf, SockHash, lpm_trie::Key},
};
use weft_abi::{
    Addr, Attested, Backend, BackendKey, CidrClass, CidrMatch, Config, Count, FlowEvent, FlowKey, FlowRecord,
    Lease, MaglevChunk, MaglevKey, NetnsKey, Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow,
    ServiceKey, ServiceRow, Slot, SlotKey, SocketKey, attested_by, names::map,
};

use crate::proxy::ProxyMaps;

/// Why a map could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object lacks the map, or it is of another type.
    #[error("map {0} is not in the eBPF object, or not of the type expected; the build is broken")]
    Missing(&'static str),
    /// There is no room.
    #[error(
        "map {map} is full: {needed} entries are needed and {max} fit; start the agent with --map-size {map}={needed}"
    )]
    Full {
        /// The map.
        map: &'static str,
        /// What the update needs.
        needed: usize,
        /// What fits.
        max: usize,
    },
    /// The kernel refused.
    #[error("map {map}: {source}")]
    Refused {
        /// The map.
        map: &'static str,
        /// Why.
        source: MapError,
    },
}

/// Everything that user space writes, and the ring that it reads.
pub(crate) struct Maps {
    /// `weft_cfg`.
    pub config: Array<MapData, Config>,
    /// `weft_pod`.
    pub pods: Rows<HashMap<MapData, NetnsKey, Pod>>,
    /// `weft_pod_ip`.
    pub pod_ips: Rows<HashMap<MapData, Addr, PodRow>>,
    /// `weft_pod_port`.
    pub pod_ports: Rows<HashMap<MapData, PodPortKey, PodPort>>,
    /// `weft_listener`.
    pub listeners: SockHash<MapData, NetnsKey>,
    /// `weft_svc`.
    pub services: Rows<HashMap<MapData, ServiceKey, ServiceRow>>,
    /// `weft_slot`.
    pub slots: Rows<HashMap<MapData, SlotKey, Slot>>,
    /// `weft_backend`.
    pub backends: Rows<HashMap<MapData, BackendKey, Backend>>,
    /// `weft_maglev`.
    pub maglev: Rows<HashMap<MapData, MaglevKey, MaglevChunk>>,
    /// `weft_open`.
    pub open: Rows<HashMap<MapData, BackendKey, Count>>,
    /// `weft_policy`.
    pub policy: Rows<HashMap<MapData, PolicyKey, PolicyRow>>,
    /// `weft_cidr`.
    pub cidr: Rows<LpmTrie<MapData, CidrMatch, CidrClass>>,
    /// `weft_udp_conn`.
    pub udp_connected: Rows<HashMap<MapData, SocketKey, BackendKey>>,
    /// `weft_flow`, which the programs write.
    pub flows: HashMap<MapData, FlowKey, FlowRecord>,
    /// `weft_attested`, which the programs write.
    pub attested: Array<MapData, Attested>,
    /// `weft_origin`, for the proxy.
    pub origins: Map,
    /// `weft_lease`, for the proxy.
    pub lease: Map,
    /// `weft_stat`.
    pub stats: PerCpuArray<MapData, u64>,
    /// `weft_sock`, for reading it through `sock_diag`.
    pub sockets: Map,
    /// `weft_events`, until the task that reads it takes it.
    pub events: Option<RingBuf<MapData>>,
}

/// A map of rows, with its name and how much fits.
pub(crate) struct Rows<M> {
    /// Its name.
    pub name: &'static str,
    /// Entries that fit.
    pub max: usize,
    map: M,
}

/// A map whose entries are put and removed by key.
pub(crate) trait RowMap {
    /// Its key.
    type Key: Copy + Eq + Hash;
    /// Its value.
    type Value: Copy;

    /// Writes an entry.
    fn put(&mut self, key: &Self::Key, value: &Self::Value) -> Result<(), MapError>;
    /// Removes an entry.
    fn remove(&mut self, key: &Self::Key) -> Result<(), MapError>;
    /// Every entry. One that is written meanwhile may be seen twice or not at all.
    fn entries(&self) -> Vec<(Self::Key, Self::Value)>;
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            config: typed(ebpf, map::CONFIG)?,
            pods: rows(ebpf, map::PODS)?,
            pod_ips: rows(ebpf, map::POD_IPS)?,
            pod_ports: rows(ebpf, map::POD_PORTS)?,
            listeners: typed(ebpf, map::LISTENERS)?,
            services: rows(ebpf, map::SERVICES)?,
            slots: rows(ebpf, map::SLOTS)?,
            backends: rows(ebpf, map::BACKENDS)?,
            maglev: rows(ebpf, map::MAGLEV)?,
            open: rows(ebpf, map::OPEN)?,
            policy: rows(ebpf, map::POLICY)?,
            cidr: rows(ebpf, map::CIDR)?,
            udp_connected: rows(ebpf, map::UDP_CONNECTED)?,
            flows: typed(ebpf, map::FLOWS)?,
            attested: typed(ebpf, map::ATTESTED)?,
            origins: ebpf.take_map(map::ORIGINS).ok_or(Error::Missing(map::ORIGINS))?,
            lease: ebpf.take_map(map::LEASE).ok_or(Error::Missing(map::LEASE))?,
            stats: typed(ebpf, map::STATS)?,
            sockets: ebpf.take_map(map::SOCKETS).ok_or(Error::Missing(map::SOCKETS))?,
            events: Some(typed(ebpf, map::EVENTS)?),
        })
    }
}

impl Maps {
    /// The flags that are in force.
    pub(crate) fn flags(&self) -> u32 {
        self.config.get(&0, 0).map_or(0, |config| config.flags)
    }

    /// The cgroup by which the proxy is known; 0 for none.
    pub(crate) fn proxy_cgroup(&self) -> u64 {
        self.config.get(&0, 0).map_or(0, |config| config.proxy_cgroup)
    }

    /// The maps that the proxy works with.
    pub(crate) fn for_proxy(&self) -> std::io::Result<ProxyMaps> {
        let lend = |map: &Map| match map {
            Map::LruHashMap(data) | Map::Array(data) => data.fd().as_fd().try_clone_to_owned(),
            _ => unreachable!("the loader compared their types"),
        };
        Ok(ProxyMaps { origins: lend(&self.origins)?, lease: lend(&self.lease)? })
    }

    /// A counter of the programs, summed over all CPUs.
    pub(crate) fn count(&self, index: u32) -> u64 {
        self.stats.get(&index, 0).map_or(0, |per_cpu| per_cpu.iter().sum())
    }

    /// What the kernel attests of a TCP connection that is alive.
    pub(crate) fn attested(&self, key: &FlowKey) -> Option<FlowRecord> {
        let read = || self.attested.get(&key.place(), 0).ok();
        // A program may write while it is copied: what is the same twice was whole.
        let whole = (0..TRIES).find_map(|_| read().filter(|place| read().as_ref() == Some(place)));
        let own = |place: &Attested| place.record.used_ns > attested_by::COMING && place.key == *key;
        whole.filter(own).map(|place| place.record).or_else(|| self.flows.get(key, 0).ok())
    }

    /// When a proxy said last that it is there, in nanoseconds of the monotonic clock; 0 for never.
    pub(crate) fn lease_renewed_ns(&self) -> u64 {
        let lease = Array::<_, Lease>::try_from(&self.lease).expect("the loader compared their types");
        lease.get(&0, 0).map_or(0, |lease| lease.renewed_ns)
    }

    /// Where connections that others make to a pod are handed to the node's proxy. The kernel forgets a listener
    /// that nobody holds any more.
    pub(crate) fn hand_over(&mut self, netns: u64, listener: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let key = NetnsKey { cookie: netns };
        let done = match listener {
            Some(listener) => self.listeners.insert(key, listener.as_raw_fd(), 0),
            None => self
                .listeners
                .remove(&key)
                .or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) }),
        };
        done.map_err(|source| Error::Refused { map: map::LISTENERS, source })
    }

    /// Writes the run-time switches.
    pub(crate) fn configure(&mut self, config: &Config) -> Result<(), Error> {
        self.config.set(0, config, 0).map_err(|source| Error::Refused { map: map::CONFIG, source })
    }
}

impl<M: RowMap> Rows<M> {
    /// Writes an entry.
    pub(crate) fn put(&mut self, key: &M::Key, value: &M::Value) -> Result<(), Error> {
        self.map.put(key, value).map_err(|source| self.refused(source))
    }

    /// Removes an entry, which need not be there.
    pub(crate) fn remove(&mut self, key: &M::Key) -> Result<(), Error> {
        match self.map.remove(key) {
            Err(source) if !is_absent(&source) => Err(self.refused(source)),
            _ => Ok(()),
        }
    }

    /// Every entry.
    pub(crate) fn entries(&self) -> Vec<(M::Key, M::Value)> {
        self.map.entries()
    }

    /// Fails unless `needed` entries fit.
    pub(crate) fn room_for(&self, needed: usize) -> Result<(), Error> {
        if needed > self.max { Err(Error::Full { map: self.name, needed, max: self.max }) } else { Ok(()) }
    }

    fn refused(&self, source: MapError) -> Error {
        match &source {
            MapError::SyscallError(error)
                if matches!(error.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) =>
            {
                Error::Full { map: self.name, needed: self.max + 1, max: self.max }
            }
            _ => Error::Refused { map: self.name, source },
        }
    }
}

impl<K: Plain + Eq + Hash, V: Plain> RowMap for HashMap<MapData, K, V> {
    type Key = K;
    type Value = V;

    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn remove(&mut self, key: &K) -> Result<(), MapError> {
        HashMap::remove(self, key)
    }

    fn entries(&self) -> Vec<(K, V)> {
        self.iter().filter_map(Result::ok).collect()
    }
}

impl<K: Plain + Eq + Hash, V: Plain> RowMap for LpmTrie<MapData, K, V> {
    type Key = (u32, K);
    type Value = V;

    fn put(&mut self, key: &(u32, K), value: &V) -> Result<(), MapError> {
        self.insert(&Key::new(key.0, key.1), value, 0)
    }

    fn remove(&mut self, key: &(u32, K)) -> Result<(), MapError> {
        LpmTrie::remove(self, &Key::new(key.0, key.1))
    }

    fn entries(&self) -> Vec<((u32, K), V)> {
        let entries = self.iter().filter_map(Result::ok);
        entries.map(|(key, value)| ((key.prefix_len(), key.data()), value)).collect()
    }
}

/// Copies an event out of the ring; `None` when it has another size.
pub(crate) fn event(bytes: &[u8]) -> Option<FlowEvent> {
    (bytes.len() == size_of::<FlowEvent>())
        // SAFETY: the length is right, every bit pattern is a `FlowEvent`, and the read is unaligned.
        .then(|| unsafe { bytes.as_ptr().cast::<FlowEvent>().read_unaligned() })
}

/// Copies a socket's state out of a `sock_diag` answer; `None` when it has another size.
pub(crate) fn socket_state(bytes: &[u8]) -> Option<weft_abi::SocketState> {
    (bytes.len() == size_of::<weft_abi::SocketState>())
        // SAFETY: as for `event`.
        .then(|| unsafe { bytes.as_ptr().cast::<weft_abi::SocketState>().read_unaligned() })
}

fn typed<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error> {
    let map = ebpf.take_map(name).ok_or(Error::Missing(name))?;
    M::try_from(map).map_err(|_| Error::Missing(name))
}

fn rows<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<Rows<M>, Error> {
    let info = ebpf.map(name).and_then(info).ok_or(Error::Missing(name))?;
    Ok(Rows { name, max: info.max_entries() as usize, map: typed(ebpf, name)? })
}

fn info(map: &Map) -> Option<aya::maps::MapInfo> {
    match map {
        Map::HashMap(data) | Map::LpmTrie(data) => data.info().ok(),
        _ => None,
    }
}

/// Who has a place writes it when it dials and when it sends its SYN again, a second later.
const TRIES: usize = 4;

/// Whether a row was not there. Of a look-up aya says so itself; of a removal it is the kernel's ENOENT.
pub(crate) fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}
