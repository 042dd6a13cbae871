//! The maps. Key and value types carry BTF, so `bpftool map dump` names every field.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage, SockHash},
    macros::btf_map,
};
use weft_abi::{
    Addr, Affinity, AffinityKey, Attested, Backend, BackendKey, CidrClass, CidrMatch, Config, Count,
    FlowEvent, FlowKey, FlowRecord, Lease, MaglevChunk, MaglevKey, NetnsKey, Origin, OriginKey, Pair,
    PairEnd, PairKey, Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow, ReverseKey, ReverseRow,
    ServiceKey, ServiceRow, Slot, SlotKey, SocketKey, SocketState, limits,
};

const LAZY: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "weft_cfg")]
pub static CONFIG: Array<Config, 1> = Array::new();

#[btf_map(name = "weft_pod")]
pub static PODS: HashMap<NetnsKey, Pod, { limits::PODS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_pod_ip")]
pub static POD_IPS: HashMap<Addr, PodRow, { limits::POD_IPS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_pod_port")]
pub static POD_PORTS: HashMap<PodPortKey, PodPort, { limits::POD_PORTS }, LAZY> = HashMap::new();

/// The agent puts them in. A listener leaves it when the last process that holds it closes it.
#[btf_map(name = "weft_listener")]
pub static LISTENERS: SockHash<NetnsKey, { limits::PODS }> = SockHash::new();

#[btf_map(name = "weft_svc")]
pub static SERVICES: HashMap<ServiceKey, ServiceRow, { limits::SERVICES }, LAZY> = HashMap::new();

#[btf_map(name = "weft_slot")]
pub static SLOTS: HashMap<SlotKey, Slot, { limits::SLOTS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_backend")]
pub static BACKENDS: HashMap<BackendKey, Backend, { limits::BACKENDS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_maglev")]
pub static MAGLEV: HashMap<MaglevKey, MaglevChunk, { limits::MAGLEV_CHUNKS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_affinity")]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity, { limits::AFFINITIES }> = LruHashMap::new();

#[btf_map(name = "weft_open")]
pub static OPEN: HashMap<BackendKey, Count, { limits::BACKENDS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_turn")]
pub static TURNS: LruHashMap<BackendKey, Count, { limits::TURNS }> = LruHashMap::new();

#[btf_map(name = "weft_policy")]
pub static POLICY: HashMap<PolicyKey, PolicyRow, { limits::POLICY_ROWS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_cidr")]
pub static CIDR: LpmTrie<CidrMatch, CidrClass, { limits::CIDR_ROWS }> = LpmTrie::new();

#[btf_map(name = "weft_flow")]
pub static FLOWS: LruHashMap<FlowKey, FlowRecord, { limits::FLOWS }> = LruHashMap::new();

#[btf_map(name = "weft_attested")]
pub static ATTESTED: Array<Attested, { limits::ATTESTED }> = Array::new();

#[btf_map(name = "weft_udp_rev")]
pub static UDP_REVERSE: LruHashMap<ReverseKey, ReverseRow, { limits::UDP_PEERS }> = LruHashMap::new();

#[btf_map(name = "weft_udp_conn")]
pub static UDP_CONNECTED: HashMap<SocketKey, BackendKey, { limits::UDP_SOCKETS }, LAZY> = HashMap::new();

#[btf_map(name = "weft_sock")]
pub static SOCKETS: SkStorage<SocketState> = SkStorage::new();

#[btf_map(name = "weft_events")]
pub static EVENTS: RingBuf<FlowEvent, { limits::EVENT_BYTES }> = RingBuf::new();

#[btf_map(name = "weft_pair")]
pub static PAIRS: HashMap<PairKey, Pair, { limits::PAIRS / 2 }, LAZY> = HashMap::new();

#[btf_map(name = "weft_pair_sock")]
pub static PAIR_SOCKETS: SockHash<PairEnd, { limits::PAIRS }> = SockHash::new();

/// No program is attached to it: its sockets send as if they were in no map.
#[btf_map(name = "weft_pair_read")]
pub static PAIR_READERS: SockHash<PairEnd, { limits::PAIRS }> = SockHash::new();

#[btf_map(name = "weft_origin")]
pub static ORIGINS: LruHashMap<OriginKey, Origin, { limits::ORIGINS }> = LruHashMap::new();

#[btf_map(name = "weft_lease")]
pub static LEASE: Array<Lease, 1> = Array::new();

#[btf_map(name = "weft_stat")]
pub static STATS: PerCpuArray<u64, { limits::STATS }> = PerCpuArray::new();

/// Whom `sk_lookup` has turned away last on this processor, see [`crate::turned`].
#[btf_map(name = "weft_turned")]
pub static TURNED: PerCpuArray<FlowKey, 1> = PerCpuArray::new();

/// Adds `n` to a counter of [`weft_abi::names::stat`].
#[inline(always)]
pub fn count(stat: u32, n: u64) {
    if let Some(counter) = STATS.get_ptr_mut(stat) {
        // SAFETY: the verifier knows the pointer as this CPU's element of the array.
        unsafe { *counter += n };
    }
}

/// A value of zeroes, written word by word: `memset` is a call in BPF, and loops over single bytes.
#[inline(always)]
pub fn clear<T: Copy>(value: &mut core::mem::MaybeUninit<T>) -> &mut T {
    const { assert!(align_of::<T>() == 8, "a word may stand anywhere in it, and its size is whole words") };
    let words = value.as_mut_ptr().cast::<u64>();
    for word in 0..size_of::<T>() / 8 {
        // SAFETY: inside the value and aligned, as asserted. Volatile, or the stores become a `memset` again.
        unsafe { words.add(word).write_volatile(0) };
    }
    // SAFETY: every bit pattern of an abi struct is a value.
    unsafe { value.assume_init_mut() }
}
