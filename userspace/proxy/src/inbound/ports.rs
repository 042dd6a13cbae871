//! From which ports the proxy comes to a pod's apps in the place of their clients: from few, and those again and again.
//!
//! ```text
//! the app ◄── client:odd ── the proxy ◄── client:even ── the client        both in the pod's namespace
//!  └─ closes first: it keeps client:odd for a minute (TIME_WAIT)
//! ```
//! An address translation on the way gives a client any port, so also one that the app still has a connection from: that
//! client's SYN would come to this one, and what answers it is the proxy's to hear. Nobody answers the client until it
//! gives up. A port that is used again is not kept beside others.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time::Instant;

/// Those that were used, of each client and each port of the pod.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// With when it was taken last; that of longest ago first.
    used: HashMap<(IpAddr, SocketAddr), VecDeque<(u16, Instant)>>,
}

impl Ports {
    /// One that was used before and may be free, if any has rested for long enough. It is taken.
    pub(super) fn again(&mut self, client: IpAddr, local: SocketAddr, now: Instant) -> Option<u16> {
        let used = self.used.get_mut(&(client, local))?;
        let (port, _) = used.pop_front_if(|(_, taken)| now.duration_since(*taken) >= REST)?;
        used.push_back((port, now));
        Some(port)
    }

    /// It was none of them, and is taken.
    pub(super) fn add(&mut self, client: IpAddr, local: SocketAddr, port: u16, now: Instant) {
        if self.used.len() >= MOST_CLIENTS && !self.used.contains_key(&(client, local)) {
            self.used.clear();
        }
        let used = self.used.entry((client, local)).or_default();
        if used.len() >= MOST_PORTS {
            used.pop_front();
        }
        used.push_back((port, now));
    }
}

/// A connection from a port that was just left has to look newer to the app's end: by its time stamps, of a millisecond each,
/// and its first sequence number.
const REST: Duration = Duration::from_millis(5);
/// More than clients that open thousands of connections a second need.
const MOST_PORTS: usize = 256;
/// Beyond that all begin anew.
const MOST_CLIENTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(6);

    fn ends(client: u8) -> (IpAddr, SocketAddr) {
        ([10, 0, 0, client].into(), "10.0.1.1:80".parse().unwrap())
    }

    #[tokio::test]
    async fn a_port_is_taken_again_once_it_has_rested_that_of_longest_ago_first() {
        let ((client, local), mut ports, start) = (ends(1), Ports::default(), Instant::now());
        assert_eq!(ports.again(client, local, start), None);
        ports.add(client, local, 33_001, start);
        ports.add(client, local, 33_003, start);
        assert_eq!(ports.again(client, local, start + REST / 2), None, "they have not rested");
        let later = start + MOMENT;
        assert_eq!(ports.again(client, local, later), Some(33_001));
        assert_eq!(ports.again(client, local, later), Some(33_003));
        assert_eq!(ports.again(client, local, later), None);
        assert_eq!(ports.again(client, local, later + MOMENT), Some(33_001));
        assert_eq!(ports.again(ends(2).0, local, later + MOMENT), None, "another client has none yet");
    }

    #[tokio::test]
    async fn of_many_ports_and_of_many_clients_not_all_are_kept() {
        let ((client, local), mut ports, start) = (ends(1), Ports::default(), Instant::now());
        for port in 1..1_000 {
            ports.add(client, local, port, start);
        }
        assert_eq!(ports.used[&(client, local)].len(), MOST_PORTS);
        assert_eq!(ports.again(client, local, start + MOMENT), Some(1_000 - 256));
        for client in 0..10_000_u32 {
            ports.add(IpAddr::V4(client.into()), local, 33_001, start);
        }
        assert!(ports.used.len() <= MOST_CLIENTS);
    }
}
