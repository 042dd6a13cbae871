//! `sessionAffinity: ClientIP` on the `http` path: a client keeps its endpoint while it goes on coming.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::Moment;

/// Which endpoint each client of one backend used last. Bounded: of too many clients, those forget that
/// have not come for longest.
#[derive(Debug)]
pub struct Affinity {
    timeout: Duration,
    clients: Mutex<Recent<IpAddr, Used>>,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    endpoint: u64,
    at: Moment,
}

impl Affinity {
    /// As many clients as the kernel's table holds for all Services together (datapath, `weft_affinity`).
    pub const CLIENTS: usize = 65_536;

    /// `timeout` counts from the last request, as in the kernel.
    pub fn new(timeout: Duration) -> Self {
        Self::bounded(timeout, Self::CLIENTS)
    }

    fn bounded(timeout: Duration, clients: usize) -> Self {
        Self { timeout, clients: Mutex::new(Recent::new(clients)) }
    }

    /// [`EndpointState::id`](super::EndpointState::id) of the endpoint that the client used last, unless
    /// that is too long ago.
    pub fn endpoint(&self, client: IpAddr, now: Moment) -> Option<u64> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let used = clients.get(client.to_canonical())?;
        (now.since(used.at) <= self.timeout).then_some(used.endpoint)
    }

    /// The client uses `endpoint`.
    pub fn used(&self, client: IpAddr, endpoint: u64, now: Moment) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.put(client.to_canonical(), Used { endpoint, at: now });
    }
}

/// A map of at most `limit` entries in two generations: when the young one is half of that, it becomes the
/// old one, and what was not used since the last time goes. The last `limit / 2` are always there; nothing is
/// searched, ever.
#[derive(Debug)]
struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Hash + Eq + Copy, V: Copy> Recent<K, V> {
    fn new(limit: usize) -> Self {
        Self { half: (limit / 2).max(1), young: HashMap::new(), old: HashMap::new() }
    }

    fn get(&mut self, key: K) -> Option<V> {
        if let Some(value) = self.young.get(&key) {
            return Some(*value);
        }
        let value = self.old.remove(&key)?;
        self.put(key, value);
        Some(value)
    }

    fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_client_keeps_its_endpoint_while_it_goes_on_coming() {
        let affinity = Affinity::new(Duration::from_secs(10));
        assert_eq!(affinity.endpoint(client(1), at(0)), None);
        affinity.used(client(1), 7, at(0));
        assert_eq!(affinity.endpoint(client(1), at(10)), Some(7));
        assert_eq!(affinity.endpoint(client(2), at(10)), None);
        affinity.used(client(1), 7, at(10));
        assert_eq!(affinity.endpoint(client(1), at(20)), Some(7));
        assert_eq!(affinity.endpoint(client(1), at(21)), None);
        assert_eq!(affinity.endpoint("::ffff:0.0.0.1".parse().unwrap(), at(20)), Some(7));
    }

    #[test]
    fn of_too_many_clients_those_forget_that_have_not_come_for_longest() {
        let affinity = Affinity::bounded(Duration::from_hours(3), 100);
        for n in 0..1000 {
            affinity.used(client(n), u64::from(n), at(u64::from(n)));
            assert_eq!(affinity.endpoint(client(0), at(u64::from(n))), Some(0), "it comes all the time");
        }
        let clients = affinity.clients.lock().unwrap();
        assert!(clients.young.len() + clients.old.len() <= 100);
        drop(clients);
        assert_eq!(affinity.endpoint(client(999), at(1000)), Some(999));
        assert_eq!(affinity.endpoint(client(1), at(1000)), None);
    }

    #[test]
    fn clients_that_come_again_push_nobody_out() {
        let affinity = Affinity::bounded(Duration::from_hours(3), 4);
        for n in [1, 2, 3, 4, 4, 3, 4] {
            affinity.used(client(n), u64::from(n), at(0));
        }
        assert_eq!(affinity.endpoint(client(1), at(0)), Some(1));
    }
}
