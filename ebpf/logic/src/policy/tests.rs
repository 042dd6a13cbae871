use std::{collections::BTreeSet, vec::Vec};

use proptest::prelude::*;
use weft_abi::{Addr, BePort, PolicyKey, PolicyRow, Reason, TCP, UDP, pod_flags, policy_bits as bits, token};

use super::{Denial, Request, Ruling, authorize};
use crate::testing::Memory;

const POLICY: u64 = 9;
const IDENTITY: u64 = 1000;
const NAMESPACE: u64 = 2000;
const CLASS: u64 = 3000;
const EVERY: u32 = pod_flags::BY_IDENTITY | pod_flags::BY_NAMESPACE | pod_flags::BY_CIDR;

fn source() -> Addr {
    Addr::from(core::net::Ipv4Addr::new(10, 0, 0, 2))
}

fn request(flags: u32, proven: bool) -> Request {
    Request {
        policy: POLICY,
        flags: flags | pod_flags::prefix(16),
        source: source(),
        identity: IDENTITY,
        namespace: NAMESPACE,
        proven,
        protocol: TCP,
        port: BePort::new(8080),
    }
}

/// Rows with these bits, and rules that are called like the token, by 10 and (audited) by 20.
fn memory(rows: &[(u64, u32)]) -> Memory {
    let mut memory = Memory::default();
    memory.cidrs.insert(source(), CLASS);
    for (token, bits) in rows {
        let rule = u32::try_from(token / 1000).unwrap();
        let deny_rule = if bits & bits::DENY != 0 { 10 + rule } else { 0 };
        let audit_rule = if bits & bits::AUDIT_DENY != 0 { 20 + rule } else { 0 };
        let row = PolicyRow { bits: *bits, deny_rule, audit_rule, ..PolicyRow::zeroed() };
        memory.policies.insert((POLICY, *token), row);
    }
    memory
}

#[track_caller]
fn assert_verdict(rows: &[(u64, u32)], proven: bool, reason: Reason, rule: u32) {
    let verdict = authorize(&memory(rows), &request(EVERY, proven)).verdict;
    assert_eq!(verdict, Denial { reason, rule }, "{rows:?}, proven: {proven}");
}

#[test]
fn without_a_row_everybody_is_allowed() {
    assert_eq!(authorize(&memory(&[]), &request(EVERY, false)), Ruling::ALLOWED);
    assert_eq!(Ruling::ALLOWED.denial(), None);
}

#[test]
fn a_denial_wins_over_every_allowance() {
    for token in [token::ANY, IDENTITY, NAMESPACE, CLASS] {
        let others = [token::ANY, IDENTITY, NAMESPACE, CLASS].map(|other| {
            let own = if other == token { bits::DENY } else { 0 };
            (other, bits::ALLOW | bits::ISOLATED | own)
        });
        let rule = 10 + u32::try_from(token / 1000).unwrap();
        assert_verdict(&others, true, Reason::POLICY_DENIED, rule);
        assert_verdict(&others, false, Reason::POLICY_DENIED, rule);
    }
}

#[test]
fn an_isolated_port_needs_an_allowance() {
    let isolated = (token::ANY, bits::ISOLATED);
    assert_verdict(&[isolated], true, Reason::NOT_ALLOWED, 0);
    assert_verdict(&[(token::ANY, bits::ISOLATED | bits::ALLOW)], false, Reason::NONE, 0);
    assert_verdict(&[isolated, (CLASS, bits::ALLOW)], false, Reason::NONE, 0);
    for token in [IDENTITY, NAMESPACE] {
        assert_verdict(&[isolated, (token, bits::ALLOW)], true, Reason::NONE, 0);
        assert_verdict(&[isolated, (token, bits::ALLOW)], false, Reason::IDENTITY_UNPROVEN, 0);
    }
    let twice = [isolated, (IDENTITY, bits::ALLOW), (NAMESPACE, bits::ALLOW)];
    assert_verdict(&twice, false, Reason::IDENTITY_UNPROVEN, 0);
    assert_verdict(&[isolated, (IDENTITY, bits::AUDIT_ALLOW)], false, Reason::NOT_ALLOWED, 0);
    assert_verdict(&[(token::ANY, bits::ALLOW)], true, Reason::NONE, 0);
}

