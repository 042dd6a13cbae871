//! Live connections, from the kernel's own list; of those that the node's proxy carries, with what it tells of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use weft_abi::{BePort, SocketState, socket_flags};
use weft_model::{ObjectName, Protocol};
use weft_telemetry::{
    api::{ConnectionView, Failure, Path},
    live::{Carried, Ends, Live},
    metrics::Metrics,
    records::Security,
};
use weft_transport::{Diag, Protocol as Transport, Query, Socket, State as TcpState, States};

use super::unprotected::{Groups, Seen, why};
use crate::{
    apply::Listening,
    flows::{Names, Tracker},
    maps::socket_state,
    state::{State, socket_states},
};

/// Lists the sockets of this node's pods apart from the state: a pod may have a hundred thousand of them,
/// and no update waits for a list of those.
pub(crate) struct Lister {
    pods: Vec<Listed>,
    states: OwnedFd,
    cgroup: PathBuf,
    /// A program of ours is not attached to it.
    is_kept_out: bool,
}

/// A pod of this node.
struct Listed {
    name: ObjectName,
    diag: Arc<Mutex<Diag>>,
    listening: Listening,
    /// Cookies of the sockets that are older than its enrolment.
    older: Arc<HashSet<u64>>,
    /// A foreign `sk_lookup` program may take its connections.
    has_foreign_lookup: bool,
}

impl Lister {
    /// Of the pods that are enrolled now. It keeps their network namespaces alive: use it at once.
    pub(crate) fn new(state: &State) -> Result<Self, Failure> {
        let pods = state.namespaces.iter().map(|(name, held)| Listed {
            name: name.clone(),
            diag: Arc::clone(&held.lister),
            listening: state.pods.listening(held.cookie),
            older: Arc::clone(&held.older),
            has_foreign_lookup: state.foreign.contains_key(name),
        });
        let states = socket_states(&state.maps.sockets).try_clone_to_owned().map_err(|error| {
            let remedy = "raise the limit of open files (LimitNOFILE) of the agent";
            Failure::new(format!("the map of socket states cannot be opened again: {error}"), remedy)
        })?;
        let is_kept_out = !state.unattached.is_empty();
        Ok(Self { pods: pods.collect(), states, cgroup: state.cgroup.clone(), is_kept_out })
    }

    /// The live TCP sockets of a pod, and its connected UDP sockets.
    fn live<'a>(&self, pod: &'a Listed) -> Result<Vec<End<'a>>, Failure> {
        let listening = query_of(pod, &Query::tcp(States::of(&[TcpState::Listen])))?;
        let query = Query::tcp(States::LIVE).with_info().with_storage(self.states.as_fd());
        let live = query_of(pod, &query)?;
        let (datagrams, unconnected): (Vec<_>, Vec<_>) =
            query_of(pod, &Query::udp())?.into_iter().partition(|s| s.state == TcpState::Established);
        let open = listening.iter().chain(&unconnected);
        let open: BTreeSet<_> = open.map(|socket| (is_udp(socket), socket.local.port())).collect();
        Ok(live.into_iter().chain(datagrams).map(|socket| End::of(pod, socket, &open)).collect())
    }
}

/// The connections of this node's pods. One between two of them is listed once, from the client's end, and so is one
/// through the node's proxy: as the app has it. Of UDP, connected sockets that the mesh does not protect.
pub(crate) fn connections(
    lister: &Lister,
    names: &Names,
    live: &Live,
) -> Result<Vec<ConnectionView>, Failure> {
    let mut ends = Vec::new();
    for pod in &lister.pods {
        ends.extend(lister.live(pod)?);
    }
    Ok(views(lister, &ends, names, live))
}

/// Counts the bytes of live connections, and those that the mesh does not protect.
pub(crate) fn progress(lister: &Lister, names: &Names, live: &Live, tracker: &Tracker, metrics: &Metrics) {
    let (mut ends, mut all) = (Vec::new(), true);
    for pod in &lister.pods {
        match lister.live(pod) {
            Ok(more) => ends.extend(more),
            Err(error) => {
                tracing::warn!(%error, "bytes of live connections are not counted");
                all = false;
            }
        }
    }
    let mut known = HashSet::new();
    for End { socket, known: state, .. } in &ends {
        let Some(state) = state else { continue };
        let connection = state.connection(BePort::new(socket.local.port()));
        known.insert(connection);
        let (out, into) = bytes(socket, state);
        let (sent, received) =
            if state.flags & socket_flags::CLIENT != 0 { (out, into) } else { (into, out) };
        if state.flags & socket_flags::REPORTED != 0 {
            tracker.progress(connection, sent, received, metrics);
        }
    }
    if all {
        tracker.forget_all_but(&known, metrics);
    }
    let mut unprotected = BTreeMap::new();
    for why in views(lister, &ends, names, live).iter().filter_map(|view| view.unprotected) {
        *unprotected.entry(why).or_default() += 1;
    }
    metrics.agent.unprotected(&unprotected);
}

