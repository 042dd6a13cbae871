use std::{collections::BTreeMap, vec::Vec};

use proptest::prelude::*;
use weft_abi::{
    Addr, Affinity, AffinityKey, Backend, BePort, MAGLEV_CHUNK, MaglevChunk, MaglevKey, Reason, ServiceKey,
    ServiceRow, Slot, SlotKey, TCP, UDP, algorithm, service_flags,
};

use super::{Caller, mixed, pick};
use crate::{Destination, testing::Memory};

const NETNS: u64 = 77;
const SERVICE: u64 = 5;
const SECOND: u64 = 1_000_000_000;
/// Backends of twelve sockets: a change of this list moves live sessions at an upgrade.
const GOLDEN: [u64; 12] = [4, 3, 1, 7, 6, 7, 3, 2, 5, 6, 8, 6];
const WHOLE: u32 = 65_536;

fn key() -> ServiceKey {
    ServiceKey { addr: addr(1), port: BePort::new(80), protocol: TCP, ..ServiceKey::zeroed() }
}

fn addr(last: u8) -> Addr {
    Addr::from(core::net::Ipv4Addr::new(10, 0, 0, last))
}

fn dialled() -> Destination {
    Destination::at(addr(1), BePort::new(80))
}

/// Backend `id` has address 10.0.0.id.
fn backend(id: u64) -> Backend {
    let last = u8::try_from(id).unwrap();
    Backend { addr: addr(last), service: SERVICE, port: BePort::new(8080), weight: 100, ..Backend::zeroed() }
}

fn slot(id: u64) -> Slot {
    drawn(id, 0, WHOLE)
}

/// A slot of backend `id`, or of none.
fn drawn(id: u64, alias: u32, threshold: u32) -> Slot {
    let at = if id == 0 { Backend::zeroed() } else { backend(id) };
    Slot { backend: id, addr: at.addr, port: at.port, service: SERVICE, alias, threshold, ..Slot::zeroed() }
}

/// A frontend of generation 1 with these slots.
fn service(slots: &[Slot]) -> Memory {
    let mut memory = Memory::default();
    memory.services.insert(key(), Vec::from([row(1, slots.len())]));
    put(&mut memory, 1, slots);
    memory
}

fn row(generation: u32, slots: usize) -> ServiceRow {
    ServiceRow { id: SERVICE, generation, slots: u32::try_from(slots).unwrap(), ..ServiceRow::zeroed() }
}

fn put(memory: &mut Memory, generation: u32, slots: &[Slot]) {
    for (slot, value) in (0..).zip(slots) {
        memory.slots.insert(SlotKey { service: SERVICE, generation, slot }, *value);
        if value.backend != 0 {
            memory.backends.insert(value.backend, backend(value.backend));
        }
    }
}

fn change(memory: &mut Memory, change: impl Fn(&mut ServiceRow)) {
    memory.services.values_mut().flatten().for_each(change);
}

fn roll(memory: &Memory, dice: &[u32]) {
    memory.dice.borrow_mut().extend(dice);
}

/// A connection from `netns`.
fn by(netns: u64) -> Caller {
    Caller { netns, hash: 0, source_port: BePort::new(0), protocol: TCP, may_leave: false }
}

#[test]
fn datagrams_of_one_socket_keep_to_one_backend_and_sockets_spread() {
    let slots: Vec<_> = (1..=4).map(slot).collect();
    let memory = service(&slots);
    let of = |port| {
        let caller = Caller { hash: 7, protocol: UDP, source_port: BePort::new(port), ..by(NETNS) };
        let mut to = dialled();
        assert_eq!(pick(&memory, &key(), &caller, &mut to), Reason::NONE);
        to.backend
    };
    let mut taken = [0_u32; 5];
    for port in 40_000..44_000 {
        assert_eq!(of(port), of(port));
        taken[usize::try_from(of(port)).unwrap()] += 1;
    }
    assert!(taken[1..].iter().all(|n| (850..1150).contains(n)), "{taken:?}");
}

