use std::net::Ipv4Addr;

use weft_abi::{
    Addr, BePort, FlowKey, FlowRecord, PodRow, PolicyRow, Reason, TCP, UDP, flow_flags, pod_flags,
    policy_bits, token,
};

use super::{Admission, Arrival, Client, admit, is_backdoor};
use crate::{Denial, testing::Memory};

const POLICY: u64 = 9;
const NETNS: u64 = 77;
const FRONT: u64 = 1000;
const WEB: u64 = 2000;
const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 500 * SECOND;
const RULE: u32 = 4;

fn addr(last: u8) -> Addr {
    Addr::from(Ipv4Addr::new(10, 0, 0, last))
}

/// The pod at 10.0.0.1 lets in `web/front` alone; 10.0.0.2 is the address of `web/front`, 10.0.0.3 of a
/// pod of another ServiceAccount of that namespace, 10.0.0.9 of nobody.
fn memory() -> Memory {
    let mut memory = Memory::default();
    memory.config.attest_grace_ns = SECOND;
    memory.config.udp_reply_ns = 60 * SECOND;
    memory.now.set(NOW);
    let flags = pod_flags::BY_IDENTITY | pod_flags::prefix(16);
    memory.pod_ips.insert(addr(1), PodRow { netns: NETNS, policy: POLICY, flags, ..PodRow::zeroed() });
    memory.pod_ips.insert(addr(2), PodRow { identity: FRONT, namespace: WEB, ..PodRow::zeroed() });
    memory.pod_ips.insert(addr(3), PodRow { identity: 1, namespace: WEB, ..PodRow::zeroed() });
    memory.policies.insert((POLICY, token::ANY), bits(policy_bits::ISOLATED));
    memory.policies.insert((POLICY, FRONT), bits(policy_bits::ALLOW));
    memory
}

fn bits(bits: u32) -> PolicyRow {
    PolicyRow { bits, deny_rule: RULE, audit_rule: RULE + 1, ..PolicyRow::zeroed() }
}

fn from(last: u8, protocol: u8) -> Arrival {
    Arrival {
        local: addr(1),
        local_port: BePort::new(8080),
        remote: addr(last),
        remote_port: BePort::new(40_000),
        protocol,
    }
}

fn inward(arrival: &Arrival) -> FlowKey {
    FlowKey {
        src: arrival.remote,
        dst: arrival.local,
        src_port: arrival.remote_port,
        dst_port: arrival.local_port,
        protocol: arrival.protocol,
        _pad: [0; 3],
    }
}

/// The kernel saw `web/front` send it `ago`.
fn attested(ago: u64) -> FlowRecord {
    FlowRecord { identity: FRONT, namespace: WEB, used_ns: NOW - ago, ..FlowRecord::zeroed() }
}

fn proven() -> Client {
    Client { identity: FRONT, namespace: WEB, proven: true, by_proxy: false }
}

fn by_address() -> Client {
    Client { proven: false, ..proven() }
}

fn refused(reason: Reason) -> Denial {
    Denial { reason, rule: 0 }
}

#[test]
fn what_is_no_protected_pod_of_this_node_is_nothing_of_ours() {
    let mut memory = memory();
    let elsewhere = Arrival { local: addr(9), ..from(9, TCP) };
    assert_eq!(admit(&memory, &elsewhere), Admission::Pass);
    let row = memory.pod_ips[&addr(1)];
    memory.pod_ips.insert(addr(1), PodRow { policy: 0, ..row });
    assert_eq!(admit(&memory, &from(9, TCP)), Admission::Pass, "no policy");
    memory.pod_ips.insert(addr(1), PodRow { netns: 0, ..row });
    assert_eq!(admit(&memory, &from(9, TCP)), Admission::Pass, "a pod of another node");
    memory.pod_ips.insert(addr(1), row);
    assert_ne!(admit(&memory, &from(9, TCP)), Admission::Pass);
}

