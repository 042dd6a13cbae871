use std::{collections::HashSet, vec::Vec};

use weft_abi::{
    Addr, Backend, BePort, CONNECTED_UDP, FlowKey, FlowRecord, Pod, PodRow, PolicyRow, Reason, ServiceKey,
    ServiceRow, Slot, SlotKey, TCP, UDP, config_flags, pod_flags, policy_bits, token,
};

use super::{Dial, Outcome, Verdict, dial, source_hash};
use crate::{Denial, allowed, testing::Memory};

const NETNS: u64 = 77;
const SERVICE: u64 = 5;
const BACKEND: u64 = 50;
const POLICY: u64 = 9;
const WEB: u64 = 100;
const VIP: &str = "10.96.0.1";
const API: &str = "10.77.0.2";

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<core::net::IpAddr>().unwrap())
}

fn pod() -> Pod {
    Pod { ip4: addr("10.77.0.1"), ip6: addr("fd77::1"), identity: WEB, namespace: 101, ..Pod::zeroed() }
}

/// An enrolled pod, and a Service in front of `10.77.0.2:8080`.
fn shop() -> Memory {
    let mut memory = Memory::default();
    memory.pods.insert(NETNS, pod());
    for protocol in [TCP, UDP] {
        let key = ServiceKey { addr: addr(VIP), port: BePort::new(80), protocol, ..ServiceKey::zeroed() };
        memory
            .services
            .insert(key, Vec::from([ServiceRow { id: SERVICE, slots: 1, ..ServiceRow::zeroed() }]));
    }
    memory.slots.insert(
        SlotKey { service: SERVICE, ..SlotKey::zeroed() },
        Slot {
            addr: addr(API),
            backend: BACKEND,
            service: SERVICE,
            threshold: 65_536,
            port: BePort::new(8080),
            ..Slot::zeroed()
        },
    );
    let backend = Backend { addr: addr(API), service: SERVICE, port: BePort::new(8080), ..Backend::zeroed() };
    memory.backends.insert(BACKEND, backend);
    memory
}

/// The same, and the backend is a pod of this node that only `web` may reach.
fn protected() -> Memory {
    let mut memory = shop();
    let flags = pod_flags::ENROLLED | pod_flags::BY_IDENTITY | pod_flags::prefix(16);
    for api in [API, "fd77::2"] {
        memory
            .pod_ips
            .insert(addr(api), PodRow { netns: NETNS + 1, policy: POLICY, flags, ..PodRow::zeroed() });
    }
    memory.policies.insert((POLICY, token::ANY), bits(policy_bits::ISOLATED));
    memory.policies.insert((POLICY, WEB), bits(policy_bits::ALLOW));
    memory
}

fn bits(bits: u32) -> PolicyRow {
    PolicyRow { bits, ..PolicyRow::zeroed() }
}

fn to(text: &str, port: u16, protocol: u8) -> Dial {
    Dial { netns: NETNS, addr: addr(text), port: BePort::new(port), protocol, source_port: BePort::new(4000) }
}

/// The verdict, and all that belongs to it.
pub(super) fn decide(memory: &Memory, wanted: &Dial) -> (Verdict, Outcome) {
    let mut outcome = Outcome::of(wanted);
    (dial(memory, wanted, &mut outcome), outcome)
}