#[test]
fn a_socket_keeps_its_backend_across_restarts_and_versions() {
    let slots: Vec<_> = (1..=9).map(slot).collect();
    let memory = service(&slots);
    let of = |source: u32, port| {
        let source_port = BePort::new(port);
        let caller = Caller { hash: source, protocol: UDP, source_port, ..by(NETNS) };
        let mut to = dialled();
        assert_eq!(pick(&memory, &key(), &caller, &mut to), Reason::NONE);
        to.backend
    };
    let taken: Vec<_> =
        (0..12_u16).map(|n| of(0x9e37_79b9_u32.wrapping_mul(n.into()), 40_001 + 7 * n)).collect();
    assert_eq!(taken, GOLDEN);
    // Published values of the finalizer.
    assert_eq!([0, 1, 0xdead_beef].map(mixed), [0, 0x514e_28b7, 0x0de5_c6a9]);
}

#[test]
fn only_datagrams_of_a_known_port_are_drawn_by_their_socket() {
    let memory = service(&[slot(1), slot(2), slot(3)]);
    for (protocol, port) in [(TCP, 40_000), (UDP, 0)] {
        let caller = Caller { hash: 7, protocol, source_port: BePort::new(port), ..by(NETNS) };
        for column in [2, 0, 1] {
            roll(&memory, &[column, 0]);
            let mut to = dialled();
            assert_eq!(pick(&memory, &key(), &caller, &mut to), Reason::NONE);
            assert_eq!(to.backend, u64::from(column) + 1);
        }
    }
}

/// The backend that takes the next connection.
#[track_caller]
fn next(memory: &Memory) -> u64 {
    next_of(memory, NETNS, 0)
}

#[track_caller]
fn next_of(memory: &Memory, netns: u64, source: u32) -> u64 {
    let mut to = dialled();
    assert_eq!(pick(memory, &key(), &Caller { hash: source, ..by(netns) }, &mut to), Reason::NONE);
    to.backend
}

#[track_caller]
fn refused(memory: &Memory) {
    let mut to = dialled();
    assert_eq!(pick(memory, &key(), &by(NETNS), &mut to), Reason::NO_ENDPOINTS);
    assert_eq!(to, dialled());
}

#[test]
fn what_is_no_frontend_is_left_as_it_is() {
    let mut to = dialled();
    assert_eq!(pick(&Memory::default(), &key(), &by(NETNS), &mut to), Reason::NONE);
    assert_eq!(to, dialled());
}

#[test]
fn a_frontend_without_slots_refuses() {
    let memory = service(&[]);
    refused(&memory);
    assert_eq!(memory.missed.get(), 0);
}

#[test]
fn a_pick_says_where_and_by_which_frontend() {
    let mut memory = service(&[slot(9)]);
    change(&mut memory, |row| row.flags = service_flags::ACCELERATE);
    let mut to = dialled();
    assert_eq!(pick(&memory, &key(), &by(NETNS), &mut to), Reason::NONE);
    let expected = Destination {
        addr: addr(9),
        port: BePort::new(8080),
        service: SERVICE,
        backend: 9,
        service_flags: service_flags::ACCELERATE,
        counted: false,
        _pad: 0,
    };
    assert_eq!(to, expected);
    change(&mut memory, |row| row.algorithm = algorithm::LEAST_REQUEST);
    assert_eq!(pick(&memory, &key(), &by(NETNS), &mut to), Reason::NONE);
    assert_eq!(to, Destination { counted: true, ..expected });
}

