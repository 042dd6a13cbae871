//! Who is handed to the proxy, who is refused, and what a dial becomes.

use weft_abi::{
    Addr, BePort, FlowKey, FlowRecord, Pod, PodPort, PodPortKey, PodRow, PolicyKey, PolicyRow, Reason, TCP,
    UDP, pod_flags, policy_bits, token,
};

use super::is_captured;
use crate::{Admission, Arrival, Dial, Outcome, Verdict, admit, dial, testing::Memory};

const NETNS: u64 = 77;
const SECOND: u64 = 1_000_000_000;
const OUTBOUND: BePort = BePort::new(39_000);
const INBOUND: BePort = BePort::new(39_001);
const PERMISSIVE: u32 = pod_flags::TLS;
const STRICT: u32 = pod_flags::TLS | pod_flags::STRICT;
const POLICY: u64 = 9;

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<core::net::IpAddr>().unwrap())
}

/// The pod `.1` of this node with this mode; `.2` of this node, `.3` enrolled and `.4` not enrolled elsewhere.
fn mesh(mode: u32) -> Memory {
    let mut memory = Memory::default();
    memory.config.proxy_lease_ns = 5 * SECOND;
    memory.config.attest_grace_ns = SECOND;
    memory.config.proxy_cgroup = 31;
    memory.now.set(100 * SECOND);
    memory.lease = 99 * SECOND;
    let pod = Pod { ip4: addr("10.77.0.1"), outbound: OUTBOUND, inbound: INBOUND, ..Pod::zeroed() };
    memory.pods.insert(NETNS, pod);
    let flags = pod_flags::ENROLLED | pod_flags::prefix(16) | mode;
    let here = PodRow { netns: NETNS, flags, outbound: OUTBOUND, inbound: INBOUND, ..PodRow::zeroed() };
    memory.pod_ips.insert(addr("10.77.0.1"), here);
    memory.pod_ips.insert(addr("10.77.0.2"), PodRow { netns: NETNS + 1, ..here });
    memory.pod_ips.insert(addr("10.77.0.3"), PodRow { flags, ..PodRow::zeroed() });
    memory.pod_ips.insert(addr("10.77.0.4"), PodRow::zeroed());
    memory
}

fn from(remote: &str) -> Arrival {
    Arrival {
        local: addr("10.77.0.1"),
        local_port: BePort::new(8080),
        remote: addr(remote),
        remote_port: BePort::new(40_000),
        protocol: TCP,
    }
}

fn is_handed_over(admission: &Admission) -> bool {
    matches!(admission, Admission::Capture(NETNS, _))
}

fn reason(memory: &Memory, arrival: &Arrival) -> Reason {
    match admit(memory, arrival) {
        Admission::Deny(_, denial) => denial.reason,
        other => panic!("{other:?}"),
    }
}

/// A flow that the kernel saw leave a pod of this node.
fn attested(memory: &mut Memory, arrival: &Arrival) {
    let key = FlowKey {
        src: arrival.remote,
        dst: arrival.local,
        src_port: arrival.remote_port,
        dst_port: arrival.local_port,
        protocol: TCP,
        _pad: [0; 3],
    };
    memory.flows.insert(key, FlowRecord { used_ns: memory.now.get(), ..FlowRecord::zeroed() });
}

#[test]
fn who_may_speak_mutual_tls_is_handed_to_the_proxy_and_nobody_else() {
    for mode in [PERMISSIVE, STRICT] {
        let memory = mesh(mode);
        for remote in ["10.77.0.3", "10.77.0.9", "192.0.2.1"] {
            assert!(is_handed_over(&admit(&memory, &from(remote))), "{remote}");
            assert!(is_captured(&memory, &from(remote)));
        }
        assert_eq!(admit(&memory, &from("10.77.0.1")), Admission::Pass, "its own");
        for remote in ["10.77.0.1", "10.77.0.2", "10.77.0.4"] {
            assert!(!is_captured(&memory, &from(remote)), "{remote}");
        }
        let datagram = Arrival { protocol: UDP, ..from("10.77.0.3") };
        assert_eq!(admit(&memory, &datagram), Admission::Pass);
        assert!(!is_captured(&memory, &datagram));
    }
    let off = mesh(0);
    assert_eq!(admit(&off, &from("10.77.0.3")), Admission::Pass);
    assert!(!is_captured(&off, &from("10.77.0.3")));
}

