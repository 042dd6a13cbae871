//! A Service as rows: one frontend for each address, port and protocol.

use std::{collections::HashMap, net::IpAddr};

use weft_abi::{
    Addr, Backend, BePort, MAGLEV_CHUNK, MaglevChunk, ServiceKey, Slot, TCP, UDP, algorithm, service_flags,
};
use weft_model::{
    LoadBalancer, Locality, MaglevSeeds, Protocol, ProxyFailure, Service, ServiceKind, ServicePort, eligible,
    maglev_table,
};

use super::{alias, token};

/// One frontend with everything behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// Its address.
    pub key: ServiceKey,
    /// Its id.
    pub id: u64,
    /// [`service_flags`].
    pub flags: u32,
    /// [`algorithm`].
    pub algorithm: u32,
    /// Session affinity in seconds; 0 for none.
    pub affinity_s: u32,
    /// Its slots. None: every connection is refused.
    pub slots: Vec<Slot>,
    /// Its backends by id.
    pub backends: Vec<(u64, Backend)>,
    /// Its Maglev table, in chunks.
    pub maglev: Vec<MaglevChunk>,
    /// Entries of that table.
    pub maglev_size: u32,
}

/// Compiles `service` for clients at `locality`. Headless Services and aliases have no frontend.
pub fn compile(service: &Service, locality: &Locality) -> Vec<Frontend> {
    if service.kind != ServiceKind::ClusterIp {
        return Vec::new();
    }
    let ports = service.ports.iter();
    ports.flat_map(|port| service.ips.iter().map(|ip| frontend(service, port, *ip, locality))).collect()
}

/// The key of a frontend.
pub fn key(ip: IpAddr, port: u16, protocol: Protocol) -> ServiceKey {
    let protocol = number(protocol);
    ServiceKey { addr: Addr::from(ip), port: BePort::new(port), protocol, ..ServiceKey::zeroed() }
}

/// The protocol as the kernel numbers it.
pub fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

fn frontend(service: &Service, port: &ServicePort, ip: IpAddr, locality: &Locality) -> Frontend {
    let key = key(ip, port.port, port.protocol);
    let id = token::id("frontend", [&key.addr.octets()[..], &key.port.be.to_ne_bytes(), &[key.protocol]]);
    let mut frontend = Frontend {
        key,
        id,
        flags: flags(service, port),
        algorithm: algorithm::RANDOM,
        affinity_s: service
            .session_affinity
            .map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
        slots: Vec::new(),
        backends: Vec::new(),
        maglev: Vec::new(),
        maglev_size: 0,
    };
    let (choices, weights) = frontend.choices(port, ip, locality);
    frontend.slots = alias::table(&choices, &weights);
    frontend.address_slots();
    match service.load_balancer {
        LoadBalancer::Random => {}
        LoadBalancer::RoundRobin => frontend.algorithm = algorithm::ROUND_ROBIN,
        LoadBalancer::LeastRequest => frontend.compare_open_connections(&choices, &weights),
        LoadBalancer::SourceIpHash { table_size } => frontend.hash_by_source(&choices, &weights, table_size),
    }
    frontend
}

fn flags(service: &Service, port: &ServicePort) -> u32 {
    let accelerate = if service.accelerate { service_flags::ACCELERATE } else { 0 };
    let proxy = match service.proxy_failure {
        _ if port.protocol != Protocol::Tcp || port.routing.is_none() => 0,
        ProxyFailure::Closed => service_flags::PROXY,
        ProxyFailure::Open => service_flags::PROXY | service_flags::PROXY_OPEN,
    };
    accelerate | proxy
}

impl Frontend {
    /// Whether its connections go to the node's proxy.
    pub fn is_for_proxy(&self) -> bool {
        self.flags & service_flags::PROXY != 0
    }

    /// Where there is no proxy that knows it, its connections do not go there.
    pub fn stay_in_the_kernel(&mut self) {
        self.flags &= !(service_flags::PROXY | service_flags::PROXY_OPEN);
    }

