//! The real programs on maps of their own, for the self-test. They end when it is dropped.
//!
//! `sock_ops` runs for the agent's own sockets, and takes the one network namespace that they are in for
//! two pods: one that dials and one, known by the loopback address, that accepts.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, SkStorage, SockHash},
    programs::{CgroupAttachMode, SockOps, sk_msg::SkMsgLink},
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
use weft_abi::{
    Addr, Config, NetnsKey, Pair, PairEnd, PairKey, Pod, PodRow, SCHEMA, SocketState, config_flags, limits,
    names::{map, program},
    pod_flags, socket_flags,
};
use weft_transport::netns_cookie;

use super::{Unfit, attach, selftest::Failure};
use crate::{host, load};

/// Programs, and the maps by which sockets pair.
pub(super) struct Bench {
    config: Array<MapData, Config>,
    pods: HashMap<MapData, NetnsKey, Pod>,
    pod_ips: HashMap<MapData, Addr, PodRow>,
    states: SkStorage<MapData, SocketState>,
    pairs: HashMap<MapData, PairKey, Pair>,
    sockets: SockHash<MapData, PairEnd>,
    _sk_msg: SkMsgLink,
    _ebpf: Ebpf,
}

/// A connection whose sockets have found each other.
pub(super) struct Connection {
    /// Who dialled.
    pub client: TcpStream,
    /// Who accepted.
    pub server: TcpStream,
    /// Their pair.
    pub pair: PairKey,
}

impl Bench {
    /// Loads and attaches the programs.
    pub(super) fn new() -> Result<Self, Unfit> {
        let mut ebpf = load::load_scratch(&[])?;
        let sk_msg = attach(&mut ebpf)?;
        attach_to_own_cgroup(&mut ebpf)?;
        Ok(Self {
            config: typed(&mut ebpf, map::CONFIG)?,
            pods: typed(&mut ebpf, map::PODS)?,
            pod_ips: typed(&mut ebpf, map::POD_IPS)?,
            states: typed(&mut ebpf, map::SOCKETS)?,
            pairs: typed(&mut ebpf, map::PAIRS)?,
            sockets: typed(&mut ebpf, map::PAIR_SOCKETS)?,
            _sk_msg: sk_msg,
            _ebpf: ebpf,
        })
    }

    /// Throws the switch.
    pub(super) fn switch(&mut self, on: bool) -> Result<(), Failure> {
        let config = Config {
            schema: SCHEMA,
            flags: if on { config_flags::ACCELERATE } else { 0 },
            accelerate_budget: limits::ACCELERATE_BUDGET,
            accelerate_write: limits::ACCELERATE_WRITE,
            ..Config::zeroed()
        };
        Ok(self.config.set(0, config, 0)?)
    }

    /// A connection inside the calling thread's network namespace. Reads and writes give up after two
    /// seconds.
    pub(super) fn connect(&mut self) -> Result<Connection, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let dialling = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        self.enrol(&dialling)?;
        let to: SocketAddr = listener.local_addr()?;
        connect(dialling.as_raw_fd(), &SockaddrStorage::from(to))?;
        let client = TcpStream::from(dialling);
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            stream.set_nodelay(true)?;
        }
        let id = self.states.get(&client, 0)?.pair;
        Ok(Connection { client, server, pair: PairKey { id } })
    }

    /// The row of a pair.
    pub(super) fn row(&self, pair: PairKey) -> Result<Pair, Failure> {
        Ok(self.pairs.get(&pair, 0)?)
    }

    /// Replaces the row of a pair.
    pub(super) fn set_row(&mut self, pair: PairKey, row: Pair) -> Result<(), Failure> {
        Ok(self.pairs.insert(pair, row, 0)?)
    }

    /// Puts a socket into the map a second time, under another key.
    pub(super) fn join_again(&mut self, socket: &TcpStream) -> Result<(), MapError> {
        self.sockets.insert(PairEnd { id: u64::MAX, side: 0, _pad: 0 }, socket.as_raw_fd(), 0)
    }

    /// Makes the namespace of `dialling` a pod, and loopback another one; marks the socket as `connect4`
    /// does for a Service with the annotation.
    fn enrol(&mut self, dialling: &OwnedFd) -> Result<(), Failure> {
        let cookie = netns_cookie(dialling.as_fd())?;
        let elsewhere = PodRow { netns: u64::MAX, flags: pod_flags::ENROLLED, ..PodRow::zeroed() };
        for cookie in [cookie, elsewhere.netns] {
            self.pods.insert(NetnsKey { cookie }, Pod::zeroed(), 0)?;
        }
        self.pod_ips.insert(Addr::from(Ipv4Addr::LOCALHOST), elsewhere, 0)?;
        let state = SocketState { flags: socket_flags::ACCELERATE, ..SocketState::zeroed() };
        Ok(self.states.insert(dialling, state, 0)?)
    }
}

/// The link goes with the object.
fn attach_to_own_cgroup(ebpf: &mut Ebpf) -> Result<(), Unfit> {
    let name = program::SOCK_OPS;
    let refused = |source| load::Error::Program { program: name, source };
    let path = host::own_cgroup()?;
    let cgroup = fs::File::open(&path).map_err(Failure::from)?;
    let sock_ops = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    let sock_ops: &mut SockOps = sock_ops.ok_or(load::Error::Missing(name))?;
    sock_ops.load().map_err(refused)?;
    sock_ops.attach(cgroup, CgroupAttachMode::Single).map_err(refused)?;
    Ok(())
}

fn typed<M: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Unfit> {
    let map = ebpf.take_map(name).and_then(|map| M::try_from(map).ok());
    Ok(map.ok_or(load::Error::Missing(name))?)
}

const LIMIT: Duration = Duration::from_secs(2);
