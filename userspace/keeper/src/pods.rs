//! The pods' listeners: made once, kept for the pod's life, and taken back from a living proxy.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::ObjectName;
use weft_telemetry::api::Peers;
use weft_transport::handover::{Listening, Pod, Role, Unheard};
use weft_transport::{Error, Netns, Transparent, send_unpaced};

use crate::given::NO_REVISION;
use crate::transparent::Namespaces;
use crate::wishes::Lent;
use crate::withdrawn::Withdrawn;
use crate::{LocalPod, Ports};

/// The pods that are lent to proxies.
pub(crate) struct Pods {
    lent: Arc<BTreeMap<u64, Lent>>,
    /// The ports of each that the data path knows, in the order of roles.
    published: BTreeMap<u64, Vec<u16>>,
    failures: BTreeMap<ObjectName, String>,
    last_revision: u64,
    ports: Arc<dyn Ports>,
    /// The roles that each has a listener for.
    roles: &'static [Role],
    transparent: Namespaces,
    withdrawn: Withdrawn,
}

/// Why a pod has no listener.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// There can be no socket in its namespace.
    #[error(transparent)]
    Transport(#[from] Error),
    /// This process may not have another descriptor.
    #[error("cannot duplicate a descriptor (raise the agent's limit of open files): {0}")]
    Descriptor(#[from] io::Error),
}

impl Pods {
    /// Each pod has a listener for its own connections and, if `inbound`, one for those that are made to it.
    ///
    /// Of a pod that leaves the mesh and runs on, what is carried may take as long as `drain`.
    pub(crate) fn new(
        ports: Arc<dyn Ports>,
        inbound: bool,
        transparent: Namespaces,
        drain: Duration,
    ) -> Self {
        let (lent, published, failures) = (Arc::default(), BTreeMap::new(), BTreeMap::new());
        let roles = if inbound { BOTH } else { &BOTH[..1] };
        let withdrawn = Withdrawn::new(drain);
        Self { lent, published, failures, last_revision: NO_REVISION, ports, roles, transparent, withdrawn }
    }

    /// Keeps what a proxy has handed back. Of a pod that is here already, the sockets here are kept: those of
    /// two generations are the same ones, unless the older one finishes and has closed its own.
    pub(crate) fn take_back(&mut self, pods: Vec<Pod>) {
        for pod in pods {
            if self.lent.get(&pod.cookie).is_none_or(|held| !self.is_complete(&held.pod)) {
                self.replace(pod);
            }
        }
    }

    /// Lets go of every pod that is not wanted, at once where its namespace has gone, and gives each wanted one a listener,
    /// unless none may be made now, and its port to the data path. Whether all went well: else it is worth trying again.
    pub(crate) fn follow(&mut self, wanted: &[LocalPod], may_make: bool) -> bool {
        let by_cookie: BTreeMap<u64, &LocalPod> = wanted.iter().map(|pod| (pod.cookie, pod)).collect();
        let gone = self.lent.keys().filter(|cookie| !by_cookie.contains_key(cookie)).copied();
        let gone: Vec<_> = gone.collect();
        self.withdrawn.follow(wanted, Instant::now());
        for cookie in gone {
            if self.withdrawn.has(cookie) {
                // Nothing new comes; what was on its way finds the listener.
                self.unpublish(cookie);
            } else {
                self.let_go(cookie);
            }
        }
        self.transparent.end_left(if self.takes_in() { wanted } else { &[] });
        let before = std::mem::take(&mut self.failures);
        for pod in by_cookie.into_values() {
            let has_all = self.lent.get(&pod.cookie).is_some_and(|held| self.is_complete(&held.pod));
            if !may_make && !has_all {
                continue;
            }
            if let Err(failure) = self.lend(pod) {
                let failure = failure.to_string();
                if before.get(&pod.name) != Some(&failure) {
                    tracing::error!(pod = %pod.name, failure, "no connection of the pod can go to the proxy");
                }
                self.failures.insert(pod.name.clone(), failure);
            }
        }
        self.failures.is_empty()
    }

    /// Whose addresses the pods' apps see; their own where the proxy says that an app is not heard.
    pub(crate) fn peers(&self, unheard: &[Unheard]) -> Peers {
        self.transparent.peers(unheard)
    }

    /// Whether others' connections to pods come to the proxy.
    fn takes_in(&self) -> bool {
        self.roles.contains(&Role::Inbound)
    }

    /// What there is to lend.
    pub(crate) fn lent(&self) -> &Arc<BTreeMap<u64, Lent>> {
        &self.lent
    }

    /// How many of these are in the mesh.
    pub(crate) fn served(&self) -> usize {
        self.lent.keys().filter(|cookie| !self.withdrawn.has(**cookie)).count()
    }

    /// Whether any of these has left the mesh, and is served until what it has begun is over.
    pub(crate) fn any_withdrawn(&self) -> bool {
        self.withdrawn.any()
    }

    /// Why the first of the pods that have no listener has none.
    pub(crate) fn failure(&self) -> Option<String> {
        let (name, failure) = self.failures.first_key_value()?;
        Some(format!("pod {name} has no listener: {failure}"))
    }

    /// The port first: nothing may be sent to a listener that is about to close.
    fn let_go(&mut self, cookie: u64) {
        self.unpublish(cookie);
        self.published.remove(&cookie);
        if let Some(lent) = Arc::make_mut(&mut self.lent).remove(&cookie) {
            self.transparent.end(cookie, &lent.pod.netns);
        }
    }

    fn unpublish(&mut self, cookie: u64) {
        // What an earlier agent has told the data path of it, too.
        if self.published.insert(cookie, Vec::new()).is_none_or(|ports| !ports.is_empty()) {
            self.ports.inbound(cookie, None);
            self.ports.outbound(cookie, None);
        }
    }

    fn lend(&mut self, wanted: &LocalPod) -> Result<(), Failure> {
        let transparent =
            if self.takes_in() { self.transparent.make(wanted) } else { Transparent::default() };
        let pod = match self.lent.get(&wanted.cookie).map(|lent| &lent.pod) {
            Some(pod)
                if is_as_wanted(pod, wanted) && pod.transparent == transparent && self.is_complete(pod) =>
            {
                Arc::clone(pod)
            }
            Some(pod) => self.replace(Pod { transparent, ..renewed(pod, wanted, self.roles)? }),
            None => self.replace(Pod { transparent, ..made(wanted, self.roles)? }),
        };
        self.publish(&pod);
        Ok(())
    }

    /// Tells the data path of the pod's listeners. Those of a role that is not wanted any more, too: an earlier agent
    /// may have told of them.
    fn publish(&mut self, pod: &Pod) {
        let listeners = self.roles.iter().filter_map(|role| listener(pod, role));
        let port = |socket: &TcpListener| socket.local_addr().map_or(0, |address| address.port());
        let ports: Vec<_> = listeners.map(port).collect();
        if self.published.get(&pod.cookie) == Some(&ports) {
            return;
        }
        let told = |role| {
            let socket = listener(pod, role).filter(|_| self.roles.contains(role))?;
            Some((port(socket), socket))
        };
        self.ports.outbound(pod.cookie, told(&Role::Outbound).map(|(port, _)| port));
        self.ports.inbound(pod.cookie, told(&Role::Inbound).map(|(port, socket)| (port, socket.as_fd())));
        self.published.insert(pod.cookie, ports);
    }

    fn is_complete(&self, pod: &Pod) -> bool {
        self.roles.iter().all(|role| listener(pod, role).is_some())
    }

    fn replace(&mut self, pod: Pod) -> Arc<Pod> {
        let (pod, revision) = (Arc::new(pod), self.next_revision());
        let lent = Lent { pod: Arc::clone(&pod), revision };
        Arc::make_mut(&mut self.lent).insert(pod.cookie, lent);
        pod
    }

    fn next_revision(&mut self) -> u64 {
        self.last_revision += 1;
        self.last_revision
    }
}

/// A proxy may have handed back a pod without its ServiceAccount, or under its old addresses.
fn is_as_wanted(pod: &Pod, wanted: &LocalPod) -> bool {
    pod.name == wanted.name
        && pod.addresses == wanted.addresses
        && pod.service_account.as_ref() == Some(&wanted.service_account)
}

fn listener<'a>(pod: &'a Pod, role: &Role) -> Option<&'a TcpListener> {
    pod.listeners.iter().find(|listening| listening.role == *role).map(|found| &found.socket)
}