#[track_caller]
fn assert_translated(memory: &Memory, wanted: &Dial) {
    match decide(memory, wanted) {
        (Verdict::Translate, Outcome { to, .. }) => {
            assert_eq!((to.addr, to.port), (addr(API), BePort::new(8080)));
            assert_eq!((to.service, to.backend), (SERVICE, BACKEND));
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn granted(memory: &Memory, wanted: &Dial) -> u64 {
    match decide(memory, wanted) {
        (Verdict::Pass | Verdict::Translate, outcome) => outcome.grant,
        other => panic!("{other:?}"),
    }
}

fn denial(memory: &Memory, wanted: &Dial) -> Option<Reason> {
    match decide(memory, wanted) {
        (Verdict::Deny, outcome) => Some(outcome.denial.reason),
        _ => None,
    }
}

#[test]
fn a_services_address_port_and_protocol_lead_to_its_backend() {
    let memory = shop();
    assert_translated(&memory, &to(VIP, 80, TCP));
    assert_translated(&memory, &to(VIP, 80, UDP));
    for other in [to(VIP, 81, TCP), to("10.96.0.2", 80, TCP), to(API, 8080, TCP), to(VIP, 80, 17 + 1)] {
        assert_eq!(decide(&memory, &other), (Verdict::Pass, Outcome::of(&other)));
    }
}

#[test]
fn sockets_of_other_namespaces_are_balanced_only_when_the_whole_node_is() {
    let mut memory = shop();
    let other = Dial { netns: NETNS + 5, ..to(VIP, 80, TCP) };
    assert_eq!(decide(&memory, &other), (Verdict::Pass, Outcome::of(&other)));
    memory.config.flags = config_flags::ACCELERATE;
    assert_eq!(decide(&memory, &other), (Verdict::Pass, Outcome::of(&other)));
    memory.config.flags = config_flags::SCOPE_NODE;
    assert_translated(&memory, &other);
    // What a pod's policies say to them is decided where they arrive.
    memory.pod_ips.extend(protected().pod_ips);
    memory.policies.extend(protected().policies);
    assert_translated(&memory, &other);
}

#[test]
fn a_service_without_endpoints_is_refused_and_says_so() {
    let mut memory = shop();
    memory.services.values_mut().flatten().for_each(|row| row.slots = 0);
    match decide(&memory, &to(VIP, 80, TCP)) {
        (Verdict::Deny, Outcome { denial, .. }) => {
            assert_eq!(denial, Denial { reason: Reason::NO_ENDPOINTS, rule: 0 });
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_backend_would_refuse_is_refused_at_once_also_by_its_own_address() {
    let mut memory = protected();
    assert_translated(&memory, &to(VIP, 80, TCP));
    assert_eq!(decide(&memory, &to(API, 8080, TCP)).0, Verdict::Pass);
    memory.pods.insert(NETNS, Pod { identity: WEB + 1, ..pod() });
    assert_eq!(denial(&memory, &to(VIP, 80, TCP)), Some(Reason::NOT_ALLOWED));
    assert_eq!(denial(&memory, &to(API, 8080, TCP)), Some(Reason::NOT_ALLOWED));
    memory.policies.insert(
        (POLICY, WEB + 1),
        PolicyRow { bits: policy_bits::DENY, deny_rule: 3, ..PolicyRow::zeroed() },
    );
    match decide(&memory, &to(VIP, 80, TCP)) {
        (Verdict::Deny, Outcome { denial, .. }) => {
            assert_eq!(denial, Denial { reason: Reason::POLICY_DENIED, rule: 3 });
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_let_in_is_granted_to_this_client_at_the_backends_port() {
    let memory = protected();
    let leaves = |dialled: &Dial, server: &str, port| {
        let dst = addr(server);
        let src = if dst.is_v4() { pod().ip4 } else { pod().ip6 };
        let flow = FlowKey { src, dst, dst_port: BePort::new(port), protocol: TCP, ..FlowKey::zeroed() };
        allowed(granted(&memory, dialled), &pod(), &flow)
    };
    assert_eq!(leaves(&to(VIP, 80, TCP), API, 8080), POLICY);
    assert_ne!(leaves(&to(VIP, 80, TCP), API, 80), POLICY, "nobody was asked about the Service's port");
    assert_eq!(leaves(&to(API, 8081, TCP), API, 8081), POLICY);
    assert_eq!(leaves(&to("fd77::2", 8080, TCP), "fd77::2", 8080), POLICY);
}

#[test]
fn nothing_is_granted_that_the_servers_hook_has_to_decide_or_report() {
    let none = 0;
    assert_eq!(granted(&protected(), &to(API, 8080, UDP)), none, "nobody carries it");
    assert_eq!(granted(&protected(), &to("10.77.0.9", 8080, TCP)), none, "no pod");
    let own = Dial { netns: NETNS + 1, ..to(API, 8080, TCP) };
    assert_eq!(granted(&protected(), &own), none, "no policy is asked");
    let mut audited = protected();
    audited.policies.insert((POLICY, WEB), bits(policy_bits::ALLOW | policy_bits::AUDIT_DENY));
    assert_eq!(granted(&audited, &to(VIP, 80, TCP)), none);
    assert_eq!(granted(&audited, &to(API, 8080, TCP)), none);
}

#[test]
fn the_port_that_policies_are_asked_about_is_the_backends() {
    let memory = protected();
    assert_translated(&memory, &to(VIP, 80, TCP));
    let asked = memory.asked.borrow();
    assert!(!asked.is_empty());
    assert!(
        asked.iter().all(|key| key.port == BePort::new(8080) && key.protocol == TCP && key.policy == POLICY)
    );
}

#[test]
fn pods_that_no_hook_of_this_node_protects_are_not_asked_about() {
    let mut stranger = protected();
    stranger.pods.insert(NETNS, Pod { identity: WEB + 1, ..pod() });
    let row = stranger.pod_ips[&addr(API)];
    for open in [
        PodRow { policy: 0, ..row },
        PodRow { netns: 0, ..row },
        // Its own: a pod may always talk to itself.
        PodRow { netns: NETNS, ..row },
    ] {
        stranger.pod_ips.insert(addr(API), open);
        assert_translated(&stranger, &to(VIP, 80, TCP));
    }
    stranger.pod_ips.clear();
    assert_translated(&stranger, &to(VIP, 80, TCP));
}

#[test]
fn the_source_is_the_pods_address_of_the_family_it_dials() {
    let mut memory = protected();
    for row in memory.pod_ips.values_mut() {
        row.flags = pod_flags::BY_CIDR | pod_flags::prefix(16);
    }
    memory.cidrs.insert(pod().ip4, 44);
    memory.cidrs.insert(pod().ip6, 66);
    for (allowed, four, six) in [(44, None, Some(Reason::NOT_ALLOWED)), (66, Some(Reason::NOT_ALLOWED), None)]
    {
        memory.policies.retain(|(_, of), _| *of == token::ANY);
        memory.policies.insert((POLICY, allowed), bits(policy_bits::ALLOW));
        assert_eq!(denial(&memory, &to(API, 8080, TCP)), four);
        assert_eq!(denial(&memory, &to("fd77::2", 8080, TCP)), six);
    }
}

#[test]
fn a_tcp_client_is_attested_and_a_datagram_once_its_port_is_known() {
    let memory = protected();
    let unknown = |protocol| Dial { source_port: BePort::new(0), ..to(API, 8080, protocol) };
    assert_eq!(denial(&memory, &to(API, 8080, UDP)), None);
    assert_eq!(denial(&memory, &unknown(TCP)), None);
    assert_eq!(denial(&memory, &unknown(UDP)), Some(Reason::IDENTITY_UNPROVEN));
}

#[test]
fn an_answer_is_not_held_by_the_policy_of_whoever_asked() {
    let mut memory = protected();
    memory.config.udp_reply_ns = 100;
    memory.now.set(1000);
    memory.pods.insert(NETNS, Pod { identity: WEB + 1, ..pod() });
    let answer = to(API, 8080, UDP);
    assert_eq!(denial(&memory, &answer), Some(Reason::NOT_ALLOWED));

    // What the other pod sent, from the port that is answered to the port that answers.
    let asked = FlowKey {
        src: addr(API),
        dst: pod().ip4,
        src_port: BePort::new(8080),
        dst_port: BePort::new(4000),
        protocol: UDP,
        ..FlowKey::zeroed()
    };
    let at = |used_ns| FlowRecord { used_ns, ..FlowRecord::zeroed() };
    memory.flows.insert(asked, at(950));
    assert_eq!(denial(&memory, &answer), None);
    assert_eq!(
        denial(&memory, &Dial { source_port: BePort::new(4001), ..to(API, 8080, UDP) }),
        Some(Reason::NOT_ALLOWED)
    );
    assert_eq!(denial(&memory, &to(API, 8080, TCP)), Some(Reason::NOT_ALLOWED));
    memory.flows.insert(asked, at(900));
    assert_eq!(denial(&memory, &answer), Some(Reason::NOT_ALLOWED), "it was asked too long ago");

    // A connected socket asks without a hook: it is known by the peer that it connected to.
    let connected = FlowKey { src_port: BePort::new(0), protocol: CONNECTED_UDP, ..asked };
    memory.flows.insert(connected, at(0));
    assert_eq!(denial(&memory, &answer), None);
    assert_eq!(
        denial(&memory, &Dial { source_port: BePort::new(4001), ..to(API, 8080, UDP) }),
        Some(Reason::NOT_ALLOWED)
    );
}

#[test]
fn a_pods_hash_is_that_of_its_first_address() {
    let hash = |pod: &Pod| source_hash(Some(pod), NETNS);
    assert_eq!(hash(&Pod { ip6: Addr::ANY, ..pod() }), hash(&pod()));
    assert_eq!(source_hash(Some(&pod()), NETNS + 1), hash(&pod()));
    let six = Pod { ip4: Addr::ANY, ..pod() };
    assert_ne!(hash(&six), hash(&pod()));
    assert_ne!(hash(&six), hash(&Pod { ip6: addr("fd77::2"), ..six }));
    // Another version of weft must not send every client elsewhere.
    assert_eq!([hash(&pod()), hash(&six)], [1_565_399_030, 521_871_944]);
}

#[test]
fn clients_that_are_no_pods_of_ours_hash_by_their_namespaces() {
    let hashes: HashSet<_> = [0, 1, 2, 1 << 8, 1 << 32, 2 << 32].map(|netns| source_hash(None, netns)).into();
    assert_eq!(hashes.len(), 6);
}

#[test]
fn hashes_of_neighbours_are_spread_over_a_table() {
    // Ten thousand pods over Maglev tables of usual sizes: a hash that used only some bits would
    // leave most entries to nobody.
    for size in [1009_u32, 65_537] {
        let entries: HashSet<_> = (0..10_000_u16)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                let ip4 = Addr::from(core::net::Ipv4Addr::new(10, 77, high, low));
                source_hash(Some(&Pod { ip4, ..pod() }), NETNS) % size
            })
            .collect();
        let expected = f64::from(size) * (1.0 - (-10_000.0 / f64::from(size)).exp());
        let found = f64::from(u32::try_from(entries.len()).unwrap());
        assert!(found > 0.95 * expected, "{found} of {size} entries, {expected} expected");
    }
}