    /// The backends that may take a connection, each with its weight; 0 stands for a share without any.
    fn choices(&mut self, port: &ServicePort, ip: IpAddr, locality: &Locality) -> (Vec<u64>, Vec<f64>) {
        let (mut choices, mut weights) = (Vec::new(), Vec::new());
        for group in port.groups.iter().filter(|group| group.weight > 0) {
            let same_family = |address: IpAddr| address.is_ipv4() == ip.is_ipv4();
            let takers: Vec<_> =
                eligible(group, locality).into_iter().filter(|e| same_family(e.address.ip())).collect();
            if takers.is_empty() && port.groups.len() > 1 {
                choices.push(0);
                weights.push(f64::from(group.weight));
            }
            for endpoint in &takers {
                let backend = Backend {
                    addr: Addr::from(endpoint.address.ip()),
                    service: self.id,
                    port: BePort::new(endpoint.address.port()),
                    retired: 0,
                    _pad: 0,
                    weight: 0,
                };
                let id = backend_id(&backend);
                self.backends.push((id, backend));
                choices.push(id);
                #[expect(clippy::cast_precision_loss, reason = "a Service has fewer than 2^52 endpoints")]
                weights.push(f64::from(group.weight) / takers.len() as f64);
            }
        }
        if choices.iter().all(|choice| *choice == 0) {
            choices.clear();
            weights.clear();
        }
        self.backends.sort_unstable_by_key(|(id, _)| *id);
        self.backends.dedup_by_key(|(id, _)| *id);
        (choices, weights)
    }

    /// Writes into each slot where its backend is.
    fn address_slots(&mut self) {
        for slot in &mut self.slots {
            slot.service = self.id;
            if let Ok(at) = self.backends.binary_search_by_key(&slot.backend, |(id, _)| *id) {
                (slot.addr, slot.port) = (self.backends[at].1.addr, self.backends[at].1.port);
            }
        }
    }

    fn compare_open_connections(&mut self, choices: &[u64], weights: &[f64]) {
        self.algorithm = algorithm::LEAST_REQUEST;
        // A backend may be in several groups.
        let mut by_backend: HashMap<u64, f64> = HashMap::new();
        for (choice, weight) in choices.iter().zip(weights) {
            *by_backend.entry(*choice).or_default() += weight;
        }
        let weight = |id: u64| by_backend.get(&id).copied().unwrap_or_default();
        let heaviest = self.backends.iter().map(|(id, _)| weight(*id)).fold(f64::MIN_POSITIVE, f64::max);
        for (id, backend) in &mut self.backends {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most the heaviest's"
            )]
            let share = (weight(*id) / heaviest * f64::from(HEAVIEST)).round() as u32;
            backend.weight = share.max(1);
        }
    }

    fn hash_by_source(&mut self, choices: &[u64], weights: &[f64], table_size: u32) {
        self.algorithm = algorithm::SOURCE_IP;
        let hash = |kind, choice: &u64| token::id(kind, [&choice.to_be_bytes()[..]]);
        let seeds = |choice: &u64| MaglevSeeds { offset: hash("offset", choice), skip: hash("skip", choice) };
        let seeds: Vec<_> = choices.iter().map(seeds).collect();
        let table = maglev_table(&seeds, weights, table_size as usize);
        let chunk = |part: &[u16]| {
            let mut chunk = MaglevChunk::zeroed();
            chunk.slots[..part.len()].copy_from_slice(part);
            chunk
        };
        self.maglev_size = u32::try_from(table.len()).expect("as large as asked for");
        self.maglev = table.chunks(MAGLEV_CHUNK as usize).map(chunk).collect();
    }
}

/// The weight of a frontend's heaviest backend.
const HEAVIEST: u32 = 1 << 16;

fn backend_id(backend: &Backend) -> u64 {
    let (service, port) = (backend.service.to_ne_bytes(), backend.port.be.to_ne_bytes());
    token::id("backend", [&service[..], &backend.addr.octets(), &port])
}

#[cfg(test)]
mod tests;