#[test]
fn a_connection_that_leaves_for_the_proxy_draws_no_backend_and_sticks_to_none() {
    let mut memory = service(&[slot(9)]);
    change(&mut memory, |row| {
        (row.flags, row.affinity_s, row.algorithm) = (service_flags::PROXY, 10, algorithm::ROUND_ROBIN);
    });
    let mut to = dialled();
    let leaves = Caller { may_leave: true, ..by(NETNS) };
    assert_eq!(pick(&memory, &key(), &leaves, &mut to), Reason::NONE);
    assert_eq!(to, Destination { service: SERVICE, service_flags: service_flags::PROXY, ..dialled() });
    assert_eq!(memory.turn.get(), 0);
    assert!(memory.affinity.borrow().is_empty());
    assert_eq!(next(&memory), 9, "who may not leave is balanced here");
    assert!(!memory.affinity.borrow().is_empty());
}

#[test]
fn a_draw_is_a_column_and_a_coin() {
    let half = drawn(2, 2, 0x8000);
    let memory = service(&[slot(1), half, slot(3)]);
    for (column, coin, expected) in [
        (0, 0xffff, 1),
        (1, 0x7fff, 2),
        (1, 0x8000, 3),
        (1, 0xffff, 3),
        (1, 0x1_7fff, 2),
        (2, 0, 3),
        (3, 0, 1),
        (4, 0xffff_8000, 3),
        (u32::MAX, 0, 1),
    ] {
        roll(&memory, &[column, coin]);
        assert_eq!(next(&memory), expected, "column {column}, coin {coin:#x}");
    }
}

#[test]
fn the_share_of_a_missing_service_is_refused() {
    let memory = service(&[slot(0), slot(1)]);
    roll(&memory, &[0, 0, 1, 0]);
    refused(&memory);
    assert_eq!(next(&memory), 1);
    assert_eq!(memory.missed.get(), 0);
}

#[test]
fn a_row_that_was_replaced_while_it_was_read_is_read_again() {
    let mut memory = service(&[]);
    memory.services.insert(key(), Vec::from([row(1, 1), row(2, 1)]));
    put(&mut memory, 2, &[slot(4)]);
    assert_eq!(next(&memory), 4);
    assert_eq!(memory.missed.get(), 1);
}

#[test]
fn what_is_missing_twice_is_refused() {
    let mut memory = service(&[slot(4)]);
    memory.slots.clear();
    refused(&memory);
    assert_eq!(memory.missed.get(), 2);
}

#[test]
fn a_slot_of_another_frontend_is_not_taken() {
    let memory = service(&[Slot { service: SERVICE + 1, ..slot(4) }, slot(6)]);
    roll(&memory, &[0, 0, 1, 0]);
    assert_eq!(next(&memory), 6);
    assert_eq!(memory.missed.get(), 1);
}

#[test]
fn turns_walk_the_slots_and_begin_again() {
    let mut memory = service(&[slot(1), slot(2), slot(3)]);
    change(&mut memory, |row| row.algorithm = algorithm::ROUND_ROBIN);
    let taken: Vec<_> = (0..7).map(|_| next(&memory)).collect();
    assert_eq!(taken, [1, 2, 3, 1, 2, 3, 1]);
    memory.turn.set(u32::MAX - 1);
    assert_eq!([next(&memory), next(&memory), next(&memory)], [3, 1, 1]);
}

#[test]
fn turns_give_weights_their_shares_within_a_few_rounds() {
    // 1 of 4 connections to backend 2: its column keeps half of its draws.
    let mut memory = service(&[slot(1), drawn(2, 0, 0x8000)]);
    change(&mut memory, |row| row.algorithm = algorithm::ROUND_ROBIN);
    let mut counts = BTreeMap::new();
    for _ in 0..64 {
        *counts.entry(next(&memory)).or_insert(0_u32) += 1;
    }
    assert!(counts[&2].abs_diff(16) <= 1, "{counts:?}");
}