#[test]
fn a_client_is_proven_for_a_moment_after_its_syn() {
    let mut memory = memory();
    let arrival = from(2, TCP);
    let unproven = Admission::Deny(by_address(), refused(Reason::IDENTITY_UNPROVEN));
    assert_eq!(admit(&memory, &arrival), unproven, "an address proves nothing");
    let allowed = Admission::Allow(proven(), Denial::NONE);
    for (record, verdict) in [
        (attested(0), allowed),
        (attested(SECOND - 1), allowed),
        (attested(SECOND), unproven),
        (attested(59 * SECOND), unproven),
        // Another CPU wrote it after this one looked at the clock.
        (FlowRecord { used_ns: NOW + 1, ..attested(0) }, allowed),
    ] {
        memory.flows.insert(inward(&arrival), record);
        assert_eq!(admit(&memory, &arrival), verdict, "at {} ns of {NOW}", record.used_ns);
    }
}

#[test]
fn what_is_written_while_a_packet_is_judged_holds() {
    let mut memory = memory();
    let later = FlowRecord { used_ns: NOW + 1, ..attested(0) };
    for protocol in [TCP, UDP] {
        let arrival = from(2, protocol);
        memory.flows.insert(inward(&arrival), later);
        assert_eq!(admit(&memory, &arrival), Admission::Allow(proven(), Denial::NONE));
    }
    let answer = from(9, UDP);
    memory.flows.insert(inward(&answer).reversed(), later);
    assert_eq!(admit(&memory, &answer), Admission::Pass);
}

#[test]
fn a_datagram_proves_its_sender_for_no_longer_than_a_handshake() {
    let mut memory = memory();
    let arrival = from(2, UDP);
    memory.flows.insert(inward(&arrival), attested(SECOND - 1));
    assert_eq!(admit(&memory, &arrival), Admission::Allow(proven(), Denial::NONE));
    memory.flows.insert(inward(&arrival), attested(SECOND));
    assert_eq!(admit(&memory, &arrival), Admission::Deny(by_address(), refused(Reason::IDENTITY_UNPROVEN)));
}

#[test]
fn a_pods_own_packets_pass_and_its_own_ipv6_datagrams_once_they_were_seen() {
    let six = Addr::from(std::net::IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 1]));
    let mut memory = memory();
    let row = memory.pod_ips[&addr(1)];
    memory.pod_ips.insert(six, row);
    let by_six = |protocol| Arrival { local: six, remote: six, ..from(1, protocol) };
    for own in [from(1, TCP), from(1, UDP), by_six(TCP)] {
        assert_eq!(admit(&memory, &own), Admission::Pass);
    }
    let forged = by_six(UDP);
    assert!(matches!(admit(&memory, &forged), Admission::Deny(..)), "it may come from anywhere");
    memory.flows.insert(inward(&forged), attested(0));
    assert_eq!(admit(&memory, &forged), Admission::Pass);
}

#[test]
fn policies_that_are_known_to_let_a_connection_in_are_not_asked_again() {
    let mut memory = memory();
    let arrival = from(2, TCP);
    let known = FlowRecord { allowed: POLICY, ..attested(0) };
    memory.policies.clear();
    memory.policies.insert((POLICY, token::ANY), bits(policy_bits::DENY));
    let denied = Admission::Deny(proven(), Denial { reason: Reason::POLICY_DENIED, rule: RULE });
    for (record, verdict) in [
        (known, Admission::Allow(proven(), Denial::NONE)),
        (FlowRecord { allowed: 0, ..known }, denied),
        (FlowRecord { allowed: POLICY + 1, ..known }, denied),
        (
            FlowRecord { used_ns: NOW - SECOND, ..known },
            Admission::Deny(Client::NOBODY, Denial { reason: Reason::POLICY_DENIED, rule: RULE }),
        ),
    ] {
        memory.asked.borrow_mut().clear();
        memory.pod_ips.remove(&addr(2));
        memory.flows.insert(inward(&arrival), record);
        assert_eq!(admit(&memory, &arrival), verdict, "{} of {POLICY}", record.allowed);
        assert_eq!(memory.asked.borrow().is_empty(), matches!(verdict, Admission::Allow(..)));
    }
    let other = PodRow { policy: POLICY + 1, ..memory.pod_ips[&addr(1)] };
    memory.policies.insert((POLICY + 1, token::ANY), bits(policy_bits::DENY));
    memory.flows.insert(inward(&arrival), known);
    memory.pod_ips.insert(addr(1), other);
    assert_eq!(admit(&memory, &arrival), denied, "the policies changed while it was on its way");
}