#[test]
fn a_refusal_is_a_denial_and_nothing_else_is() {
    let ruling = authorize(&memory(&[(IDENTITY, bits::DENY)]), &request(EVERY, false));
    assert_eq!(ruling.denial(), Some(Denial { reason: Reason::POLICY_DENIED, rule: 11 }));
    let audited = authorize(&memory(&[(IDENTITY, bits::AUDIT_DENY)]), &request(EVERY, false));
    assert_eq!(audited.denial(), None);
    assert_eq!(audited.audit, Denial { reason: Reason::POLICY_DENIED, rule: 21 });
}

#[test]
fn only_what_the_policies_name_is_looked_up() {
    let asked = |request: Request| {
        let memory = memory(&[]);
        assert_eq!(authorize(&memory, &request), Ruling::ALLOWED);
        let asked: Vec<u64> = memory.asked.borrow().iter().map(|key| key.token).collect();
        assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "one lookup for each");
        asked
    };
    assert_eq!(asked(request(0, true)), [token::ANY]);
    assert_eq!(asked(request(pod_flags::BY_IDENTITY, true)), [IDENTITY, token::ANY]);
    assert_eq!(asked(request(pod_flags::BY_NAMESPACE, true)), [NAMESPACE, token::ANY]);
    assert_eq!(asked(request(pod_flags::BY_CIDR, true)), [token::ANY, CLASS]);
    let nobody = Request { identity: 0, namespace: 0, ..request(EVERY, false) };
    assert_eq!(asked(nobody), [token::ANY, CLASS]);
}

#[test]
fn where_policies_do_nothing_but_allow_the_first_row_that_does_is_the_last() {
    let asked = |flags: u32, proven: bool, rows: &[(u64, u32)]| {
        let memory = memory(rows);
        assert_eq!(authorize(&memory, &request(flags, proven)), Ruling::ALLOWED);
        memory.asked.borrow().iter().map(|key| key.token).collect::<Vec<_>>()
    };
    let order = [IDENTITY, NAMESPACE, token::ANY, CLASS];
    let rows = order.map(|token| (token, bits::ALLOW | bits::ISOLATED));
    for place in 0..4 {
        assert_eq!(asked(EVERY | pod_flags::ONLY_ALLOWS, true, &rows[place..]), order[..=place]);
        assert_eq!(asked(EVERY, true, &rows[place..]), order);
    }
    assert_eq!(
        asked(EVERY | pod_flags::ONLY_ALLOWS, false, &rows),
        order[..3],
        "what is not proven allows nothing"
    );
}

#[test]
fn a_row_is_looked_up_by_all_of_its_key() {
    let memory = memory(&[]);
    assert_eq!(authorize(&memory, &request(0, true)), Ruling::ALLOWED);
    let key = memory.asked.borrow()[0];
    assert_eq!((key.policy, key.token, key.protocol, key.port.get()), (POLICY, token::ANY, TCP, 8080));
}

#[test]
fn requests_that_are_only_watched_are_shown_where_nobody_refuses() {
    let watched = |bits| authorize(&memory(&[(token::ANY, bits::WATCHED | bits)]), &request(0, true)).verdict;
    assert_eq!(watched(0), Denial::WATCHED);
    assert_eq!(watched(bits::ISOLATED | bits::ALLOW), Denial::WATCHED);
    assert_eq!(watched(bits::ISOLATED).reason, Reason::NOT_ALLOWED);
    assert_eq!(watched(bits::JUDGED), Denial::JUDGED);
}

