//! The network namespaces of this node's pods: found by path, let go of when the path goes away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

use weft_model::{ObjectName, Workload};
use weft_transport::{Diag, Netns, NetnsId};

/// The namespaces that are held open.
#[derive(Default)]
pub(crate) struct Namespaces {
    held: BTreeMap<ObjectName, Held>,
    waiting: BTreeMap<ObjectName, Waiting>,
}

/// A namespace that is there.
pub(crate) struct Held {
    /// Itself.
    pub netns: Netns,
    /// Its cookie.
    pub cookie: u64,
    /// Its sockets.
    pub diag: Diag,
    /// Its sockets, for those who only tell of them.
    pub lister: Arc<Mutex<Diag>>,
    /// Its addresses, those that the pod's object does not name among them.
    pub addresses: BTreeSet<IpAddr>,
    path: PathBuf,
}

/// One that is not held.
pub(crate) struct Waiting {
    /// Where it should be.
    pub path: PathBuf,
    /// Why it is not held.
    pub why: String,
    /// It is there, but cannot be opened: what an earlier agent enforces in it has to stay.
    pub there: bool,
}

impl Namespaces {
    /// Opens what `pods` need and is there, lets go of the rest. True when that changed anything.
    pub(crate) fn follow<'a>(&mut self, pods: impl Iterator<Item = &'a Workload>) -> bool {
        let wanted: BTreeMap<_, _> =
            pods.filter_map(|pod| pod.netns.clone().map(|path| (pod.name.clone(), path))).collect();
        let before = self.held.len();
        self.held.retain(|name, held| wanted.get(name) == Some(&held.path) && held.is_there());
        let mut changed = self.held.len() != before;
        self.waiting.clear();
        for (name, path) in wanted {
            if self.held.contains_key(&name) {
                continue;
            }
            match Held::open(path.clone()) {
                Ok(held) => {
                    self.held.insert(name, held);
                    changed = true;
                }
                Err((why, there)) => {
                    self.waiting.insert(name, Waiting { path, why, there });
                }
            }
        }
        changed
    }

    /// Whether a path came, went away, or leads to another namespace now.
    pub(crate) fn moved(&self) -> bool {
        self.held.values().any(|held| !held.is_there())
            || self.waiting.values().any(|waiting| matches!(NetnsId::at(&waiting.path), Ok(Some(_))))
    }

    /// Looks at the addresses again. True when some changed.
    pub(crate) fn look_at_addresses(&mut self) -> bool {
        let mut changed = false;
        for held in self.held.values_mut() {
            // What cannot be read is as it was.
            if let Some(now) = addresses(&held.netns) {
                changed |= now != held.addresses;
                held.addresses = now;
            }
        }
        changed
    }

    /// The namespace of a pod.
    pub(crate) fn get(&self, name: &ObjectName) -> Option<&Held> {
        self.held.get(name)
    }

    /// The namespace of a pod, to list its sockets.
    pub(crate) fn get_mut(&mut self, name: &ObjectName) -> Option<&mut Held> {
        self.held.get_mut(name)
    }

    /// Every namespace that is held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectName, &Held)> {
        self.held.iter()
    }

    /// Every namespace that is held, to list their sockets.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&ObjectName, &mut Held)> {
        self.held.iter_mut()
    }

    /// Whether a pod's namespace is there though it is not held.
    pub(crate) fn is_there(&self, name: &ObjectName) -> bool {
        self.waiting.get(name).is_some_and(|waiting| waiting.there)
    }

    /// Those that are not held.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&ObjectName, &Waiting)> {
        self.waiting.iter()
    }
}

impl Held {
    /// The error says why, and whether the namespace is there all the same.
    fn open(path: PathBuf) -> Result<Self, (String, bool)> {
        let open = || {
            let netns = Netns::open(&path)?;
            let lister = Arc::new(Mutex::new(Diag::open(&netns)?));
            Ok::<_, weft_transport::Error>((netns.cookie()?, Diag::open(&netns)?, lister, netns))
        };
        match NetnsId::at(&path) {
            Ok(None) => Err(("its network namespace is not there yet".to_owned(), false)),
            Err(error) => Err((error.to_string(), true)),
            Ok(Some(_)) => {
                let (cookie, diag, lister, netns) = open().map_err(|error| {
                    // A plain file under the name is what `ip netns` leaves for a moment.
                    let other = matches!(error, weft_transport::Error::NotANetns { .. });
                    (error.to_string(), !other)
                })?;
                let addresses = addresses(&netns).unwrap_or_default();
                Ok(Self { netns, cookie, diag, lister, addresses, path })
            }
        }
    }

    /// The path still leads here. A path below /run/netns is a bind mount, and stays a plain file for a
    /// moment when the namespace was unmounted but not removed.
    fn is_there(&self) -> bool {
        matches!(NetnsId::at(&self.path), Ok(Some(id)) if id == self.netns.id())
    }
}

/// The addresses by which others on the network reach a namespace.
fn addresses(netns: &Netns) -> Option<BTreeSet<IpAddr>> {
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    let local = |ip: &IpAddr| ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let list = || getifaddrs().map(|list| list.filter_map(|interface| ip(interface.address?)).collect());
    let all: BTreeSet<IpAddr> = netns.run(list).ok()?.ok()?;
    Some(all.into_iter().filter(|ip| !local(ip)).collect())
}
