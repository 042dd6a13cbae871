//! Ends live connections that the configuration now forbids.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    sync::Arc,
};

use weft_abi::{BePort, FlowKey, Reason, TCP, socket_flags};
use weft_model::{MtlsMode, ObjectName, Protocol, Snapshot, Workload};
use weft_policy::{Identity, Protection, Request, decide};
use weft_transport::{Diag, Netns, Query, Socket, State, States};

use crate::{
    host,
    maps::socket_state,
    netns::{Held, Namespaces},
    rows::token,
};

/// Whose connections are judged: pods of this node and what protects them now.
pub(crate) type Protections = BTreeMap<ObjectName, Arc<Protection>>;

/// Ends what policy forbids, or the mode of mutual TLS, at both ends where both are here. Returns how many connections
/// ended.
///
/// A connection's client is the pod whose namespace lists the other end of the very connection, whatever
/// address that has. Else it is believed to be the pod that has its address when the kernel `attests` that (of
/// UDP: when that pod has a socket on the port that the datagrams come from): the kernel cannot be lied to
/// about any of it.
pub(crate) fn forbidden(
    namespaces: &mut Namespaces,
    snapshot: &Snapshot,
    judged: &Protections,
    states: BorrowedFd<'_>,
    hints: &Hints,
    attests: impl Fn(&FlowKey) -> Option<u64>,
) -> usize {
    let people = People::of(snapshot, |pod| namespaces.get(pod).is_some());
    let lists = lists(namespaces, states);
    let ends = Ends::of(&lists, &people);
    let mut doomed: BTreeMap<ObjectName, Vec<Socket>> = BTreeMap::new();
    for (name, protection) in judged {
        let Some(sockets) = lists.get(name) else { continue };
        let ports = Ports::of(sockets);
        for socket in sockets {
            let other = ends.other(socket);
            // From another's address a pod is dialled in itself by its proxy alone, which judges whom it lets in.
            if other.is_some_and(|(pod, _)| pod == name) {
                continue;
            }
            let tcp = socket.protocol == weft_transport::Protocol::Tcp;
            let attested = if tcp { attests(&inward(socket)) } else { None };
            if !inbound(socket, other.map(|(_, other)| other), attested.is_some(), &ports, hints) {
                continue;
            }
            let client = other.and_then(|(name, _)| snapshot.workloads.get(name));
            let proven = |pod: &Workload| {
                let account = || token::service_account(&pod.service_account);
                attested.is_some_and(|attested| attested == account()) || ends.sends(pod, socket)
            };
            let identity = match (client, people.at(socket)) {
                (Some(client), _) => Identity::Proven(&client.service_account),
                (None, Some(pod)) if proven(pod) => Identity::Proven(&pod.service_account),
                (None, Some(pod)) => Identity::FromAddress(&pod.service_account),
                (None, None) => Identity::Unknown,
            };
            // What comes by mutual TLS comes to the proxy.
            let strict = tcp && snapshot.mtls.mode(name, socket.local.port()) == MtlsMode::Strict;
            let in_clear = strict && !matches!(identity, Identity::Proven(_));
            if in_clear || is_forbidden(protection, socket, identity) {
                doomed.entry(name.clone()).or_default().push(socket.clone());
                if let Some((client, other)) = other {
                    doomed.entry(client.clone()).or_default().push(other.clone());
                }
            }
        }
    }
    doomed.iter().filter_map(|(name, sockets)| Some(end(&mut namespaces.get_mut(name)?.diag, sockets))).sum()
}

/// Ends connected UDP sockets of enrolled pods by their cookies. One that was disconnected meanwhile stays.
pub(crate) fn stale_udp(namespaces: &mut Namespaces, cookies: &HashSet<u64>) -> usize {
    namespaces.iter_mut().map(|(_, held)| told(stale_udp_in(&mut held.diag, cookies))).sum()
}

/// As [`stale_udp`], of whoever is on this machine: with `--service-scope node` everybody is balanced.
pub(crate) fn stale_udp_anywhere(cookies: &HashSet<u64>) -> usize {
    let ended = |netns: &Netns| Diag::open(netns).and_then(|mut diag| stale_udp_in(&mut diag, cookies));
    host::network_namespaces().iter().map(|netns| told(ended(netns))).sum()
}

