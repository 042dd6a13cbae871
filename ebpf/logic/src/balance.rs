//! Which backend of a frontend takes a connection.

use weft_abi::{
    Addr, Affinity, AffinityKey, BePort, MAGLEV_CHUNK, MaglevKey, Reason, ServiceKey, ServiceRow, Slot,
    SlotKey, UDP, algorithm, service_flags,
};

use crate::{Destination, Tables, is_proxy};

/// What balancing asks of a client.
pub struct Caller {
    /// As [`crate::Dial::netns`].
    pub netns: u64,
    /// Hash of its address.
    pub hash: u32,
    /// As [`crate::Dial::source_port`].
    pub source_port: BePort,
    /// As [`crate::Dial::protocol`].
    pub protocol: u8,
    /// Whether this connection may leave the kernel path for the node's proxy, unless the proxy makes it.
    pub may_leave: bool,
}

/// Picks a backend for `dial` and writes it to `to`, which stays as it is where there is no such frontend.
///
/// Where the frontend's connections go through the proxy and this one may, no backend is drawn: `to` names
/// the frontend, and backend 0.
///
/// The only reason to refuse is [`Reason::NO_ENDPOINTS`].
///
/// Hooks ask [`Tables::pick`].
#[inline(always)]
pub fn pick<T: Tables>(tables: &T, key: &ServiceKey, caller: &Caller, to: &mut Destination) -> Reason {
    // A slot can be missing only when the row was read before an update and its slots after the old
    // generation was removed: the row that is there now is complete.
    let mut tries = 0;
    while tries < 2 {
        let Some(row) = tables.service(key).copied() else { return Reason::NONE };
        if row.flags & service_flags::PROXY != 0 && caller.may_leave && !is_proxy(tables) {
            to.service = row.id;
            to.service_flags = row.flags;
            return Reason::NONE;
        }
        if row.slots == 0 {
            return Reason::NO_ENDPOINTS;
        }
        if let Some(stuck) = sticky(tables, &row, caller.netns) {
            *to = stuck;
            return Reason::NONE;
        }
        // The entry may have been recycled for another frontend while it was read.
        if let Some(slot) = draw(tables, &row, caller)
            && slot.service == row.id
        {
            if slot.backend == 0 {
                return Reason::NO_ENDPOINTS;
            }
            *to = destination(&row, slot.backend, slot.addr, slot.port);
            stick(tables, &row, caller.netns, slot.backend);
            return Reason::NONE;
        }
        tables.slot_missed();
        tries += 1;
    }
    Reason::NO_ENDPOINTS
}

/// The backend this client used last, while its affinity and the backend last.
#[inline(always)]
fn sticky<T: Tables>(tables: &T, row: &ServiceRow, netns: u64) -> Option<Destination> {
    if row.affinity_s == 0 {
        return None;
    }
    let held = tables.affinity(&AffinityKey { netns, service: row.id })?;
    let lasts_ns = u64::from(row.affinity_s) * 1_000_000_000;
    if tables.now_ns().wrapping_sub(held.used_ns) > lasts_ns {
        return None;
    }
    let backend = *tables.backend(held.backend)?;
    // A row that left its frontend stays for those who are on their way to it, not for those who remember it; and the
    // entry may have been recycled for another frontend while it was read.
    if backend.retired != 0 || backend.service != row.id {
        return None;
    }
    stick(tables, row, netns, held.backend);
    Some(destination(row, held.backend, backend.addr, backend.port))
}

#[inline(always)]
fn stick<T: Tables>(tables: &T, row: &ServiceRow, netns: u64, backend: u64) {
    if row.affinity_s != 0 {
        let key = AffinityKey { netns, service: row.id };
        tables.stick(&key, &Affinity { backend, used_ns: tables.now_ns() });
    }
}

#[inline(always)]
fn draw<'a, T: Tables>(tables: &'a T, row: &ServiceRow, caller: &Caller) -> Option<&'a Slot> {
    match row.algorithm {
        // What has one backend needs no dice.
        algorithm::RANDOM if row.slots == 1 => slot_at(tables, row, 0),
        algorithm::ROUND_ROBIN => in_turn(tables, row),
        algorithm::LEAST_REQUEST => less_busy(tables, row),
        algorithm::SOURCE_IP => hashed(tables, row, caller.hash),
        _ if caller.protocol == UDP && caller.source_port.be != 0 => same(tables, row, caller),
        _ => weighted(tables, row, tables.random(), tables.random()),
    }
}

