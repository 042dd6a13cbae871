//! What decisions read and write.

use weft_abi::{
    Addr, Affinity, AffinityKey, Backend, CidrMatch, Config, FlowKey, FlowRecord, MaglevChunk, MaglevKey,
    Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow, Reason, ServiceKey, ServiceRow, Slot, SlotKey,
};

use crate::{Caller, Destination, Request, Ruling, authorize, pick};

/// The maps, the clock and the dice; and the two decisions that the kernel has as functions of their own.
///
/// A reference may be overwritten by user space while it is held: take what is needed once, at once.
pub trait Tables: Sized {
    /// [`authorize`], asked as a step of another decision.
    fn authorize(&self, request: &Request) -> Ruling {
        authorize(self, request)
    }
    /// [`pick`], asked as a step of another decision.
    fn pick(&self, key: &ServiceKey, caller: &Caller, to: &mut Destination) -> Reason {
        pick(self, key, caller, to)
    }
    /// Run-time switches.
    fn config(&self) -> Option<&Config>;
    /// The enrolled pod of this node with this network namespace.
    fn pod(&self, netns: u64) -> Option<&Pod>;
    /// The pod with this address, on any node.
    fn pod_at(&self, addr: &Addr) -> Option<&PodRow>;
    /// The mode of a pod's port that has its own.
    fn pod_port(&self, key: &PodPortKey) -> Option<&PodPort>;
    /// The frontend with this address.
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRow>;
    /// A slot.
    fn slot(&self, key: &SlotKey) -> Option<&Slot>;
    /// A backend.
    fn backend(&self, id: u64) -> Option<&Backend>;
    /// A part of a Maglev table.
    fn maglev(&self, key: &MaglevKey) -> Option<&MaglevChunk>;
    /// The row of exactly these ports.
    fn policy(&self, key: &PolicyKey) -> Option<&PolicyRow>;
    /// Token of the longest block that holds the address.
    fn cidr(&self, key: &CidrMatch) -> Option<u64>;
    /// What the kernel attests of this direction of a flow.
    fn flow(&self, key: &FlowKey) -> Option<FlowRecord>;
    /// The backend that a client sticks to.
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;
    /// Makes a client stick.
    fn stick(&self, key: &AffinityKey, value: &Affinity);
    /// Open connections of a backend.
    fn open(&self, backend: u64) -> u64;
    /// The next turn of a frontend, from 0; wraps around.
    fn turn(&self, service: u64) -> u32;
    /// 32 random bits.
    fn random(&self) -> u32;
    /// Nanoseconds since boot.
    fn now_ns(&self) -> u64;
    /// As [`Self::now_ns`], but as of the timer's last tick, up to 10 ms ago: for what lasts much longer.
    fn tick_ns(&self) -> u64;
    /// When the node's proxy was last known to be there, in nanoseconds since boot.
    fn lease_ns(&self) -> u64;
    /// Whether the socket in question is made by a process of this cgroup.
    fn is_called_from(&self, cgroup: u64) -> bool;
    /// A row named a slot or backend that is not there.
    fn slot_missed(&self);
}
