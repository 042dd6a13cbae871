//! Tables in memory, for the tests of this crate.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    vec::Vec,
};

use weft_abi::{
    Addr, Affinity, AffinityKey, Backend, CidrMatch, Config, FlowKey, FlowRecord, MaglevChunk, MaglevKey,
    Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow, ServiceKey, ServiceRow, Slot, SlotKey,
};

use crate::Tables;

/// Maps that hold what a test puts in, a clock that stands still, dice that fall as told.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) config: Config,
    pub(crate) pods: HashMap<u64, Pod>,
    pub(crate) pod_ips: HashMap<Addr, PodRow>,
    pub(crate) pod_ports: HashMap<PodPortKey, PodPort>,
    /// Each read sees the next row, and the last one from then on: an update happens between two reads.
    pub(crate) services: HashMap<ServiceKey, Vec<ServiceRow>>,
    pub(crate) slots: HashMap<SlotKey, Slot>,
    pub(crate) backends: HashMap<u64, Backend>,
    pub(crate) maglev: HashMap<MaglevKey, MaglevChunk>,
    /// The row of a policy and token, whatever the protocol and port, where `ports` has none.
    pub(crate) policies: HashMap<(u64, u64), PolicyRow>,
    /// Rows of ports.
    pub(crate) ports: HashMap<PolicyKey, PolicyRow>,
    /// The token of an address, whatever the policy.
    pub(crate) cidrs: HashMap<Addr, u64>,
    pub(crate) flows: HashMap<FlowKey, FlowRecord>,
    pub(crate) affinity: RefCell<HashMap<AffinityKey, Affinity>>,
    pub(crate) open: HashMap<u64, u64>,
    /// What is drawn next; 0 when nothing is left.
    pub(crate) dice: RefCell<VecDeque<u32>>,
    pub(crate) turn: Cell<u32>,
    pub(crate) now: Cell<u64>,
    pub(crate) lease: u64,
    /// The cgroup of whoever calls.
    pub(crate) cgroup: u64,
    /// How often a slot or backend was missing.
    pub(crate) missed: Cell<u32>,
    /// What was asked of the policy map, in order.
    pub(crate) asked: RefCell<Vec<PolicyKey>>,
    reads: Cell<usize>,
}

impl Tables for Memory {
    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn pod(&self, netns: u64) -> Option<&Pod> {
        self.pods.get(&netns)
    }

    fn pod_at(&self, addr: &Addr) -> Option<&PodRow> {
        self.pod_ips.get(addr)
    }

    fn pod_port(&self, key: &PodPortKey) -> Option<&PodPort> {
        self.pod_ports.get(key)
    }

    fn service(&self, key: &ServiceKey) -> Option<&ServiceRow> {
        let rows = self.services.get(key)?;
        let read = self.reads.replace(self.reads.get() + 1);
        rows.get(read).or(rows.last())
    }

    fn slot(&self, key: &SlotKey) -> Option<&Slot> {
        self.slots.get(key)
    }

    fn backend(&self, id: u64) -> Option<&Backend> {
        self.backends.get(&id)
    }

    fn maglev(&self, key: &MaglevKey) -> Option<&MaglevChunk> {
        self.maglev.get(key)
    }

    fn policy(&self, key: &PolicyKey) -> Option<&PolicyRow> {
        self.asked.borrow_mut().push(*key);
        self.ports.get(key).or_else(|| self.policies.get(&(key.policy, key.token)))
    }

    fn cidr(&self, key: &CidrMatch) -> Option<u64> {
        self.cidrs.get(&key.addr).copied()
    }

    fn flow(&self, key: &FlowKey) -> Option<FlowRecord> {
        self.flows.get(key).copied()
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        self.affinity.borrow().get(key).copied()
    }

    fn stick(&self, key: &AffinityKey, value: &Affinity) {
        self.affinity.borrow_mut().insert(*key, *value);
    }

    fn open(&self, backend: u64) -> u64 {
        self.open.get(&backend).copied().unwrap_or(0)
    }

    fn turn(&self, _service: u64) -> u32 {
        self.turn.replace(self.turn.get().wrapping_add(1))
    }

    fn random(&self) -> u32 {
        self.dice.borrow_mut().pop_front().unwrap_or(0)
    }

    fn now_ns(&self) -> u64 {
        self.now.get()
    }

    fn tick_ns(&self) -> u64 {
        self.now.get()
    }

    fn lease_ns(&self) -> u64 {
        self.lease
    }

    fn is_called_from(&self, cgroup: u64) -> bool {
        self.cgroup == cgroup
    }

    fn slot_missed(&self) {
        self.missed.set(self.missed.get() + 1);
        assert!(self.missed.get() < 10, "a decision that looks again and again never ends");
    }
}
