//! Live connections, from the kernel's own list.

use std::{
    collections::{BTreeSet, HashSet},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use weft_abi::{BePort, SocketState, socket_flags};
use weft_model::{ObjectName, Protocol};
use weft_telemetry::{
    api::{ConnectionView, Failure, Path},
    metrics::Metrics,
};
use weft_transport::{Diag, Query, Socket, State as TcpState, States};

use crate::{
    flows::{Names, Tracker},
    maps::socket_state,
    state::{State, socket_states},
};

/// Lists the sockets of this node's pods apart from the state: a pod may have a hundred thousand of them,
/// and no update waits for a list of those.
pub(crate) struct Lister {
    pods: Vec<(ObjectName, Arc<Mutex<Diag>>)>,
    states: OwnedFd,
}

impl Lister {
    /// Of the pods that are enrolled now. It keeps their network namespaces alive: use it at once.
    pub(crate) fn new(state: &State) -> Result<Self, Failure> {
        let pods = state.namespaces.iter().map(|(name, held)| (name.clone(), Arc::clone(&held.lister)));
        let states = socket_states(&state.maps.sockets).try_clone_to_owned().map_err(|error| {
            let remedy = "raise the limit of open files (LimitNOFILE) of the agent";
            Failure::new(format!("the map of socket states cannot be opened again: {error}"), remedy)
        })?;
        Ok(Self { pods: pods.collect(), states })
    }

    /// The live TCP sockets of a pod.
    fn live(&self, pod: &ObjectName, diag: &Mutex<Diag>) -> Result<Vec<Socket>, Failure> {
        query(pod, diag, &Query::tcp(States::LIVE).with_info().with_storage(self.states.as_fd()))
    }
}

/// The connections of this node's pods. One between two of them is listed once, from the client's end.
pub(crate) fn connections(lister: &Lister, names: &Names) -> Result<Vec<ConnectionView>, Failure> {
    let now = weft_now();
    let mut sockets = Vec::new();
    for (pod, diag) in &lister.pods {
        let ports = listening(pod, diag)?;
        sockets.extend(lister.live(pod, diag)?.into_iter().map(|socket| End::of(socket, &ports)));
    }
    let clients = sockets.iter().filter(|end| !end.is_server);
    let clients: HashSet<_> = clients.map(|end| (end.socket.local, end.socket.remote)).collect();
    let managed =
        sockets.iter().filter(|end| end.known.is_some_and(|known| known.flags & socket_flags::CLIENT != 0));
    let managed: HashSet<_> = managed.map(|end| (end.socket.local, end.socket.remote)).collect();
    let twice = |end: &&End| {
        let other = (end.socket.remote, end.socket.local);
        (end.is_server && clients.contains(&other)) || (end.known.is_none() && managed.contains(&other))
    };
    Ok(sockets.iter().filter(|end| !twice(end)).map(|end| view(end, names, now)).collect())
}

/// Counts the bytes of live connections.
pub(crate) fn progress(lister: &Lister, tracker: &Tracker, metrics: &Metrics) {
    let (mut live, mut all) = (HashSet::new(), true);
    for (pod, diag) in &lister.pods {
        let sockets = match lister.live(pod, diag) {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::warn!(%error, "bytes of live connections are not counted");
                all = false;
                continue;
            }
        };
        for socket in sockets {
            let Some(known) = socket.storage.as_deref().and_then(socket_state) else { continue };
            let connection = known.connection(BePort::new(socket.local.port()));
            live.insert(connection);
            let (out, into) = bytes(&socket, &known);
            let (sent, received) =
                if known.flags & socket_flags::CLIENT != 0 { (out, into) } else { (into, out) };
            if known.flags & socket_flags::REPORTED != 0 {
                tracker.progress(connection, sent, received, metrics);
            }
        }
    }
    if all {
        tracker.forget_all_but(&live, metrics);
    }
}

fn query(pod: &ObjectName, diag: &Mutex<Diag>, query: &Query<'_>) -> Result<Vec<Socket>, Failure> {
    // A dump that panicked is answered under a number that the next one does not look for.
    let mut diag = diag.lock().unwrap_or_else(PoisonError::into_inner);
    diag.sockets(query)
        .map_err(|error| Failure::new(format!("sockets of pod {pod} cannot be listed: {error}"), ""))
}

/// The ports of a pod that somebody listens on.
fn listening(pod: &ObjectName, diag: &Mutex<Diag>) -> Result<BTreeSet<u16>, Failure> {
    let sockets = query(pod, diag, &Query::tcp(States::of(&[TcpState::Listen])))?;
    Ok(sockets.iter().map(|socket| socket.local.port()).collect())
}

/// One end of a connection.
struct End {
    socket: Socket,
    known: Option<SocketState>,
    is_server: bool,
}

impl End {
    /// A socket that no hook has seen is the server's when it is on a port that listens.
    fn of(socket: Socket, listening: &BTreeSet<u16>) -> Self {
        let known = socket.storage.as_deref().and_then(socket_state);
        let is_server = match &known {
            Some(known) => known.flags & socket_flags::SERVER != 0,
            None => listening.contains(&socket.local.port()),
        };
        Self { socket, known, is_server }
    }
}

fn view(end: &End, names: &Names, now: u64) -> ConnectionView {
    let End { socket, known, is_server } = end;
    let (known, is_server) = (known.as_ref(), *is_server);
    let (client, server) =
        if is_server { (socket.remote, socket.local) } else { (socket.local, socket.remote) };
    let service = known.map_or(0, |known| known.service);
    let counted = known.map(|known| bytes(socket, known));
    let info = socket.info;
    ConnectionView {
        protocol: Protocol::Tcp,
        state: state_name(socket.state).to_owned(),
        path: if known.is_some_and(|known| known.redirected + known.arrived > 0) {
            Path::Accelerated
        } else {
            Path::Kernel
        },
        managed: known.is_some(),
        source: names.source(client.ip(), client.port(), !is_server),
        destination: names.destination(server.ip(), server.port(), service),
        bytes_sent: counted.map(|(out, into)| if is_server { into } else { out }),
        bytes_received: counted.map(|(out, into)| if is_server { out } else { into }),
        duration_ms: known.map(|known| now.saturating_sub(known.since_ns) / 1_000_000),
        rtt_us: info.map(|info| u32::try_from(info.rtt.as_micros()).unwrap_or(u32::MAX)),
        retransmits: info.map(|info| info.retransmits),
    }
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
