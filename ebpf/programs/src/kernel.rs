//! [`Tables`] on BPF maps.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    btf_maps::lpm_trie::Key,
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_prandom_u32, bpf_ktime_get_ns, generated::bpf_ktime_get_coarse_ns,
    },
};
use weft_abi::{
    Addr, Affinity, AffinityKey, Backend, BackendKey, CidrMatch, Config, Count, FlowKey, FlowRecord,
    MaglevChunk, MaglevKey, NetnsKey, Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow, Reason,
    ServiceKey, ServiceRow, Slot, SlotKey, TCP, names::stat,
};
use weft_ebpf_logic::{Caller, Destination, Request, Ruling, Tables};

use crate::{attested, global, maps};

/// The running kernel.
pub struct Kernel;

// SAFETY, for every `get` below: the entry may be recycled while it is read (`Tables` says so to its
// readers), and the verifier bounds each access to the value's size.
impl Tables for Kernel {
    #[inline(always)]
    fn authorize(&self, request: &Request) -> Ruling {
        global::ask_policies(request)
    }

    #[inline(always)]
    fn pick(&self, key: &ServiceKey, caller: &Caller, to: &mut Destination) -> Reason {
        global::ask_balancer(key, caller, to)
    }

    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        maps::CONFIG.get(0)
    }

    #[inline(always)]
    fn pod(&self, netns: u64) -> Option<&Pod> {
        unsafe { maps::PODS.get(NetnsKey { cookie: netns }) }
    }

    #[inline(always)]
    fn pod_at(&self, addr: &Addr) -> Option<&PodRow> {
        unsafe { maps::POD_IPS.get(addr) }
    }

    #[inline(always)]
    fn pod_port(&self, key: &PodPortKey) -> Option<&PodPort> {
        unsafe { maps::POD_PORTS.get(key) }
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<&ServiceRow> {
        unsafe { maps::SERVICES.get(key) }
    }

    #[inline(always)]
    fn slot(&self, key: &SlotKey) -> Option<&Slot> {
        unsafe { maps::SLOTS.get(key) }
    }

    #[inline(always)]
    fn backend(&self, id: u64) -> Option<&Backend> {
        unsafe { maps::BACKENDS.get(BackendKey { id }) }
    }

    #[inline(always)]
    fn maglev(&self, key: &MaglevKey) -> Option<&MaglevChunk> {
        unsafe { maps::MAGLEV.get(key) }
    }

    #[inline(always)]
    fn policy(&self, key: &PolicyKey) -> Option<&PolicyRow> {
        unsafe { maps::POLICY.get(key) }
    }

    #[inline(always)]
    fn cidr(&self, key: &CidrMatch) -> Option<u64> {
        maps::CIDR.get(&Key::new(CidrMatch::FULL, *key)).map(|class| class.token)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<FlowRecord> {
        if key.protocol == TCP { attested::seen(key) } else { unsafe { maps::FLOWS.get(key) }.copied() }
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        unsafe { maps::AFFINITY.get(key) }.copied()
    }

    #[inline(always)]
    fn stick(&self, key: &AffinityKey, value: &Affinity) {
        // Full is impossible (LRU); a lost update costs one re-pick.
        let _ = maps::AFFINITY.insert(key, value, 0);
    }

    #[inline(always)]
    fn open(&self, backend: u64) -> u64 {
        unsafe { maps::OPEN.get(BackendKey { id: backend }) }.map_or(0, |count| count.n)
    }

    #[inline(always)]
    fn turn(&self, service: u64) -> u32 {
        let key = BackendKey { id: service };
        match maps::TURNS.get_ptr_mut(key) {
            Some(count) => add(count, 1) as u32,
            None => {
                let _ = maps::TURNS.insert(key, Count { n: 1 }, 0);
                0
            }
        }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    /// # Kernel
    /// `bpf_ktime_get_coarse_ns` (5.11). Reading the clock itself takes longer than a look-up on some machines.
    #[inline(always)]
    fn tick_ns(&self) -> u64 {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn lease_ns(&self) -> u64 {
        maps::LEASE.get(0).map_or(0, |lease| lease.renewed_ns)
    }

    #[inline(always)]
    fn is_called_from(&self, cgroup: u64) -> bool {
        // SAFETY: no arguments; "current" is the thread that connects.
        cgroup == unsafe { bpf_get_current_cgroup_id() }
    }

    #[inline(always)]
    fn slot_missed(&self) {
        maps::count(stat::SLOT_MISSES, 1);
    }
}

/// Adds `by` (1 or -1) to the open connections of a backend.
#[inline(always)]
pub fn add_open(backend: u64, by: i64) {
    let key = BackendKey { id: backend };
    match maps::OPEN.get_ptr_mut(key) {
        // A backend that was removed and came back counts from 0 again: connections of its first life
        // must not take it below. (Two of them at once still could; the next change puts it right.)
        // SAFETY: a map value that is one aligned u64.
        Some(count) if by > 0 || unsafe { (*count).n } > 0 => {
            add(count, by as u64);
        }
        // BPF_NOEXIST: of two first connections at once one is not counted, never both lost later.
        None if by > 0 => {
            let _ = maps::OPEN.insert(key, Count { n: 1 }, 1);
        }
        _ => {}
    }
}

/// Adds and returns what was there before.
///
/// Ordered, though no order is needed: of a relaxed addition LLVM makes one that fetches nothing, and
/// returns `by` for what was there before.
///
/// # Kernel
/// `BPF_ATOMIC | BPF_FETCH` (5.12).
#[inline(always)]
fn add(count: *mut Count, by: u64) -> u64 {
    // SAFETY: a map value that is one aligned u64.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(&raw mut (*count).n, by) }
}