#[test]
fn an_attestation_is_of_one_flow_and_one_direction() {
    let mut memory = memory();
    let arrival = from(2, TCP);
    let mine = inward(&arrival);
    for other in [
        FlowKey { src_port: BePort::new(40_001), ..mine },
        FlowKey { dst_port: BePort::new(8081), ..mine },
        FlowKey { src: addr(3), ..mine },
        FlowKey { protocol: UDP, ..mine },
        mine.reversed(),
    ] {
        memory.flows.clear();
        memory.flows.insert(other, attested(0));
        assert!(matches!(admit(&memory, &arrival), Admission::Deny(..)), "{other:?}");
    }
}

#[test]
fn who_the_kernel_saw_counts_before_whose_address_it_is() {
    let mut memory = memory();
    let arrival = from(3, TCP);
    memory.flows.insert(inward(&arrival), attested(0));
    assert_eq!(admit(&memory, &arrival), Admission::Allow(proven(), Denial::NONE));
}

#[test]
fn an_address_of_nobody_is_nobody() {
    let verdict = Admission::Deny(Client::NOBODY, refused(Reason::NOT_ALLOWED));
    assert_eq!(admit(&memory(), &from(9, TCP)), verdict);
}

#[test]
fn a_probe_passes_whatever_policies_say() {
    let mut memory = memory();
    memory.policies.insert((POLICY, token::ANY), bits(policy_bits::DENY));
    let arrival = from(9, TCP);
    let denied = admit(&memory, &arrival);
    let probe = FlowRecord { flags: flow_flags::PROBE, used_ns: NOW, ..FlowRecord::zeroed() };
    memory.flows.insert(inward(&arrival), probe);
    assert_eq!(admit(&memory, &arrival), Admission::Probe);
    let over = FlowRecord { flags: flow_flags::PROBE, used_ns: NOW - SECOND, ..FlowRecord::zeroed() };
    memory.flows.insert(inward(&arrival), over);
    assert_eq!(admit(&memory, &arrival), denied, "what it left proves nothing");
}

#[test]
fn whom_the_proxy_has_let_in_passes_while_the_kernel_saw_the_proxy_dial_and_nobody_else_by_that_address() {
    let mut memory = memory();
    memory.policies.insert((POLICY, token::ANY), bits(policy_bits::DENY));
    let arrival = from(9, TCP);
    let denied = admit(&memory, &arrival);
    assert!(matches!(denied, Admission::Deny(..)), "{denied:?}");
    let flags = flow_flags::BY_PROXY | flow_flags::LET_IN;
    let let_in = FlowRecord { flags, used_ns: NOW, ..FlowRecord::zeroed() };
    memory.flows.insert(inward(&arrival), let_in);
    assert_eq!(admit(&memory, &arrival), Admission::Pass);
    let other = Arrival { remote_port: BePort::new(40_001), ..from(9, TCP) };
    assert_eq!(admit(&memory, &other), denied, "another port is another's");
    memory.flows.insert(inward(&arrival), FlowRecord { used_ns: NOW - SECOND, ..let_in });
    assert_eq!(admit(&memory, &arrival), denied, "what it left proves nothing");
    memory.flows.insert(inward(&arrival), FlowRecord { flags: flow_flags::BY_PROXY, ..let_in });
    assert!(
        matches!(admit(&memory, &arrival), Admission::Deny(..)),
        "what it dials for its pod is the pod's"
    );
}

#[test]
fn a_pod_may_talk_to_itself_by_each_of_its_addresses() {
    let mut memory = memory();
    assert_eq!(admit(&memory, &from(1, TCP)), Admission::Pass);
    memory.pod_ips.insert(addr(7), PodRow { netns: NETNS, ..PodRow::zeroed() });
    assert_eq!(admit(&memory, &from(7, TCP)), Admission::Pass);
    memory.pod_ips.insert(addr(7), PodRow { netns: NETNS + 1, ..PodRow::zeroed() });
    assert_ne!(admit(&memory, &from(7, TCP)), Admission::Pass);
}

#[test]
fn answers_come_in_for_a_minute_after_the_question() {
    let mut memory = memory();
    let arrival = from(9, UDP);
    let question = inward(&arrival).reversed();
    assert!(matches!(admit(&memory, &arrival), Admission::Deny(..)), "nobody asked");
    memory.flows.insert(question, attested(60 * SECOND - 1));
    assert_eq!(admit(&memory, &arrival), Admission::Pass);
    memory.flows.insert(question, attested(60 * SECOND));
    assert!(matches!(admit(&memory, &arrival), Admission::Deny(..)), "too late");

    let segment = from(9, TCP);
    memory.flows.insert(inward(&segment).reversed(), attested(0));
    assert!(matches!(admit(&memory, &segment), Admission::Deny(..)), "a SYN is no answer");
}