#[test]
fn strict_refuses_at_the_syn_whoever_is_known_not_to_speak_it_and_takes_who_is_attested() {
    // The one is of this node, so that the kernel would have seen it.
    for (remote, why) in [("10.77.0.2", Reason::IDENTITY_UNPROVEN), ("10.77.0.4", Reason::PLAINTEXT)] {
        assert_eq!(admit(&mesh(PERMISSIVE), &from(remote)), Admission::Pass, "{remote}");
        assert_eq!(reason(&mesh(STRICT), &from(remote)), why, "{remote}");
    }
    let mut memory = mesh(STRICT);
    attested(&mut memory, &from("10.77.0.2"));
    assert!(matches!(admit(&memory, &from("10.77.0.2")), Admission::Allow(client, _) if client.proven));
}

#[test]
fn a_port_may_have_a_mode_of_its_own() {
    let modes = [(PERMISSIVE, 0), (STRICT, 0), (0, STRICT), (STRICT, PERMISSIVE)];
    for (of_pod, of_port) in modes {
        let mut memory = mesh(of_pod | pod_flags::BY_PORT);
        let key = PodPortKey { addr: addr("10.77.0.1"), port: BePort::new(8080), ..PodPortKey::zeroed() };
        memory.pod_ports.insert(key, PodPort { flags: of_port, ..PodPort::zeroed() });
        let other = |remote: &str| Arrival { local_port: BePort::new(8081), ..from(remote) };
        for (mode, arrival) in [(of_port, &from as &dyn Fn(&str) -> Arrival), (of_pod, &other)] {
            let captured = is_handed_over(&admit(&memory, &arrival("10.77.0.3")));
            assert_eq!(captured, mode != 0, "{of_pod} {of_port}");
            let refused = admit(&memory, &arrival("10.77.0.4")) != Admission::Pass;
            assert_eq!(refused, mode == STRICT, "{of_pod} {of_port}");
        }
    }
}

#[test]
fn without_a_proxy_an_enrolled_pod_is_refused_and_others_follow_the_mode() {
    let changes: [fn(&mut Memory); 2] = [
        |memory| memory.lease = 95 * SECOND,
        |memory| memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().inbound = BePort::new(0),
    ];
    for change in changes {
        for (mode, unknown) in [(PERMISSIVE, None), (STRICT, Some(Reason::PLAINTEXT))] {
            let mut memory = mesh(mode);
            change(&mut memory);
            assert_eq!(reason(&memory, &from("10.77.0.3")), Reason::PROXY_UNAVAILABLE);
            match unknown {
                Some(why) => assert_eq!(reason(&memory, &from("10.77.0.9")), why),
                None => assert_eq!(admit(&memory, &from("10.77.0.9")), Admission::Pass),
            }
        }
    }
}

#[test]
fn who_is_on_his_way_in_or_out_may_speak_either_and_needs_no_proxy_for_plaintext() {
    for passing in ["10.77.0.1", "10.77.0.3"] {
        for (mode, without) in [(PERMISSIVE, None), (STRICT, Some(Reason::PLAINTEXT))] {
            let mut memory = mesh(mode);
            memory.pod_ips.get_mut(&addr(passing)).unwrap().flags |= pod_flags::PASSING;
            assert!(is_handed_over(&admit(&memory, &from("10.77.0.3"))), "{passing}");
            memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().inbound = BePort::new(0);
            match without {
                Some(why) => assert_eq!(reason(&memory, &from("10.77.0.3")), why, "{passing}"),
                None => assert_eq!(admit(&memory, &from("10.77.0.3")), Admission::Pass, "{passing}"),
            }
        }
    }
}

#[test]
fn a_pod_on_its_way_dials_in_clear_also_while_it_has_no_listener() {
    let mut memory = mesh(PERMISSIVE);
    memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().flags |= pod_flags::PASSING;
    assert_eq!(dialled(&memory, &to("10.77.0.3")).0, Verdict::Pass);
    memory.pods.get_mut(&NETNS).unwrap().outbound = BePort::new(0);
    assert_eq!(dialled(&memory, &to("10.77.0.3")).0, Verdict::Pass);
    memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().flags &= !pod_flags::PASSING;
    let (verdict, outcome) = dialled(&memory, &to("10.77.0.3"));
    assert_eq!((verdict, outcome.denial.reason), (Verdict::Deny, Reason::PROXY_UNAVAILABLE));
}

#[test]
fn nobody_comes_to_the_inbound_listener_by_its_port() {
    let memory = mesh(PERMISSIVE);
    for remote in ["10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.9"] {
        let arrival = Arrival { local_port: INBOUND, ..from(remote) };
        assert_eq!(reason(&memory, &arrival), Reason::DIRECT_TO_LISTENER, "{remote}");
    }
}

