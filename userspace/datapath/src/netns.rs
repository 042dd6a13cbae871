//! The network namespaces of this node's pods: found by path, let go of when the path goes away.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

use weft_model::{ObjectName, Workload};
use weft_transport::{Diag, Netns, NetnsId, Query, States};

/// The namespaces that are held open.
#[derive(Default)]
pub(crate) struct Namespaces {
    held: BTreeMap<ObjectName, Held>,
    waiting: BTreeMap<ObjectName, Waiting>,
}

/// A namespace that is there.
pub(crate) struct Held {
    /// Itself.
    pub netns: Arc<Netns>,
    /// Its cookie.
    pub cookie: u64,
    /// Its sockets.
    pub diag: Diag,
    /// Its sockets, for those who only tell of them.
    pub lister: Arc<Mutex<Diag>>,
    /// Cookies of its TCP and connected UDP sockets that no hook has seen begin when it was enrolled: as many as there
    /// were.
    pub older: Arc<HashSet<u64>>,
    /// Its addresses, those that the pod's object does not name among them.
    pub addresses: BTreeSet<IpAddr>,
    /// Where it was found.
    pub path: PathBuf,
    /// `older` was looked for.
    looked: bool,
}

/// One that is not held.
pub(crate) struct Waiting {
    /// Where it should be.
    pub path: PathBuf,
    /// Why it is not held.
    pub why: String,
    /// It is there, but cannot be opened: what an earlier agent enforces in it has to stay.
    pub there: bool,
    /// The pod that has this very namespace.
    pub owner: Option<ObjectName>,
    id: Option<NetnsId>,
}

impl Namespaces {
    /// Opens what `pods` need and is there, lets go of the rest. True when that changed anything.
    ///
    /// A namespace is one pod's: of those that name it, the oldest has it, then the first by name.
    pub(crate) fn follow<'a>(&mut self, pods: impl Iterator<Item = &'a Workload>) -> bool {
        let mut pods: Vec<_> = pods.filter_map(|pod| Some((pod, pod.netns.as_ref()?))).collect();
        pods.sort_by_key(|(pod, _)| (pod.created, &pod.name));
        let wanted: HashMap<_, _> = pods.iter().map(|(pod, path)| (&pod.name, *path)).collect();
        let before = self.held.len();
        self.held.retain(|name, held| wanted.get(name).is_some_and(|path| held.is_at(path)));
        let mut changed = self.held.len() != before;
        let shared = |waiting: &BTreeMap<ObjectName, Waiting>| -> Vec<_> {
            waiting.iter().filter_map(|(name, one)| Some((name.clone(), one.owner.clone()?))).collect()
        };
        let shared_before = shared(&self.waiting);
        self.waiting.clear();
        let mut owners: HashMap<NetnsId, &ObjectName> = HashMap::new();
        for (pod, path) in pods {
            let held = self.held.get(&pod.name).map(|held| held.netns.id());
            let id = held.or_else(|| NetnsId::at(path).ok().flatten());
            if let Some(owner) = id.and_then(|id| owners.get(&id)) {
                changed |= self.held.remove(&pod.name).is_some();
                self.waiting.insert(pod.name.clone(), Waiting::behind(owner, path, id));
                continue;
            }
            if held.is_none() {
                match Held::open(path.clone()) {
                    Ok(held) => {
                        self.held.insert(pod.name.clone(), held);
                        changed = true;
                    }
                    Err((why, there)) => {
                        let waiting = Waiting { path: path.clone(), why, there, owner: None, id: None };
                        self.waiting.insert(pod.name.clone(), waiting);
                        continue;
                    }
                }
            }
            owners.extend(id.map(|id| (id, &pod.name)));
        }
        changed || shared(&self.waiting) != shared_before
    }

    /// Whether a path came, went away, or leads to another namespace now.
    pub(crate) fn moved(&self) -> bool {
        let came =
            |waiting: &Waiting| matches!(NetnsId::at(&waiting.path), Ok(Some(id)) if waiting.id != Some(id));
        self.held.values().any(|held| !held.is_there()) || self.waiting.values().any(came)
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

    /// The pod that has the namespace which `name` names too.
    pub(crate) fn owner(&self, name: &ObjectName) -> Option<&ObjectName> {
        self.waiting.get(name)?.owner.as_ref()
    }

    /// Those that are not held.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&ObjectName, &Waiting)> {
        self.waiting.iter()
    }
}

impl Waiting {
    /// For a namespace that another pod has.
    fn behind(owner: &ObjectName, path: &Path, id: Option<NetnsId>) -> Self {
        let why = format!("the network namespace at {} is that of Pod {owner}", path.display());
        Self { path: path.to_owned(), why, there: false, owner: Some(owner.clone()), id }
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
                Ok(Self {
                    netns: Arc::new(netns),
                    cookie,
                    diag,
                    lister,
                    older: Arc::default(),
                    addresses,
                    path,
                    looked: false,
                })
            }
        }
    }

    /// Remembers, once, which sockets are older than the pod's enrolment: the hooks see all that begin from now on, and
    /// `states` has what they have seen of TCP. What they have seen of UDP nobody is told, so where the pod `was_enrolled`
    /// by an earlier agent no such socket is remembered.
    pub(crate) fn remember_older(&mut self, states: BorrowedFd<'_>, was_enrolled: bool) {
        if self.looked {
            return;
        }
        let tcp = self.diag.sockets(&Query::tcp(States::LIVE).with_storage(states));
        let udp = if was_enrolled { Ok(Vec::new()) } else { self.diag.sockets(&Query::connected_udp()) };
        match tcp.and_then(|tcp| Ok([tcp, udp?].concat())) {
            Ok(sockets) => {
                let unseen = sockets.iter().filter(|socket| socket.storage.is_none());
                self.older = Arc::new(unseen.map(|socket| socket.cookie).collect());
                self.looked = true;
            }
            Err(error) => {
                tracing::warn!(%error, "the connections of a pod that is enrolled cannot be listed");
            }
        }
    }

    /// Whether `path` leads here: from now on it is the one. A runtime's path for a pod and that of the pod's first process are
    /// two to the same namespace, whose connections know nothing of paths.
    fn is_at(&mut self, path: &Path) -> bool {
        let leads_here = matches!(NetnsId::at(path), Ok(Some(id)) if id == self.netns.id());
        if leads_here && self.path != *path {
            path.clone_into(&mut self.path);
        }
        leads_here
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
