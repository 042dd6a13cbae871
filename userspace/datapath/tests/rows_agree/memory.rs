//! What the hooks decide from rows, with the kernel's maps of policies in memory.

use std::collections::HashMap;

use weft_abi::{
    Addr, Affinity, AffinityKey, Backend, BePort, CidrMatch, Config, FlowKey, FlowRecord, MaglevChunk,
    MaglevKey, Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow, ServiceKey, ServiceRow, Slot, SlotKey,
    TCP, UDP,
};
use weft_datapath::rows::{policy::PolicyRows, token};
use weft_ebpf_logic::{Ruling, Tables, authorize};
use weft_model::Protocol;
use weft_policy::Request;

/// The maps of one policy, keys as the bytes that the kernel compares.
pub(crate) struct Memory {
    id: u64,
    flags: u32,
    policy: HashMap<PolicyKey, PolicyRow>,
    cidr: Vec<(u32, Vec<u8>, u64)>,
}

impl Memory {
    /// Maps that hold `rows`.
    pub(crate) fn new(rows: &PolicyRows) -> Self {
        let cidr = rows.cidr.iter().map(|((length, key), class)| (*length, cidr_bytes(key), class.token));
        Self {
            id: rows.id,
            flags: rows.flags,
            policy: rows.policy.iter().copied().collect(),
            cidr: cidr.collect(),
        }
    }

    /// What the hooks say to `request`.
    pub(crate) fn ruling(&self, request: &Request<'_>) -> Ruling {
        if self.id == 0 {
            return Ruling::ALLOWED;
        }
        let claimed = request.identity.claimed();
        let request = weft_ebpf_logic::Request {
            policy: self.id,
            flags: self.flags,
            source: request.source.into(),
            identity: claimed.map_or(0, token::service_account),
            namespace: claimed.map_or(0, |account| token::namespace(&account.namespace)),
            proven: request.identity.proven().is_some(),
            protocol: if request.protocol == Protocol::Tcp { TCP } else { UDP },
            port: BePort::new(request.port),
        };
        authorize(self, &request)
    }
}

/// The value with the longest prefix of `key`.
fn longest<'a, V>(rows: &'a [(u32, Vec<u8>, V)], key: &[u8]) -> Option<&'a V> {
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    let covers = |length: u32, row: &[u8]| (0..length as usize).all(|at| bit(row, at) == bit(key, at));
    let covering = rows.iter().filter(|(length, row, _)| covers(*length, row));
    covering.max_by_key(|(length, ..)| *length).map(|(.., value)| value)
}

fn cidr_bytes(key: &CidrMatch) -> Vec<u8> {
    let mut bytes = key.policy.to_ne_bytes().to_vec();
    bytes.push(key.family);
    bytes.extend(key._pad);
    bytes.extend(key.addr.octets());
    assert_eq!(bytes.len() * 8, CidrMatch::FULL as usize);
    bytes
}

impl Tables for Memory {
    fn policy(&self, key: &PolicyKey) -> Option<&PolicyRow> {
        self.policy.get(key)
    }

    fn cidr(&self, key: &CidrMatch) -> Option<u64> {
        longest(&self.cidr, &cidr_bytes(key)).copied()
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn pod(&self, _netns: u64) -> Option<&Pod> {
        None
    }

    fn pod_at(&self, _addr: &Addr) -> Option<&PodRow> {
        None
    }

    fn pod_port(&self, _key: &PodPortKey) -> Option<&PodPort> {
        None
    }

    fn service(&self, _key: &ServiceKey) -> Option<&ServiceRow> {
        None
    }

    fn slot(&self, _key: &SlotKey) -> Option<&Slot> {
        None
    }

    fn backend(&self, _id: u64) -> Option<&Backend> {
        None
    }

    fn maglev(&self, _key: &MaglevKey) -> Option<&MaglevChunk> {
        None
    }

    fn flow(&self, _key: &FlowKey) -> Option<FlowRecord> {
        None
    }

    fn affinity(&self, _key: &AffinityKey) -> Option<Affinity> {
        None
    }

    fn stick(&self, _key: &AffinityKey, _value: &Affinity) {}

    fn open(&self, _backend: u64) -> u64 {
        0
    }

    fn turn(&self, _service: u64) -> u32 {
        0
    }

    fn random(&self) -> u32 {
        0
    }

    fn tick_ns(&self) -> u64 {
        0
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn lease_ns(&self) -> u64 {
        0
    }

    fn is_called_from(&self, _cgroup: u64) -> bool {
        false
    }

    fn slot_missed(&self) {}
}
