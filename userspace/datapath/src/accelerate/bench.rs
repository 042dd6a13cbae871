//! The real programs on maps of their own, for the self-test. They end when it is dropped.

use std::{net::TcpStream, os::fd::AsRawFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, SkStorage, SockHash},
    programs::{FExit, links::FdLink, sk_msg::SkMsgLink},
};
use weft_abi::{
    Config, Pair, PairEnd, PairKey, SCHEMA, SocketState, config_flags, limits,
    names::{map, program},
    side, socket_flags,
};

use super::{Unfit, attach_programs, attach_sk_msg, named};
use crate::load;

/// Programs, and the maps by which sockets pair.
pub(super) struct Bench {
    config: Array<MapData, Config>,
    states: SkStorage<MapData, SocketState>,
    pairs: HashMap<MapData, PairKey, Pair>,
    sockets: SockHash<MapData, PairEnd>,
    next: u64,
    _taken: FdLink,
    _sk_msg: SkMsgLink,
    _ebpf: Ebpf,
}

impl Bench {
    /// Loads and attaches the programs.
    pub(super) fn new() -> Result<Self, Unfit> {
        let mut ebpf = load::load_scratch()?;
        attach_programs(&mut ebpf)?;
        let sk_msg = attach_sk_msg(&mut ebpf)?;
        let refused = |source| Unfit::Attach { program: program::TAKEN, source };
        let taken: &mut FExit = named(&mut ebpf, program::TAKEN)?;
        let id = taken.attach().map_err(refused)?;
        let link = FdLink::from(taken.take_link(id).map_err(refused)?);
        Ok(Self {
            config: typed(&mut ebpf, map::CONFIG)?,
            states: typed(&mut ebpf, map::SOCKETS)?,
            pairs: typed(&mut ebpf, map::PAIRS)?,
            sockets: typed(&mut ebpf, map::PAIR_SOCKETS)?,
            next: 1,
            _taken: link,
            _sk_msg: sk_msg,
            _ebpf: ebpf,
        })
    }

    /// Throws the switch.
    pub(super) fn switch(&mut self, on: bool) -> Result<(), MapError> {
        let flags = if on { config_flags::ACCELERATE } else { 0 };
        let config = Config {
            schema: SCHEMA,
            flags,
            accelerate_budget: limits::ACCELERATE_BUDGET,
            accelerate_write: limits::ACCELERATE_WRITE,
            ..Config::zeroed()
        };
        self.config.set(0, config, 0)
    }

    /// Lets the client's socket join, as the hook does when it is established. Returns the pair's id.
    pub(super) fn join_client(&mut self, client: &TcpStream) -> Result<u64, MapError> {
        let id = self.next;
        self.next += 1;
        self.join(client, id, side::CLIENT)?;
        self.pairs.insert(PairKey { id }, Pair::zeroed(), 0)?;
        Ok(id)
    }

    /// Lets the server's socket join.
    pub(super) fn join_server(&mut self, server: &TcpStream, id: u64) -> Result<(), MapError> {
        self.join(server, id, side::SERVER)?;
        let key = PairKey { id };
        let row = self.pairs.get(&key, 0)?;
        self.pairs.insert(key, Pair { joined: 1, ..row }, 0)
    }

    /// Bytes redirected by client and server.
    pub(super) fn redirected(&self, id: u64) -> Result<[u64; 2], MapError> {
        Ok(self.pairs.get(&PairKey { id }, 0)?.redirected)
    }

    /// Puts a socket into the map a second time, under another key.
    pub(super) fn join_again(&mut self, socket: &TcpStream) -> Result<(), MapError> {
        self.sockets.insert(PairEnd { id: u64::MAX, side: 0, _pad: 0 }, socket.as_raw_fd(), 0)
    }

    fn join(&mut self, socket: &TcpStream, id: u64, side: u32) -> Result<(), MapError> {
        let role = if side == side::CLIENT { socket_flags::CLIENT } else { socket_flags::SERVER };
        let state = SocketState { pair: id, flags: role | socket_flags::PAIRED, ..SocketState::zeroed() };
        self.states.insert(socket, state, 0)?;
        self.sockets.insert(PairEnd { id, side, _pad: 0 }, socket.as_raw_fd(), 0)
    }
}

fn typed<M: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Unfit> {
    let map = ebpf.take_map(name).and_then(|map| M::try_from(map).ok());
    Ok(map.ok_or(load::Error::Missing(name))?)
}