fn query_of(pod: &Listed, query: &Query<'_>) -> Result<Vec<Socket>, Failure> {
    // A dump that panicked is answered under a number that the next one does not look for.
    let mut diag = pod.diag.lock().unwrap_or_else(PoisonError::into_inner);
    diag.sockets(query)
        .map_err(|error| Failure::new(format!("sockets of pod {} cannot be listed: {error}", pod.name), ""))
}

fn is_udp(socket: &Socket) -> bool {
    socket.protocol == Transport::Udp
}

/// One end of a connection.
struct End<'a> {
    pod: &'a Listed,
    socket: Socket,
    known: Option<SocketState>,
    is_server: bool,
}

impl<'a> End<'a> {
    /// A socket that no hook has seen is the server's when it is on a port that is open to all: the ports of TCP, and
    /// those that are of UDP.
    fn of(pod: &'a Listed, socket: Socket, open: &BTreeSet<(bool, u16)>) -> Self {
        let known = socket.storage.as_deref().and_then(socket_state);
        let is_server = match &known {
            Some(known) => known.flags & socket_flags::SERVER != 0,
            None => open.contains(&(is_udp(&socket), socket.local.port())),
        };
        Self { pod, socket, known, is_server }
    }

    /// [`socket_flags`]; none of a socket that no hook has seen.
    fn flags(&self) -> u32 {
        self.known.map_or(0, |known| known.flags)
    }

    fn addresses(&self) -> (Transport, SocketAddr, SocketAddr) {
        (self.socket.protocol, self.socket.local, self.socket.remote)
    }

    /// The proxy's own end: what it has accepted of the pod, or made for it.
    fn is_of_proxy(&self) -> bool {
        let port = BePort::new(self.socket.local.port());
        let accepted = !is_udp(&self.socket) && port.be != 0 && port == self.pod.listening.outbound;
        let made = self.flags() & (socket_flags::BY_PROXY | socket_flags::SERVER) == socket_flags::BY_PROXY;
        accepted || made
    }

    /// Who is at the other end of a server's: a stream is its client's, whatever address its app sees.
    fn client(&self, live: &HashMap<Ends, Carried>) -> SocketAddr {
        match self.carried(live) {
            Some(carried) if carried.from.port() != 0 => carried.from,
            Some(carried) => SocketAddr::new(carried.from.ip(), self.socket.remote.port()),
            None => self.socket.remote,
        }
    }

    /// How the proxy carries it.
    fn carried<'l>(&self, live: &'l HashMap<Ends, Carried>) -> Option<&'l Carried> {
        let (protocol, local, remote) = self.addresses();
        match self.flags() {
            _ if protocol == Transport::Udp => None,
            flags if flags & socket_flags::PROXIED != 0 => live.get(&Ends::Outbound(local)),
            // Who has the pod's own address as its peer is not seen by any hook.
            flags if flags == 0 || flags & socket_flags::BY_PROXY != 0 => {
                live.get(&Ends::Inbound(remote, local))
            }
            _ => None,
        }
    }
}

fn views(lister: &Lister, ends: &[End<'_>], names: &Names, live: &Live) -> Vec<ConnectionView> {
    let (now, live) = (weft_now(), live.by_ends());
    let clients: HashSet<_> = ends.iter().filter(|end| !end.is_server).map(End::addresses).collect();
    let seen = socket_flags::CLIENT | socket_flags::PROXIED;
    let managed: HashSet<_> = ends.iter().filter(|end| end.flags() & seen != 0).map(End::addresses).collect();
    let twice = |end: &End<'_>| {
        let other = (end.socket.protocol, end.socket.remote, end.socket.local);
        (end.is_server && clients.contains(&other)) || (end.known.is_none() && managed.contains(&other))
    };
    // Streams share a connection between the nodes; each is an app's own.
    let is_stream = |end: &End<'_>| end.is_server && twice(end) && end.carried(&live).is_some();
    let streams = ends.iter().filter(|end| is_stream(end));
    let shared: HashSet<_> = streams.map(|end| (end.client(&live).ip(), end.socket.local)).collect();
    let is_shared = |end: &End<'_>| {
        end.carried(&live).is_none() && shared.contains(&(end.socket.remote.ip(), end.socket.local))
    };
    let groups = Groups::below(&lister.cgroup);
    let shown =
        ends.iter().filter(|end| is_stream(end) || (!twice(end) && !end.is_of_proxy() && !is_shared(end)));
    shown
        .map(|end| {
            let carried = end.carried(&live);
            let End { pod, socket, known, is_server } = end;
            let seen = Seen {
                pod: &pod.name,
                protocol: socket.protocol,
                local: socket.local,
                remote: socket.remote,
                state: socket.state,
                inode: socket.inode,
                group: socket.cgroup,
                is_server: *is_server,
                known: known.as_ref(),
                carried,
                age_ns: known.map_or(0, |known| now.saturating_sub(known.since_ns)),
                is_older: pod.older.contains(&socket.cookie),
                has_foreign_lookup: pod.has_foreign_lookup,
                is_kept_out: lister.is_kept_out,
                groups: &groups,
                names,
            };
            ConnectionView { unprotected: why(&seen), ..view(end, names, &live, now) }
        })
        // What the hooks know of a UDP socket the kernel does not tell.
        .filter(|view| view.protocol == Protocol::Tcp || view.unprotected.is_some())
        .collect()
}