#[test]
fn what_an_address_is_enough_to_deny_is_refused_at_the_syn_and_the_proxy_decides_the_rest() {
    let mut memory = mesh(PERMISSIVE);
    memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().policy = POLICY;
    let row = |bits| PolicyRow { bits, ..PolicyRow::zeroed() };
    memory.policies.insert((POLICY, token::ANY), row(policy_bits::ISOLATED));
    assert!(is_handed_over(&admit(&memory, &from("10.77.0.3"))));
    assert_eq!(reason(&memory, &from("10.77.0.4")), Reason::NOT_ALLOWED, "which speaks no TLS");
    memory.policies.insert((POLICY, token::ANY), row(policy_bits::DENY));
    assert_eq!(reason(&memory, &from("10.77.0.3")), Reason::POLICY_DENIED);
}

fn to(addr_: &str) -> Dial {
    Dial {
        netns: NETNS,
        addr: addr(addr_),
        port: BePort::new(8080),
        protocol: TCP,
        source_port: BePort { be: 0 },
    }
}

fn dialled(memory: &Memory, wanted: &Dial) -> (Verdict, Outcome) {
    let mut outcome = Outcome::of(wanted);
    (dial(memory, wanted, &mut outcome), outcome)
}

#[test]
fn a_dial_of_an_enrolled_pod_of_another_node_goes_to_the_pods_own_listener() {
    for mode in [PERMISSIVE, STRICT] {
        let (verdict, outcome) = dialled(&mesh(mode), &to("10.77.0.3"));
        assert_eq!(verdict, Verdict::Tls);
        assert_eq!((outcome.to.addr, outcome.to.port), (addr("10.77.0.1"), OUTBOUND));
    }
    for (mode, remote) in
        [(PERMISSIVE, "10.77.0.2"), (STRICT, "10.77.0.4"), (STRICT, "192.0.2.1"), (0, "10.77.0.3")]
    {
        assert_eq!(dialled(&mesh(mode), &to(remote)).0, Verdict::Pass, "{remote}");
    }
    assert_eq!(dialled(&mesh(STRICT), &Dial { protocol: UDP, ..to("10.77.0.3") }).0, Verdict::Pass);
    let mut own = mesh(STRICT);
    own.cgroup = 31;
    assert_eq!(dialled(&own, &to("10.77.0.3")).0, Verdict::Pass, "the proxy's own connection");
}

#[test]
fn without_a_proxy_no_clear_byte_leaves_in_any_mode() {
    for mode in [PERMISSIVE, STRICT] {
        let mut memory = mesh(mode);
        memory.lease = 0;
        let (verdict, outcome) = dialled(&memory, &to("10.77.0.3"));
        assert_eq!((verdict, outcome.denial.reason), (Verdict::Deny, Reason::PROXY_UNAVAILABLE));
    }
}

/// A mesh without mutual TLS where the pod `.1` has policies of which the row for everybody says `bits`.
fn reading(bits: u32) -> Memory {
    let mut memory = mesh(0);
    let row = memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap();
    (row.policy, row.flags) = (POLICY, row.flags | pod_flags::BY_REQUEST);
    memory.policies.insert((POLICY, token::ANY), PolicyRow { bits, deny_rule: 7, ..PolicyRow::zeroed() });
    memory
}

#[test]
fn what_requests_decide_goes_to_the_proxy_whoever_the_client_is() {
    let mut memory = reading(policy_bits::JUDGED | policy_bits::ISOLATED);
    let near = from("10.77.0.2");
    attested(&mut memory, &near);
    for remote in ["10.77.0.2", "10.77.0.3", "10.77.0.4", "192.0.2.1"] {
        let Admission::Capture(NETNS, client) = admit(&memory, &from(remote)) else { panic!("{remote}") };
        assert_eq!(client.proven, remote == "10.77.0.2", "{remote}");
        assert!(is_captured(&memory, &from(remote)), "{remote}");
    }
    assert_eq!(admit(&memory, &from("10.77.0.1")), Admission::Pass, "the pod itself");
    assert!(!is_captured(&memory, &from("10.77.0.1")));
}

#[test]
fn what_no_request_could_change_the_kernel_refuses() {
    let memory = reading(policy_bits::JUDGED | policy_bits::DENY);
    assert_eq!(reason(&memory, &from("10.77.0.4")), Reason::POLICY_DENIED);
    let memory = reading(policy_bits::WATCHED | policy_bits::ISOLATED);
    assert_eq!(reason(&memory, &from("10.77.0.4")), Reason::NOT_ALLOWED, "audited policies decide nothing");
}