#[test]
fn the_less_busy_of_two_is_taken_and_the_first_of_equals() {
    let mut memory = service(&[slot(1), slot(2), slot(3)]);
    change(&mut memory, |row| row.algorithm = algorithm::LEAST_REQUEST);
    memory.open.insert(1, 5);
    memory.open.insert(2, 4);
    for (dice, expected) in [([0, 0, 1, 0], 2), ([1, 0, 0, 0], 2), ([1, 0, 2, 0], 3), ([0, 0, 0, 0], 1)] {
        roll(&memory, &dice);
        assert_eq!(next(&memory), expected, "{dice:?}");
    }
    memory.open.insert(1, 4);
    roll(&memory, &[0, 0, 1, 0]);
    assert_eq!(next(&memory), 1);
}

#[test]
fn open_connections_are_compared_for_each_ones_weight() {
    let mut memory = service(&[slot(1), slot(2)]);
    change(&mut memory, |row| row.algorithm = algorithm::LEAST_REQUEST);
    memory.backends.insert(1, Backend { weight: 300, ..backend(1) });
    for (heavy, light, expected) in [(5, 2, 1), (6, 2, 2), (7, 2, 2), (0, 0, 2), (0, 1, 1)] {
        memory.open = [(1, heavy), (2, light)].into();
        roll(&memory, &[1, 0, 0, 0]);
        assert_eq!(next(&memory), expected, "{heavy} of 3, {light} of 1");
    }
}

#[test]
fn both_of_the_two_are_drawn_by_weight() {
    // Nearly all of the first column is the second backend's.
    let mut memory = service(&[drawn(1, 1, WHOLE / 16), slot(2)]);
    change(&mut memory, |row| row.algorithm = algorithm::LEAST_REQUEST);
    memory.open.insert(2, 5);
    let (own, others) = (WHOLE / 16 - 1, WHOLE / 16);
    for (dice, expected) in [([0, others, 0, others], 2), ([0, others, 0, own], 1), ([0, own, 0, others], 1)]
    {
        roll(&memory, &dice);
        assert_eq!(next(&memory), expected, "{dice:?}");
    }
}

#[test]
fn a_share_without_endpoints_is_not_taken_for_the_least_busy() {
    let mut memory = service(&[slot(1), slot(0)]);
    change(&mut memory, |row| row.algorithm = algorithm::LEAST_REQUEST);
    memory.open.insert(1, 5);
    roll(&memory, &[0, 0, 1, 0]);
    assert_eq!(next(&memory), 1);
    roll(&memory, &[1, 0, 0, 0]);
    refused(&memory);
}

#[test]
fn a_hash_finds_its_slot_in_the_right_chunk() {
    let mut memory = service(&[slot(1), slot(2)]);
    change(&mut memory, |row| (row.algorithm, row.maglev) = (algorithm::SOURCE_IP, MAGLEV_CHUNK + 3));
    for chunk in 0..2 {
        let mut slots = [0; MAGLEV_CHUNK as usize];
        slots[2] = u16::from(chunk == 1);
        memory.maglev.insert(MaglevKey { service: SERVICE, generation: 1, chunk }, MaglevChunk { slots });
    }
    for (source, expected) in
        [(0, 1), (2, 1), (MAGLEV_CHUNK + 2, 2), (MAGLEV_CHUNK + 3, 1), (2 * MAGLEV_CHUNK + 5, 2)]
    {
        assert_eq!(next_of(&memory, NETNS, source), expected, "{source}");
    }
    change(&mut memory, |row| row.maglev = 0);
    refused(&memory);
}

#[test]
fn a_client_sticks_to_its_backend_until_it_was_silent_for_the_timeout() {
    let mut memory = service(&[slot(1), slot(2)]);
    change(&mut memory, |row| row.affinity_s = 10);
    memory.now.set(7 * SECOND);
    assert_eq!(next(&memory), 1);
    for silence in [3 * SECOND, 10 * SECOND, 0] {
        memory.now.set(memory.now.get() + silence);
        roll(&memory, &[1, 0]);
        assert_eq!(next(&memory), 1, "after {silence}");
        memory.dice.borrow_mut().clear();
    }
    // Another client is not bound by it, nor is this one to another Service.
    roll(&memory, &[1, 0]);
    assert_eq!(next_of(&memory, NETNS + 1, 0), 2);
    memory.now.set(memory.now.get() + 10 * SECOND + 1);
    roll(&memory, &[1, 0]);
    assert_eq!(next(&memory), 2);
    assert_eq!(next(&memory), 2);
}