fn view(end: &End<'_>, names: &Names, live: &HashMap<Ends, Carried>, now: u64) -> ConnectionView {
    let carried = end.carried(live);
    let End { socket, known, is_server, .. } = end;
    let (known, is_server) = (known.as_ref(), *is_server);
    let (client, server) =
        if is_server { (end.client(live), socket.local) } else { (socket.local, destination(end, carried)) };
    let service = known.map_or(0, |known| known.service);
    let counted = known.map(|known| bytes(socket, known));
    let info = socket.info;
    let mut source = names.source(client.ip(), client.port(), !is_server);
    if let Some(proven) = carried.and_then(|carried| carried.client.as_ref()) {
        source.identity = Some(Arc::clone(proven));
    }
    ConnectionView {
        protocol: if is_udp(socket) { Protocol::Udp } else { Protocol::Tcp },
        state: state_name(socket.state).to_owned(),
        path: path(end, names, carried),
        managed: known.is_some() || carried.is_some(),
        unprotected: None,
        source,
        destination: names.destination(server.ip(), server.port(), service),
        bytes_sent: counted.map(|(out, into)| if is_server { into } else { out }),
        bytes_received: counted.map(|(out, into)| if is_server { out } else { into }),
        duration_ms: known.map(|known| now.saturating_sub(known.since_ns) / 1_000_000),
        rtt_us: info.map(|info| u32::try_from(info.rtt.as_micros()).unwrap_or(u32::MAX)),
        retransmits: info.map(|info| info.retransmits),
    }
}

/// Where a client's bytes go. Through the proxy that is an endpoint, as soon as it has told which; until then, and for
/// HTTP, what was dialled.
fn destination(end: &End<'_>, carried: Option<&Carried>) -> SocketAddr {
    match (&end.known, carried) {
        (_, Some(carried)) => carried.endpoint,
        (Some(known), None) if known.flags & socket_flags::PROXIED != 0 => {
            SocketAddr::new(known.dialled.to_ip(), known.dialled_port.get())
        }
        _ => end.socket.remote,
    }
}

fn path(end: &End<'_>, names: &Names, carried: Option<&Carried>) -> Path {
    let flags = end.flags();
    let is_tls = match carried {
        Some(carried) => carried.security == Security::MutualTls,
        // Of who comes in, an enrolled pod of another node sends nothing else that could pass.
        None if flags & socket_flags::SERVER != 0 => names.is_enrolled(end.socket.remote.ip()),
        None => flags & socket_flags::TLS != 0,
    };
    // A route's requests go as each of them is routed, over whatever.
    let is_routed = flags & (socket_flags::PROXIED | socket_flags::TLS) == socket_flags::PROXIED;
    if carried.is_some() || flags & (socket_flags::PROXIED | socket_flags::BY_PROXY) != 0 {
        return if is_tls && (!is_routed || carried.is_some()) { Path::Tls } else { Path::Http };
    }
    let redirected = end.known.is_some_and(|known| known.redirected + known.arrived > 0);
    if redirected { Path::Accelerated } else { Path::Kernel }
}

/// Payload out of and into a socket; what was redirected is beside TCP's own counters.
fn bytes(socket: &Socket, known: &SocketState) -> (u64, u64) {
    let Some(info) = socket.info else { return (0, 0) };
    let fin = matches!(socket.state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing);
    let received = info.bytes_received.saturating_sub(u64::from(fin));
    (info.bytes_sent + known.redirected, received + known.arrived)
}

/// As `ss` writes it.
fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTAB",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynReceived | TcpState::NewSynReceived => "SYN-RECV",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Close => "UNCONN",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

fn weft_now() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now =
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, std::time::Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
