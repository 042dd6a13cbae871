//! The connection to the app: from its client's own address, where the pod's namespace lets the answers come back, else
//! from the pod's.
//!
//! The port is not the client's: from the client's own address and port the pod has a connection already, the one that
//! is carried here. Clients connect from even ports first (as Linux chooses them, of the usual range), so an odd one is
//! nobody's, but for an address translation on the way ([`super::ports`]).

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use weft_model::Timeouts;

use crate::{Reason, draw::Draw as _, outbound::connect_plain, worker::Served};

/// Connects to the app at `local`, in the pod's own namespace, for `client`.
pub(crate) async fn to_app(
    served: &Served,
    local: SocketAddr,
    client: SocketAddr,
) -> Result<TcpStream, Reason> {
    let pod = &served.pod;
    if !pod.transparent.reaches(local) || !is_anothers(client.ip(), local) || pod.deaf.has(local.port()) {
        return connect_plain(served, local, Timeouts::CONNECT).await;
    }
    match as_client(served, local, client).await {
        Ok(Some(stream)) => Ok(stream),
        Ok(None) => unheard(served, local).await,
        // Whatever it is, the pod's own address is not to blame for it.
        Err(error) => {
            tracing::debug!(pod = %pod.name, %local, %client, %error, "not connected from the client's address");
            connect_plain(served, local, Timeouts::CONNECT).await
        }
    }
}

/// Connects from the pod's own address to an app that was not heard.
async fn unheard(served: &Served, local: SocketAddr) -> Result<TcpStream, Reason> {
    let (pod, began) = (&served.pod, Instant::now());
    let made = connect_plain(served, local, Timeouts::CONNECT).await;
    // An app that answers at once has answered before, where nobody hears it. One that is late is only late.
    if made.is_ok() && began.elapsed() < AT_ONCE && pod.deaf.learn(local.port()) {
        tracing::warn!(
            pod = %pod.name, port = local.port(),
            "the app's answers to its clients' addresses go elsewhere (does it set SO_MARK, or has the pod rules of its \
             own?): it sees the pod's own address"
        );
    }
    made
}

/// From a port that was used before, if one is free; else from another. `None` where the app is not heard.
async fn as_client(served: &Served, local: SocketAddr, client: SocketAddr) -> io::Result<Option<TcpStream>> {
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    let mut known_ports = KNOWN_PORTS;
    for attempt in 0..PORTS {
        let known = (attempt < known_ports)
            .then(|| served.ports.borrow_mut().again(client.ip(), local, Instant::now()))
            .flatten();
        let port = known.unwrap_or_else(|| port(served.worker.dice.borrow_mut().number()));
        if port == client.port() {
            continue;
        }
        let from = SocketAddr::new(client.ip(), port);
        let socket = match served.pod.netns.outgoing_from(from, local) {
            Ok(socket) => Ok(socket),
            Err(weft_transport::Error::Outgoing { source, .. }) => Err(source),
            Err(error) => return Err(io::Error::other(error)),
        };
        let connected = match socket {
            Ok(socket) => timeout(HEARD, socket.connect(local)).await,
            Err(error) => Ok(Err(error)),
        };
        match connected {
            // What the app has left of an earlier connection may not have taken this for a new one.
            Err(_) if known.is_some() => known_ports = 0,
            Err(_) => return Ok(None),
            Ok(Err(error)) if is_taken(&error) => taken = error,
            Ok(Err(error)) => return Err(error),
            Ok(Ok(stream)) => {
                if known.is_none() {
                    served.ports.borrow_mut().add(client.ip(), local, port, Instant::now());
                }
                return Ok(Some(stream));
            }
        }
    }
    Err(taken)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// Whether `client` can be somebody else's address on the way to `local`.
fn is_anothers(client: IpAddr, local: SocketAddr) -> bool {
    client.is_ipv4() == local.is_ipv4()
        && client != local.ip()
        && !client.is_loopback()
        && !client.is_unspecified()
        && !client.is_multicast()
        && !matches!(client, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// An odd one of those that Linux gives to connections, where no app listens.
fn port(number: u64) -> u16 {
    let of_range = u16::try_from(number % u64::from(RANGE / 2)).expect("it is less than half of the range");
    FIRST + 2 * of_range + 1
}

/// The ports of a pod whose apps do not answer where they can be heard, so that not every connection finds out anew.
#[derive(Debug, Default)]
pub(crate) struct Deaf {
    ports: Mutex<BTreeMap<u16, Instant>>,
}

impl Deaf {
    fn has(&self, port: u16) -> bool {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.get(&port).is_some_and(|since| since.elapsed() < FORGOTTEN)
    }

    /// All of them.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.iter().filter(|(_, since)| since.elapsed() < FORGOTTEN).map(|(port, _)| *port).collect()
    }

    /// Whether that is news. Of more than [`MOST_DEAF`] nothing is kept.
    fn learn(&self, port: u16) -> bool {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.len() >= MOST_DEAF {
            ports.retain(|_, since| since.elapsed() < FORGOTTEN);
        }
        ports.len() < MOST_DEAF && ports.insert(port, Instant::now()).is_none()
    }
}

/// Ports that are tried, and how many of these may have been used before: of who keeps many connections, most are in use.
const PORTS: usize = 8;
const KNOWN_PORTS: usize = 3;
/// `net.ipv4.ip_local_port_range` begins there, and is so long.
const FIRST: u16 = 32_768;
const RANGE: u16 = 28_232;
/// Within the pod no answer takes so long: a lost SYN is sent again after a second.
const HEARD: Duration = Duration::from_millis(900);
const AT_ONCE: Duration = Duration::from_millis(100);
/// Before such a port is tried again: the app may be another one.
const FORGOTTEN: Duration = Duration::from_mins(1);
const MOST_DEAF: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_odd_and_of_those_that_are_given_to_connections() {
        let ports: Vec<_> = (0..u64::from(RANGE)).map(port).collect();
        assert!(ports.iter().all(|port| port % 2 == 1 && (32_768..=60_999).contains(port)));
        let ends = (ports.iter().min().copied(), ports.iter().max().copied());
        assert_eq!((ends, port(u64::MAX) % 2), ((Some(32_769), Some(60_999)), 1));
    }

    #[test]
    fn only_an_address_that_is_somebody_elses_is_used() {
        let local = "10.0.0.1:80".parse().unwrap();
        let local6 = "[fd00::1]:80".parse().unwrap();
        for (client, local, is) in [
            ("10.0.0.2", local, true),
            ("10.0.0.1", local, false),
            ("127.0.0.1", local, false),
            ("0.0.0.0", local, false),
            ("224.0.0.1", local, false),
            ("fd00::2", local, false),
            ("fd00::2", local6, true),
            ("fe80::2", local6, false),
            ("10.0.0.2", local6, false),
        ] {
            assert_eq!(is_anothers(client.parse().unwrap(), local), is, "{client} to {local}");
        }
    }

    #[test]
    fn a_port_that_is_known_is_no_news_and_many_are_not_kept() {
        let deaf = Deaf::default();
        assert!(!deaf.has(80) && deaf.learn(80) && deaf.has(80) && !deaf.learn(80));
        for port in 0..1000 {
            deaf.learn(1000 + port);
        }
        assert_eq!(deaf.ports.lock().unwrap().len(), MOST_DEAF);
    }
}