#[test]
fn without_affinity_nothing_is_remembered() {
    let memory = service(&[slot(1)]);
    assert_eq!(next(&memory), 1);
    assert!(memory.affinity.borrow().is_empty());
    let key = AffinityKey { netns: NETNS, service: SERVICE };
    memory.affinity.borrow_mut().insert(key, Affinity { backend: 2, used_ns: 0 });
    assert_eq!(next(&memory), 1);
}

#[test]
fn nobody_sticks_to_a_backend_that_left() {
    let mut memory = service(&[slot(1), slot(2)]);
    change(&mut memory, |row| row.affinity_s = 10);
    roll(&memory, &[1, 0]);
    assert_eq!(next(&memory), 2);
    memory.backends.insert(2, Backend { retired: 1, ..backend(2) });
    roll(&memory, &[0, 0]);
    assert_eq!(next(&memory), 1);
    // Readers of the old slots may still use its row.
    roll(&memory, &[1, 0]);
    assert_eq!(next_of(&memory, NETNS + 1, 0), 2);
    for gone in [None, Some(Backend { service: SERVICE + 1, ..backend(2) })] {
        memory.affinity.borrow_mut().values_mut().for_each(|held| held.backend = 2);
        match gone {
            Some(other) => memory.backends.insert(2, other),
            None => memory.backends.remove(&2),
        };
        roll(&memory, &[0, 0]);
        assert_eq!(next(&memory), 1);
    }
}

proptest! {
    #[test]
    fn a_pick_is_always_a_backend_of_the_row(
        thresholds in prop::collection::vec((0..=WHOLE, 0_u32..8), 1..8),
        algorithm in 0_u32..4,
        dice in prop::collection::vec(any::<u32>(), 4),
        turn in any::<u32>(),
        source in any::<u32>(),
        affinity_s in 0_u32..3,
    ) {
        let count = u32::try_from(thresholds.len()).unwrap();
        let slots: Vec<_> = (1..)
            .zip(&thresholds)
            .map(|(backend, (threshold, alias))| drawn(backend, alias % count, *threshold))
            .collect();
        let mut memory = service(&slots);
        change(&mut memory, |row| {
            row.algorithm = algorithm;
            row.affinity_s = affinity_s;
            row.maglev = 7;
        });
        let mut chunk = MaglevChunk::zeroed();
        (0_u16..7).for_each(|i| chunk.slots[usize::from(i)] = i % u16::try_from(count).unwrap());
        memory.maglev.insert(MaglevKey { service: SERVICE, generation: 1, chunk: 0 }, chunk);
        memory.turn.set(turn);
        roll(&memory, &dice);
        let taken = next_of(&memory, NETNS, source);
        prop_assert!((1..=u64::from(count)).contains(&taken));
        if affinity_s != 0 {
            prop_assert_eq!(next_of(&memory, NETNS, source.wrapping_add(1)), taken);
        }
        prop_assert_eq!(memory.missed.get(), 0);
    }

    #[test]
    fn a_column_keeps_as_many_coins_as_its_threshold(threshold in 0..=WHOLE, coins in prop::collection::vec(any::<u32>(), 32)) {
        let memory = service(&[drawn(1, 1, threshold), slot(2)]);
        for coin in coins {
            roll(&memory, &[0, coin]);
            prop_assert_eq!(next(&memory), if coin % WHOLE < threshold { 1 } else { 2 });
        }
    }
}
