//! What the kernel attests of TCP connections: each in its place of an array, or in `weft_flow` where another has
//! that place.
//!
//! An array is read and written without a call and without a lock, a hash is not (figures: ARCHITECTURE.md).
//! `used_ns` says whose a place is. It is taken and left by compare-and-swap, and whoever reads looks at it before
//! and after: what stands between is one connection's, whole.
//!
//! # Kernel
//! `BPF_ATOMIC` compare-and-swap, swap and fetch (5.12) are full barriers.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xchg};

use weft_abi::{Attested, FlowKey, FlowRecord, attested_by};

use crate::maps;

/// Attests a connection until it is forgotten. Whether there was room.
#[inline(always)]
pub fn attest(key: &FlowKey, record: &FlowRecord) -> bool {
    if let Some(place) = place(key)
        && enter(place, key)
    {
        // SAFETY: the verifier bounds the value, and nobody else writes while it is `COMING`.
        unsafe {
            (*place).key = *key;
            (*place).record.identity = record.identity;
            (*place).record.namespace = record.namespace;
            (*place).record.pair = record.pair;
            (*place).record.allowed = record.allowed;
            (*place).record.flags = record.flags;
            // Last, with a barrier: from here on it is read.
            atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(word(place), record.used_ns);
        }
        return true;
    }
    maps::FLOWS.insert(key, record, 0).is_ok()
}

/// [`attest`] is to come: its place is fetched while other things are found out.
#[inline(always)]
pub fn approach(key: &FlowKey) {
    if let Some(place) = place(key) {
        // SAFETY: an aligned word of a map's value. Volatile, or nothing is left of it.
        unsafe { core::ptr::read_volatile(word(place)) };
    }
}

/// What is attested of a connection.
#[inline(always)]
pub fn seen(key: &FlowKey) -> Option<FlowRecord> {
    if let Some(place) = place(key) {
        let mut tries = 0;
        while tries < 2 {
            let Some(used_ns) = owned(place, key) else { break };
            // SAFETY: the verifier bounds the value; whether it was whole is asked afterwards.
            let record = unsafe { (*place).record };
            if used(place) == used_ns {
                return Some(FlowRecord { used_ns, ..record });
            }
            // Its client has sent its SYN again meanwhile.
            tries += 1;
        }
    }
    // SAFETY: the entry is copied at once; the verifier bounds it.
    unsafe { maps::FLOWS.get(key) }.copied()
}

/// It holds from `now_ns` on as if it were new.
#[inline(always)]
pub fn renew(key: &FlowKey, now_ns: u64) {
    if let Some(place) = place(key)
        && let Some(used_ns) = owned(place, key)
        && swap(place, used_ns, now_ns)
    {
        return;
    }
    if let Some(record) = maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: the verifier bounds the value; one field, written whole.
        unsafe { (*record).used_ns = now_ns };
    }
}

/// The connection is over.
#[inline(always)]
pub fn forget(key: &FlowKey) {
    if let Some(place) = place(key)
        && let Some(used_ns) = owned(place, key)
        && swap(place, used_ns, attested_by::NOBODY)
    {
        return;
    }
    let _ = maps::FLOWS.remove(key);
}

#[inline(always)]
fn place(key: &FlowKey) -> Option<*mut Attested> {
    maps::ATTESTED.get_ptr_mut(key.place())
}

/// Takes a place that is free, or that `key` has already. Whose connection is alive keeps his.
#[inline(always)]
fn enter(place: *mut Attested, key: &FlowKey) -> bool {
    swap(place, attested_by::NOBODY, attested_by::COMING)
        || owned(place, key).is_some_and(|used_ns| swap(place, used_ns, attested_by::COMING))
}

/// `used_ns` of a place that `key` has.
#[inline(always)]
fn owned(place: *mut Attested, key: &FlowKey) -> Option<u64> {
    let used_ns = used(place);
    // SAFETY: the verifier bounds the value. If it is another's meanwhile, `used_ns` is another, too.
    let own = unsafe { &(*place).key };
    let is_own = used_ns > attested_by::COMING
        && own.src_port.be == key.src_port.be
        && own.dst_port.be == key.dst_port.be
        && own.src.is(&key.src)
        && own.dst.is(&key.dst);
    is_own.then_some(used_ns)
}

#[inline(always)]
fn used(place: *mut Attested) -> u64 {
    // SAFETY: an aligned word of a map's value. An addition of nothing, for its barrier.
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::SeqCst }>(word(place), 0) }
}

#[inline(always)]
fn swap(place: *mut Attested, from: u64, to: u64) -> bool {
    // SAFETY: an aligned word of a map's value.
    unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word(place), from, to).1
    }
}

#[inline(always)]
fn word(place: *mut Attested) -> *mut u64 {
    // SAFETY: inside the value.
    unsafe { &raw mut (*place).record.used_ns }
}