fn stale_udp_in(diag: &mut Diag, cookies: &HashSet<u64>) -> Result<usize, weft_transport::Error> {
    let sockets = diag.sockets(&Query::connected_udp())?;
    let stale: Vec<_> = sockets.into_iter().filter(|socket| cookies.contains(&socket.cookie)).collect();
    Ok(end(diag, &stale))
}

fn told(ended: Result<usize, weft_transport::Error>) -> usize {
    ended.unwrap_or_else(|error| {
        tracing::warn!(%error, "sockets of a network namespace cannot be listed");
        0
    })
}

/// What is known of sockets that do not say themselves which end they are.
pub(crate) struct Hints {
    /// Cookies of UDP sockets that are connected through a Service: they ask.
    pub asking: HashSet<u64>,
    /// Where Services lead to: who has such an address answers.
    pub served: HashSet<(weft_transport::Protocol, SocketAddr)>,
}

/// Who has which address.
struct People<'a> {
    by_ip: HashMap<IpAddr, &'a Workload>,
}

impl<'a> People<'a> {
    /// As the rows by address have it: of two pods that claim one, the pod that is here, else the first by
    /// name.
    fn of(snapshot: &'a Snapshot, is_here: impl Fn(&ObjectName) -> bool) -> Self {
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            snapshot.workloads.values().partition(|pod| is_here(&pod.name));
        let mut by_ip = HashMap::new();
        for pod in here.into_iter().chain(elsewhere) {
            for ip in &pod.ips {
                by_ip.entry(*ip).or_insert(&**pod);
            }
        }
        Self { by_ip }
    }

    /// The pod at the other end of `socket`, by its address.
    fn at(&self, socket: &Socket) -> Option<&'a Workload> {
        self.by_ip.get(&socket.remote.ip()).copied()
    }
}

/// Every socket of this node's pods, by what its other end calls itself.
struct Ends<'a> {
    by_addresses: HashMap<(weft_transport::Protocol, SocketAddr, SocketAddr), (&'a ObjectName, &'a Socket)>,
    /// UDP ports that a pod sends from without being connected.
    unconnected: HashSet<(&'a ObjectName, u16)>,
}

impl<'a> Ends<'a> {
    fn of(lists: &'a HashMap<ObjectName, Vec<Socket>>, people: &People<'_>) -> Self {
        let all = lists.iter().flat_map(|(name, sockets)| sockets.iter().map(move |socket| (name, socket)));
        let (unconnected, connected): (Vec<_>, Vec<_>) = all.partition(|(_, s)| s.state == State::Close);
        let mut by_addresses = HashMap::new();
        for (name, s) in connected {
            // Of two that call themselves alike, it is the socket of the pod that has the address.
            let owns = || people.by_ip.get(&s.local.ip()).is_some_and(|pod| pod.name == *name);
            let end = by_addresses.entry((s.protocol, s.remote, s.local)).or_insert((name, s));
            if end.0 != name && owns() {
                *end = (name, s);
            }
        }
        let unconnected = unconnected.into_iter().map(|(name, s)| (name, s.local.port())).collect();
        Self { by_addresses, unconnected }
    }

    /// Whether `pod` has the socket, not connected, whose datagrams `socket` takes.
    fn sends(&self, pod: &Workload, socket: &Socket) -> bool {
        socket.protocol == weft_transport::Protocol::Udp
            && self.unconnected.contains(&(&pod.name, socket.remote.port()))
    }

    fn other(&self, socket: &Socket) -> Option<(&'a ObjectName, &'a Socket)> {
        self.by_addresses.get(&(socket.protocol, socket.local, socket.remote)).copied()
    }
}

fn lists(namespaces: &mut Namespaces, states: BorrowedFd<'_>) -> HashMap<ObjectName, Vec<Socket>> {
    let list = |(name, held): (&ObjectName, &mut Held)| {
        let live = held.diag.sockets(&Query::tcp(States::LIVE).with_storage(states));
        let listening = held.diag.sockets(&Query::tcp(States::of(&[State::Listen])));
        let udp = held.diag.sockets(&Query::connected_udp());
        let unconnected = held.diag.sockets(&Query::unconnected_udp());
        match (live, listening, udp, unconnected) {
            (Ok(live), Ok(listening), Ok(udp), Ok(unconnected)) => {
                Some((name.clone(), [live, listening, udp, unconnected].concat()))
            }
            (Err(error), ..) | (_, Err(error), ..) | (.., Err(error), _) | (.., Err(error)) => {
                tracing::warn!(pod = %name, %error, "its sockets cannot be listed; its connections are not ended");
                None
            }
        }
    };
    namespaces.iter_mut().filter_map(list).collect()
}