fn made(wanted: &LocalPod, roles: &[Role]) -> Result<Pod, Failure> {
    let mut listeners = Vec::with_capacity(roles.len());
    for role in roles {
        listeners.push(Listening { role: role.clone(), socket: listen(&wanted.netns, role)? });
    }
    Ok(described(wanted, duplicate(&wanted.netns)?, listeners))
}

/// The same sockets under what the pod is called now, and one for each role that lacks one.
fn renewed(pod: &Pod, wanted: &LocalPod, roles: &[Role]) -> Result<Pod, Failure> {
    let mut listeners = Vec::with_capacity(pod.listeners.len() + roles.len());
    for Listening { role, socket } in &pod.listeners {
        listeners.push(Listening { role: role.clone(), socket: socket.try_clone()? });
    }
    for role in roles.iter().filter(|role| listener(pod, role).is_none()) {
        listeners.push(Listening { role: role.clone(), socket: listen(&pod.netns, role)? });
    }
    Ok(described(wanted, duplicate(&pod.netns)?, listeners))
}

fn described(wanted: &LocalPod, netns: Netns, listeners: Vec<Listening>) -> Pod {
    let LocalPod { name, cookie, addresses, service_account, .. } = wanted.clone();
    let (service_account, transparent) = (Some(service_account), Transparent::default());
    Pod { name, cookie, addresses, service_account, netns, listeners, transparent }
}

/// On every address of the pod, on a port that the kernel chooses. Namespaces without IPv6 have IPv4's only.
fn listen(netns: &Netns, role: &Role) -> Result<TcpListener, Error> {
    let both = netns.listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let socket = both.or_else(|_| netns.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))?;
    if *role == Role::Outbound {
        // Who comes to it is in the pod. If it failed, what the proxy answers would be sent as the machine has it.
        let _ = send_unpaced(&socket);
    }
    Ok(socket)
}

fn duplicate(netns: &Netns) -> Result<Netns, Failure> {
    Ok(Netns::from_fd(netns.as_fd().try_clone_to_owned()?)?)
}

const BOTH: &[Role] = &[Role::Outbound, Role::Inbound];