/// Datagrams of one socket keep to one backend while the set stays, as conntrack would have it: a random
/// draw for each would tear a QUIC or DTLS session apart.
#[inline(always)]
fn same<'a, T: Tables>(tables: &'a T, row: &ServiceRow, caller: &Caller) -> Option<&'a Slot> {
    let id = row.id.to_ne_bytes();
    let seed =
        caller.hash ^ u32::from(caller.source_port.be) ^ u32::from_ne_bytes([id[0], id[1], id[2], id[3]]);
    let column = mixed(seed);
    weighted(tables, row, column, mixed(column))
}

/// Spreads the bits of a number (the finalizer of `MurmurHash3`).
#[inline(always)]
fn mixed(word: u32) -> u32 {
    let word = (word ^ (word >> 16)).wrapping_mul(0x85eb_ca6b);
    let word = (word ^ (word >> 13)).wrapping_mul(0xc2b2_ae35);
    word ^ (word >> 16)
}

/// Turns walk the slots in order; the low bits of the round spread the alias draws evenly.
#[inline(always)]
fn in_turn<'a, T: Tables>(tables: &'a T, row: &ServiceRow) -> Option<&'a Slot> {
    let turn = tables.turn(row.id);
    let round = turn / row.slots;
    weighted(tables, row, turn % row.slots, round.wrapping_mul(GOLDEN) >> 16)
}

/// The one with fewer open connections of this node for its weight, of two drawn by weight. A share without endpoints
/// never has any: it is refused when it is drawn first, which is as often as its weight says.
#[inline(always)]
fn less_busy<'a, T: Tables>(tables: &'a T, row: &ServiceRow) -> Option<&'a Slot> {
    let one = weighted(tables, row, tables.random(), tables.random())?;
    let other = weighted(tables, row, tables.random(), tables.random())?;
    if one.backend == 0 || other.backend == 0 {
        return Some(one);
    }
    Some(if is_less_busy(tables, other.backend, one.backend) { other } else { one })
}

/// A row that is not there is no reason to prefer anybody.
#[inline(always)]
fn is_less_busy<T: Tables>(tables: &T, one: u64, other: u64) -> bool {
    let (Some(row), Some(others)) = (tables.backend(one), tables.backend(other)) else { return false };
    // open / weight < open / weight, without a division.
    let (open, others_open) = (tables.open(one), tables.open(other));
    open.wrapping_mul(others.weight.into()) < others_open.wrapping_mul(row.weight.into())
}

#[inline(always)]
fn hashed<'a, T: Tables>(tables: &'a T, row: &ServiceRow, source: u32) -> Option<&'a Slot> {
    if row.maglev == 0 {
        return None;
    }
    let entry = source % row.maglev;
    let key = MaglevKey { service: row.id, generation: row.generation, chunk: entry / MAGLEV_CHUNK };
    let slot = *tables.maglev(&key)?.slots.get((entry % MAGLEV_CHUNK) as usize)?;
    slot_at(tables, row, u32::from(slot))
}

/// One draw from the alias table: column `column`, kept when `coin` falls below its threshold.
#[inline(always)]
fn weighted<'a, T: Tables>(tables: &'a T, row: &ServiceRow, column: u32, coin: u32) -> Option<&'a Slot> {
    let slot = slot_at(tables, row, column % row.slots)?;
    if coin & 0xffff < slot.threshold { Some(slot) } else { slot_at(tables, row, slot.alias) }
}

#[inline(always)]
fn slot_at<'a, T: Tables>(tables: &'a T, row: &ServiceRow, slot: u32) -> Option<&'a Slot> {
    tables.slot(&SlotKey { service: row.id, generation: row.generation, slot })
}

#[inline(always)]
const fn destination(row: &ServiceRow, backend: u64, addr: Addr, port: BePort) -> Destination {
    Destination {
        addr,
        port,
        service: row.id,
        backend,
        service_flags: row.flags,
        counted: row.algorithm == algorithm::LEAST_REQUEST,
        _pad: 0,
    }
}

/// 2^32 / φ: multiples of it are spread evenly over 32 bits (Knuth, vol. 3, 6.4).
const GOLDEN: u32 = 0x9e37_79b9;

#[cfg(test)]
mod tests;
