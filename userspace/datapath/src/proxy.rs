//! What the node's proxy needs of the kernel: whom a connection was for, and a way to say that it is there.

use std::{net::SocketAddr, os::fd::OwnedFd};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use nix::time::{ClockId, clock_gettime};
use weft_abi::{self as abi, BePort, OriginKey, names::map};
use weft_transport::{Origin, Origins};

use crate::maps::Error;

/// `weft_origin`: where redirected connections were going.
pub struct OriginMap {
    map: std::sync::Mutex<HashMap<MapData, OriginKey, abi::Origin>>,
}

/// `weft_lease`: when the proxy was last known to be there.
pub struct LeaseMap {
    map: std::sync::Mutex<Array<MapData, abi::Lease>>,
}

impl OriginMap {
    /// The map behind `fd`, which the agent lent.
    ///
    /// # Kernel
    /// Takes `CAP_BPF` (5.8) or `CAP_SYS_ADMIN` to be read.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let map = MapData::from_fd(fd).map(Map::LruHashMap).and_then(HashMap::try_from);
        let map = map.map_err(|source| Error::Refused { map: map::ORIGINS, source })?;
        Ok(Self { map: map.into() })
    }
}

impl Origins for OriginMap {
    fn take(&self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<Origin>, weft_transport::Error> {
        let addr = peer.ip().into();
        let key = OriginKey { netns: netns_cookie, addr, port: BePort::new(peer.port()), _pad: [0; 6] };
        let mut map = self.map.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unreadable =
            |error: MapError| weft_transport::Error::Origin { peer, source: std::io::Error::other(error) };
        let origin = match map.get(&key, 0) {
            Ok(origin) => origin,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        // Two connections never have the same key at once: whoever finds it is the one it is for.
        match map.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(unreadable(error)),
        }
        let dialled = SocketAddr::new(origin.dialled.to_ip(), origin.port.get());
        Ok(Some(Origin { dialled, frontend: origin.service, backend: None }))
    }
}

impl LeaseMap {
    /// The map behind `fd`, which the agent lent.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let map = MapData::from_fd(fd).map(Map::Array).and_then(Array::try_from);
        let map = map.map_err(|source| Error::Refused { map: map::LEASE, source })?;
        Ok(Self { map: map.into() })
    }

    /// Says that the proxy is there now.
    pub fn renew(&self) -> Result<(), Error> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
        let lease = abi::Lease { renewed_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) };
        let mut map = self.map.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        map.set(0, lease, 0).map_err(|source| Error::Refused { map: map::LEASE, source })
    }
}
