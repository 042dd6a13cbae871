//! The node's proxy, as the kernel sees it: where pods' connections come to it, whom each was for, and
//! whether it is there.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use nix::time::{ClockId, clock_gettime};
use weft_abi::{self as abi, BePort, OriginKey, names::map};
use weft_model::{ObjectName, ServiceAccount};
use weft_transport::{Attested, Netns, Origin, Origins};

use crate::{
    maps::{Error, is_absent},
    pins::Pins,
    rows::token,
};

/// An enrolled pod of this node, whose network namespace is held.
#[derive(Clone, Debug)]
pub struct LocalPod {
    /// Its name.
    pub name: ObjectName,
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// Where that is found.
    pub path: PathBuf,
    /// Its network namespace: let go of it when the pod is no longer among [`crate::Enforcer::pods`].
    pub netns: Arc<Netns>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its identity.
    pub service_account: ServiceAccount,
}

impl PartialEq for LocalPod {
    /// A namespace is told by its cookie.
    fn eq(&self, other: &Self) -> bool {
        self.netns_cookie == other.netns_cookie
            && self.path == other.path
            && self.name == other.name
            && self.ips == other.ips
            && self.service_account == other.service_account
    }
}

/// The maps that the proxy works with. Each is a descriptor of its own.
#[derive(Debug)]
pub struct ProxyMaps {
    /// For [`OriginMap`].
    pub origins: OwnedFd,
    /// For [`LeaseMap`].
    pub lease: OwnedFd,
}

impl ProxyMaps {
    /// Those of a layout that is pinned; `None` where an earlier start was interrupted before it had made them.
    pub(crate) fn of(pins: &Pins) -> Result<Option<Self>, Error> {
        let lend = |name: &'static str| {
            let refused = |source| Error::Refused { map: name, source };
            let path = pins.maps().join(name);
            if !path.exists() {
                return Ok(None);
            }
            let map = MapData::from_pin(path).map_err(refused)?;
            let lent = map.fd().as_fd().try_clone_to_owned();
            lent.map(Some).map_err(|error| refused(MapError::IoError(error)))
        };
        Ok(lend(map::ORIGINS)?.zip(lend(map::LEASE)?).map(|(origins, lease)| Self { origins, lease }))
    }

    /// Whether the proxy has taken all that was written for it. What cannot be read is not known to be empty.
    pub(crate) fn are_taken(&self) -> bool {
        let origins = self.origins.try_clone().ok().and_then(|fd| MapData::from_fd(fd).ok());
        let rows =
            origins.and_then(|map| HashMap::<_, OriginKey, abi::Origin>::try_from(Map::LruHashMap(map)).ok());
        rows.is_some_and(|rows| rows.keys().next().is_none())
    }
}

/// `weft_origin`: where redirected connections were going.
pub struct OriginMap {
    map: Mutex<HashMap<MapData, OriginKey, abi::Origin>>,
}

/// `weft_lease`: when the proxy was last known to be there.
pub struct LeaseMap {
    map: Mutex<Array<MapData, abi::Lease>>,
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
        let Some(origin) = self.take_row(netns_cookie, peer, 0)? else { return Ok(None) };
        let dialled = SocketAddr::new(origin.dialled.to_ip(), origin.port.get());
        let is_chosen = !origin.chosen.is_unspecified();
        let chosen = is_chosen.then(|| SocketAddr::new(origin.chosen.to_ip(), origin.chosen_port.get()));
        Ok(Some(Origin { dialled, frontend: origin.service, chosen }))
    }

    fn attested(
        &self,
        netns_cookie: u64,
        peer: SocketAddr,
        port: u16,
    ) -> Result<Option<Attested>, weft_transport::Error> {
        let origin = self.take_row(netns_cookie, peer, port)?;
        Ok(origin.map(|origin| Attested::new(origin.service, origin.pair != 0, token::service_account)))
    }
}

impl OriginMap {
    /// Takes a row; `port` is the pod's own that others dial, or 0.
    fn take_row(
        &self,
        netns: u64,
        peer: SocketAddr,
        port: u16,
    ) -> Result<Option<abi::Origin>, weft_transport::Error> {
        let (addr, to) = (peer.ip().into(), BePort::new(port));
        let key = OriginKey { netns, addr, port: BePort::new(peer.port()), to, _pad: [0; 4] };
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable =
            |error: MapError| weft_transport::Error::Origin { peer, source: std::io::Error::other(error) };
        let origin = match map.get(&key, 0) {
            Ok(origin) => origin,
            Err(MapError::KeyNotFound) => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        // Two connections never have the same key at once: whoever finds it is the one it is for. It goes by itself
        // when the client breaks off, which may be right now.
        match map.remove(&key) {
            Err(error) if !is_absent(&error) => Err(unreadable(error)),
            _ => Ok(Some(origin)),
        }
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
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        map.set(0, lease, 0).map_err(|source| Error::Refused { map: map::LEASE, source })
    }
}