#[test]
fn a_refusal_names_its_rule_and_an_audit_what_it_would_have_said() {
    let mut memory = memory();
    let arrival = from(2, TCP);
    memory.flows.insert(inward(&arrival), attested(0));
    memory.policies.insert((POLICY, FRONT), bits(policy_bits::ALLOW | policy_bits::AUDIT_DENY));
    let audit = Denial { reason: Reason::POLICY_DENIED, rule: RULE + 1 };
    assert_eq!(admit(&memory, &arrival), Admission::Allow(proven(), audit));
    memory.policies.insert((POLICY, FRONT), bits(policy_bits::ALLOW | policy_bits::DENY));
    let denial = Denial { reason: Reason::POLICY_DENIED, rule: RULE };
    assert_eq!(admit(&memory, &arrival), Admission::Deny(proven(), denial));
}

#[test]
fn an_address_that_a_link_gave_is_closed_to_all_but_the_pod_itself() {
    let mut memory = memory();
    let v6 = |text: &str| Addr::from(text.parse::<std::net::IpAddr>().unwrap());
    let to = |local: &str, remote: &str| Arrival { local: v6(local), remote: v6(remote), ..from(9, TCP) };
    assert!(is_backdoor(&memory, &to("fe80::1", "fe80::2")));
    assert!(is_backdoor(&memory, &to("febf::1", "2001:db8::2")));
    for (local, remote) in [("fe80::1", "fe80::1"), ("fec0::1", "fe80::2"), ("::1", "::2")] {
        assert!(!is_backdoor(&memory, &to(local, remote)), "{local}");
    }
    assert!(!is_backdoor(&memory, &from(9, TCP)));
    memory.pod_ips.insert(v6("fe80::1"), PodRow::zeroed());
    assert!(!is_backdoor(&memory, &to("fe80::1", "fe80::2")), "policies can say whose it is");
}

#[test]
fn policies_are_asked_about_the_pods_own_port() {
    let memory = memory();
    assert!(matches!(admit(&memory, &from(9, UDP)), Admission::Deny(..)));
    let asked = memory.asked.borrow();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|key| key.policy == POLICY && key.protocol == UDP && key.port.get() == 8080));
}

#[test]
fn only_the_pod_itself_comes_to_the_listener_of_its_proxy() {
    let mut memory = memory();
    let row = memory.pod_ips[&addr(1)];
    let outbound = BePort::new(8080);
    for policy in [0, POLICY] {
        memory.pod_ips.insert(addr(1), PodRow { policy, outbound, ..row });
        for stranger in [2, 3, 9] {
            let refusal = Admission::Deny(Client::NOBODY, refused(Reason::DIRECT_TO_LISTENER));
            assert_eq!(admit(&memory, &from(stranger, TCP)), refusal);
        }
        assert_eq!(admit(&memory, &from(1, TCP)), Admission::Pass, "the pod itself");
        memory.pod_ips.insert(addr(7), PodRow { netns: NETNS, ..PodRow::zeroed() });
        assert_eq!(admit(&memory, &from(7, TCP)), Admission::Pass, "by another address of it");
        memory.pod_ips.remove(&addr(7));
    }
    memory.pod_ips.insert(addr(1), PodRow { policy: 0, outbound: BePort::new(8081), ..row });
    assert_eq!(admit(&memory, &from(9, TCP)), Admission::Pass, "another port");
    memory.pod_ips.insert(addr(1), PodRow { policy: 0, outbound: BePort::new(0), ..row });
    let to_none = Arrival { local_port: BePort::new(0), ..from(9, TCP) };
    assert_eq!(admit(&memory, &to_none), Admission::Pass, "no listener");
    memory.pod_ips.insert(addr(1), PodRow { policy: 0, outbound, ..row });
    assert_eq!(admit(&memory, &from(9, UDP)), Admission::Pass, "another protocol");
    memory.pod_ips.insert(addr(1), PodRow { policy: 0, netns: 0, outbound, ..row });
    assert_eq!(admit(&memory, &from(9, TCP)), Admission::Pass, "a pod of another node");
}