/// The ports of a pod that whoever likes may come to.
struct Ports(HashSet<(weft_transport::Protocol, u16)>);

impl Ports {
    fn of(sockets: &[Socket]) -> Self {
        let open = sockets.iter().filter(|socket| matches!(socket.state, State::Listen | State::Close));
        Self(open.map(|socket| (socket.protocol, socket.local.port())).collect())
    }
}

/// Whether the pod is the server. A server's socket has no state when its client is a pod of this node, which
/// has one and says so, unless it left the mesh meanwhile. Nor has a connection that is older than the pod's
/// enrolment, and a UDP socket never shows its state. Such a one is inbound when the kernel `attested` its
/// client, or when it is on a port that is open to all, or that a Service leads to, unless it is connected
/// through a Service itself.
fn inbound(socket: &Socket, other: Option<&Socket>, attested: bool, ports: &Ports, hints: &Hints) -> bool {
    if matches!(socket.state, State::Listen | State::Close) || socket.remote.ip() == socket.local.ip() {
        return false;
    }
    let flags = |socket: &Socket| socket.storage.as_deref().and_then(socket_state).map(|state| state.flags);
    if let Some(own) = flags(socket) {
        // What the proxy has accepted, it judges itself.
        let exempt = socket_flags::PROBE | socket_flags::BY_PROXY;
        return own & socket_flags::SERVER != 0 && own & exempt == 0;
    }
    if let Some(other) = other.and_then(flags) {
        return other & socket_flags::CLIENT != 0;
    }
    let open = ports.0.contains(&(socket.protocol, socket.local.port()));
    let served = hints.served.contains(&(socket.protocol, socket.local));
    attested || ((open || served) && !hints.asking.contains(&socket.cookie))
}

/// The key of what the client sends to `socket`, as TCP clients are attested. (What is attested of a datagram
/// is about that datagram alone.)
fn inward(socket: &Socket) -> FlowKey {
    FlowKey {
        src: socket.remote.ip().into(),
        dst: socket.local.ip().into(),
        src_port: BePort::new(socket.remote.port()),
        dst_port: BePort::new(socket.local.port()),
        protocol: TCP,
        _pad: [0; 3],
    }
}

fn is_forbidden(protection: &Protection, socket: &Socket, identity: Identity<'_>) -> bool {
    let protocol = match socket.protocol {
        weft_transport::Protocol::Tcp => Protocol::Tcp,
        weft_transport::Protocol::Udp => Protocol::Udp,
    };
    let request =
        Request { source: socket.remote.ip(), identity, protocol, port: socket.local.port(), http: None };
    decide(protection, &request).reason != Reason::NONE
}

fn end(diag: &mut Diag, sockets: &[Socket]) -> usize {
    let mut ended = 0;
    for socket in sockets {
        match diag.destroy(socket) {
            Ok(done) => ended += usize::from(done),
            Err(error) => {
                tracing::error!(%error, local = %socket.local, remote = %socket.remote, "a connection that is forbidden now could not be ended");
            }
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use weft_model::ServiceAccount;

    use super::*;

    fn pod(name: &str) -> (ObjectName, Arc<Workload>) {
        let name = ObjectName::new("shop", name);
        let workload = Workload {
            service_account: ServiceAccount::new("shop", &*name.name),
            owner: Arc::clone(&name.name),
            ips: vec![IpAddr::from([10, 0, 0, 1])],
            node: None,
            local: true,
            labels: Arc::default(),
            enrolled: true,
            netns: None,
            ports: vec![],
            ready: true,
            passage: weft_model::Passage::Done,
            terminating: false,
            created: u64::MAX,
            name: name.clone(),
        };
        (name, Arc::new(workload))
    }

    #[test]
    fn an_address_that_two_pods_claim_is_whose_the_rows_say() {
        let workloads = Arc::new(BTreeMap::from([pod("a"), pod("b"), pod("c")]));
        let snapshot = Snapshot { workloads, ..Snapshot::default() };
        let owner = |is_here: &dyn Fn(&ObjectName) -> bool| {
            People::of(&snapshot, is_here).by_ip[&IpAddr::from([10, 0, 0, 1])].name.name.to_string()
        };
        assert_eq!(owner(&|pod| *pod.name == *"b"), "b", "the one that is here");
        assert_eq!(owner(&|_| false), "a", "the first by name");
    }
}