#[test]
fn without_a_proxy_nobody_comes_to_what_requests_decide() {
    for gone in [
        |memory: &mut Memory| memory.lease = 94 * SECOND,
        |memory: &mut Memory| {
            memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().inbound = BePort { be: 0 };
        },
    ] {
        let mut memory = reading(policy_bits::JUDGED);
        gone(&mut memory);
        assert_eq!(reason(&memory, &from("10.77.0.4")), Reason::PROXY_UNAVAILABLE);
        let mut memory = reading(policy_bits::WATCHED);
        gone(&mut memory);
        assert!(
            matches!(admit(&memory, &from("10.77.0.4")), Admission::Allow(..)),
            "nothing is decided by it"
        );
    }
}

#[test]
fn a_verdict_that_requests_may_change_is_not_carried() {
    let mut memory = reading(policy_bits::JUDGED);
    memory.pods.insert(NETNS + 1, Pod { ip4: addr("10.77.0.2"), ..Pod::zeroed() });
    let call = Dial {
        netns: NETNS + 1,
        addr: addr("10.77.0.1"),
        port: BePort::new(8080),
        protocol: TCP,
        source_port: BePort { be: 0 },
    };
    let mut outcome = Outcome::of(&call);
    assert_eq!((dial(&memory, &call, &mut outcome), outcome.grant), (Verdict::Pass, 0));
}

#[test]
fn requests_are_read_on_the_ports_whose_policies_ask_for_them_and_on_no_others() {
    let row = |bits| PolicyRow { bits, ..PolicyRow::zeroed() };
    let key = |token, protocol, port| {
        PolicyKey { policy: POLICY, token, protocol, ..PolicyKey::zeroed() }.around(BePort::new(port), 16)
    };
    let mut memory = reading(0);
    memory.policies.clear();
    memory.ports.insert(key(token::ANY, TCP, 8080), row(policy_bits::JUDGED));
    memory.ports.insert(key(token::ANY, TCP, 8081), row(policy_bits::WATCHED));
    memory.ports.insert(key(token::ANY, TCP, 8082), row(policy_bits::ISOLATED | policy_bits::ALLOW));
    memory.ports.insert(key(token::ANY, UDP, 8083), row(policy_bits::JUDGED));
    let is_read = |memory: &Memory, port| {
        is_captured(memory, &Arrival { local_port: BePort::new(port), ..from("10.77.0.4") })
    };
    assert_eq!(
        [8080, 8081, 8082, 8083, 8084].map(|port| is_read(&memory, port)),
        [true, true, false, false, false]
    );
    memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().flags &= !pod_flags::BY_REQUEST;
    assert!(!is_read(&memory, 8080), "nobody looks where no policy of the pod asks for requests");
}

#[test]
fn a_mode_of_a_port_counts_where_the_pod_says_that_there_are_some() {
    let mut memory = mesh(PERMISSIVE);
    let key = PodPortKey { addr: addr("10.77.0.1"), port: BePort::new(8080), _pad: [0; 6] };
    memory.pod_ports.insert(key, PodPort { flags: STRICT, _pad: 0 });
    assert_eq!(admit(&memory, &from("10.77.0.4")), Admission::Pass, "a row that is left from before");
    memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().flags |= pod_flags::BY_PORT;
    assert_eq!(reason(&memory, &from("10.77.0.4")), Reason::PLAINTEXT);
}

#[test]
fn modes_are_for_those_whom_nobody_attests_and_policies_for_everybody() {
    let with_policy = |mode, bits| {
        let mut memory = mesh(mode);
        memory.pod_ips.get_mut(&addr("10.77.0.1")).unwrap().policy = POLICY;
        memory.policies.insert((POLICY, token::ANY), PolicyRow { bits, ..PolicyRow::zeroed() });
        memory
    };
    let mut memory = with_policy(STRICT, policy_bits::ISOLATED | policy_bits::ALLOW);
    attested(&mut memory, &from("10.77.0.2"));
    assert!(matches!(admit(&memory, &from("10.77.0.2")), Admission::Allow(client, _) if client.proven));
    let disabled = with_policy(0, policy_bits::ISOLATED);
    for unknown in ["10.77.0.3", "192.0.2.1"] {
        assert_eq!(
            reason(&disabled, &from(unknown)),
            Reason::NOT_ALLOWED,
            "{unknown}: the proxy is not asked"
        );
    }
}