#[test]
fn the_row_of_the_longest_prefix_counts_and_only_lengths_that_there_are_are_asked_for() {
    let row = |bits| PolicyRow { bits, ..PolicyRow::zeroed() };
    let key = |protocol, port, length| PolicyKey {
        policy: POLICY,
        token: token::ANY,
        port: BePort::new(port),
        protocol,
        length,
        ..PolicyKey::zeroed()
    };
    let mut memory = Memory::default();
    memory.ports.insert(key(TCP, 0, 0), row(bits::ISOLATED));
    memory.ports.insert(key(TCP, 0x1f80, 12), row(bits::DENY));
    memory.ports.insert(key(TCP, 0x1f90, 16), row(bits::ALLOW));
    let lengths = [0, 12, 16].map(pod_flags::prefix).iter().sum::<u32>();
    let asks = |protocol, port: u16, lengths| {
        memory.asked.borrow_mut().clear();
        let request = Request { protocol, port: BePort::new(port), flags: lengths, ..request(0, true) };
        let reason = authorize(&memory, &request).verdict.reason;
        (reason, memory.asked.borrow().iter().map(|key| (key.port.get(), key.length)).collect::<Vec<_>>())
    };
    assert_eq!(asks(TCP, 0x1f90, lengths), (Reason::NONE, Vec::from([(0x1f90, 16)])));
    assert_eq!(asks(TCP, 0x1f8f, lengths), (Reason::POLICY_DENIED, Vec::from([(0x1f8f, 16), (0x1f80, 12)])));
    let every = |port, block| Vec::from([(port, 16), (block, 12), (0, 0)]);
    assert_eq!(asks(TCP, 0x1f7f, lengths), (Reason::NOT_ALLOWED, every(0x1f7f, 0x1f70)));
    assert_eq!(asks(UDP, 0xffff, lengths), (Reason::NONE, every(0xffff, 0xfff0)));
    assert_eq!(asks(TCP, 0x1f8f, pod_flags::prefix(0)), (Reason::NOT_ALLOWED, Vec::from([(0, 0)])));
    assert_eq!(asks(TCP, 0x1f90, 0), (Reason::NONE, Vec::new()));
}

/// The meaning of rows, in words: what the client may use, then the three steps of a verdict.
fn meaning(rows: &[(u64, u32)], flags: u32, proven: bool, bits_of: [u32; 3]) -> Reason {
    let [deny, allow, isolated] = bits_of;
    let named = |token: u64| match token {
        IDENTITY => flags & pod_flags::BY_IDENTITY != 0,
        NAMESPACE => flags & pod_flags::BY_NAMESPACE != 0,
        CLASS => flags & pod_flags::BY_CIDR != 0,
        _ => true,
    };
    let certain = |token: u64| proven || token == token::ANY || token == CLASS;
    let rows: Vec<_> = rows.iter().filter(|(token, _)| named(*token)).collect();
    let says = |bit: u32| rows.iter().any(|(_, bits)| bits & bit != 0);
    let surely = |bit: u32| rows.iter().any(|(token, bits)| certain(*token) && bits & bit != 0);
    match () {
        () if says(deny) => Reason::POLICY_DENIED,
        () if !surely(isolated) || surely(allow) => Reason::NONE,
        () if says(allow) => Reason::IDENTITY_UNPROVEN,
        () => Reason::NOT_ALLOWED,
    }
}

proptest! {
    #[test]
    fn rows_mean_what_they_say(
        all in prop::array::uniform4(0_u32..64),
        only_allows: bool,
        flags in prop::sample::subsequence(
            [pod_flags::BY_IDENTITY, pod_flags::BY_NAMESPACE, pod_flags::BY_CIDR].to_vec(), 0..=3),
        proven: bool,
    ) {
        let flags: u32 = flags.iter().sum();
        let (flag, kept) =
            if only_allows { (pod_flags::ONLY_ALLOWS, bits::ALLOW | bits::ISOLATED) } else { (0, u32::MAX) };
        let (flags, all) = (flags | flag, all.map(|bits| bits & kept));
        let rows: Vec<_> = [token::ANY, IDENTITY, NAMESPACE, CLASS].into_iter().zip(all).collect();
        let ruling = authorize(&memory(&rows), &request(flags, proven));
        let enforced = [bits::DENY, bits::ALLOW, bits::ISOLATED];
        let audited = [bits::AUDIT_DENY, bits::AUDIT_ALLOW, bits::AUDIT_ISOLATED];
        prop_assert_eq!(ruling.verdict.reason, meaning(&rows, flags, proven, enforced));
        prop_assert_eq!(ruling.audit.reason, meaning(&rows, flags, proven, audited));
        prop_assert_eq!(ruling.verdict.rule != 0, ruling.verdict.reason == Reason::POLICY_DENIED);
        prop_assert_eq!(ruling.audit.rule != 0, ruling.audit.reason == Reason::POLICY_DENIED);
    }
}
