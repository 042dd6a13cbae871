//! Which dials leave the kernel path for the node's proxy.

use weft_abi::{
    Addr, Backend, BePort, Pod, PodRow, PolicyRow, Reason, ServiceKey, ServiceRow, Slot, SlotKey, TCP, UDP,
    config_flags, pod_flags, policy_bits, service_flags, token,
};

use super::{Dial, Outcome, Verdict, tests::decide};
use crate::{Denial, Destination, testing::Memory};

const NETNS: u64 = 77;
const SERVICE: u64 = 5;
const PROXY_CGROUP: u64 = 31;
const SECOND: u64 = 1_000_000_000;
const OUTBOUND: BePort = BePort::new(39_000);

type Change = fn(&mut Memory);

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<core::net::IpAddr>().unwrap())
}

/// A pod with an outbound listener; two Services, one in each family, that go through the proxy.
fn shop(flags: u32) -> Memory {
    let mut memory = Memory::default();
    memory.config.proxy_cgroup = PROXY_CGROUP;
    memory.config.proxy_lease_ns = 5 * SECOND;
    memory.now.set(100 * SECOND);
    memory.lease = 96 * SECOND;
    let pod = Pod { ip4: addr("10.77.0.1"), ip6: addr("fd77::1"), outbound: OUTBOUND, ..Pod::zeroed() };
    memory.pods.insert(NETNS, pod);
    for (vip, backend) in [("10.96.0.1", "10.77.0.2"), ("fd96::1", "fd77::2")] {
        for protocol in [TCP, UDP] {
            let key = ServiceKey { addr: addr(vip), port: BePort::new(80), protocol, ..ServiceKey::zeroed() };
            let id = SERVICE + u64::from(vip.contains(':'));
            memory
                .services
                .insert(key, std::vec![ServiceRow { id, slots: 1, flags, ..ServiceRow::zeroed() }]);
            let port = BePort::new(8080);
            let whole = Slot { backend: id, service: id, threshold: 65_536, ..Slot::zeroed() };
            memory.slots.insert(
                SlotKey { service: id, ..SlotKey::zeroed() },
                Slot { addr: addr(backend), port, ..whole },
            );
            memory
                .backends
                .insert(id, Backend { addr: addr(backend), service: id, port, ..Backend::zeroed() });
        }
    }
    memory
}

fn to(vip: &str) -> Dial {
    Dial { netns: NETNS, addr: addr(vip), port: BePort::new(80), protocol: TCP, source_port: BePort::new(0) }
}

#[track_caller]
fn proxied(memory: &Memory, dialled: &Dial) -> Destination {
    match decide(memory, dialled) {
        (Verdict::Proxy, outcome) => outcome.to,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_kernel_path(memory: &Memory, dialled: &Dial) {
    match decide(memory, dialled) {
        (Verdict::Translate, outcome) => assert_eq!(outcome.to.port, BePort::new(8080)),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_refused(memory: &Memory, dialled: &Dial) {
    match decide(memory, dialled) {
        (Verdict::Deny, Outcome { to, denial, .. }) => {
            assert_eq!(denial, Denial { reason: Reason::PROXY_UNAVAILABLE, rule: 0 });
            assert_eq!((to.addr, to.backend), (dialled.addr, 0), "it went nowhere");
            assert_ne!(to.service, 0, "its flow names the Service");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_that_needs_the_proxy_goes_to_the_pods_own_listener_in_its_own_family() {
    let memory = shop(service_flags::PROXY);
    for (vip, own, id) in [("10.96.0.1", "10.77.0.1", SERVICE), ("fd96::1", "fd77::1", SERVICE + 1)] {
        let went = proxied(&memory, &to(vip));
        assert_eq!((went.addr, went.port, went.service, went.backend), (addr(own), OUTBOUND, id, 0));
        assert!(!went.counted);
    }
}

#[test]
fn only_what_asks_for_it_leaves_the_kernel_path() {
    let plain = shop(0);
    assert_kernel_path(&plain, &to("10.96.0.1"));
    let mut memory = shop(service_flags::PROXY);
    assert_kernel_path(&memory, &Dial { protocol: UDP, ..to("10.96.0.1") });
    // The proxy's own connection, and one of no enrolled pod where the whole node is balanced.
    memory.cgroup = PROXY_CGROUP;
    assert_kernel_path(&memory, &to("10.96.0.1"));
    memory.cgroup = PROXY_CGROUP + 1;
    memory.config.flags = config_flags::SCOPE_NODE;
    assert_kernel_path(&memory, &Dial { netns: NETNS + 1, ..to("10.96.0.1") });
    proxied(&memory, &to("10.96.0.1"));
}

#[test]
fn a_lease_that_is_renewed_while_a_dial_is_judged_is_one() {
    let mut memory = shop(service_flags::PROXY);
    memory.lease = memory.now.get() + 1;
    proxied(&memory, &to("10.96.0.1"));
}

#[test]
fn a_process_without_a_cgroup_of_the_proxys_is_not_taken_for_it() {
    let mut memory = shop(service_flags::PROXY);
    (memory.config.proxy_cgroup, memory.cgroup) = (0, 0);
    proxied(&memory, &to("10.96.0.1"));
}

#[test]
fn a_pod_on_its_way_passes_over_routes_while_a_proxy_is_about_to_listen_for_it_and_not_without_one() {
    let mut memory = shop(service_flags::PROXY);
    let row = PodRow { netns: NETNS, flags: pod_flags::PASSING, ..PodRow::zeroed() };
    memory.pod_ips.insert(addr("10.77.0.1"), row);
    proxied(&memory, &to("10.96.0.1"));
    memory.pods.get_mut(&NETNS).unwrap().outbound = BePort::new(0);
    assert_kernel_path(&memory, &to("10.96.0.1"));
    memory.lease = 0;
    assert_refused(&memory, &to("10.96.0.1"));
    memory.pods.get_mut(&NETNS).unwrap().outbound = OUTBOUND;
    assert_refused(&memory, &to("10.96.0.1"));
}

#[test]
fn without_a_proxy_it_is_refused_or_takes_the_kernel_path_as_the_service_says() {
    let gone = |flags, change: Change| {
        let mut memory = shop(service_flags::PROXY | flags);
        change(&mut memory);
        memory
    };
    let changes: [(&str, Change); 5] = [
        ("10.96.0.1", |memory| memory.lease = 95 * SECOND),
        ("10.96.0.1", |memory| memory.lease = 0),
        ("10.96.0.1", |memory| memory.pods.get_mut(&NETNS).unwrap().outbound = BePort::new(0)),
        ("10.96.0.1", |memory| memory.pods.get_mut(&NETNS).unwrap().ip4 = Addr::ANY),
        ("fd96::1", |memory| memory.pods.get_mut(&NETNS).unwrap().ip6 = Addr::ANY),
    ];
    for (vip, change) in changes {
        assert_refused(&gone(0, change), &to(vip));
        assert_kernel_path(&gone(service_flags::PROXY_OPEN, change), &to(vip));
    }
}

#[test]
fn what_may_take_the_kernel_path_instead_never_goes_in_clear_to_a_pod_of_another_node() {
    let mut memory = shop(service_flags::PROXY | service_flags::PROXY_OPEN);
    let elsewhere = PodRow { flags: pod_flags::ENROLLED | pod_flags::TLS, ..PodRow::zeroed() };
    for backend in ["10.77.0.2", "fd77::2"] {
        memory.pod_ips.insert(addr(backend), elsewhere);
    }
    memory.lease = 0;
    for vip in ["10.96.0.1", "fd96::1"] {
        match decide(&memory, &to(vip)) {
            (Verdict::Deny, outcome) => assert_eq!(outcome.denial.reason, Reason::PROXY_UNAVAILABLE),
            other => panic!("{vip}: {other:?}"),
        }
    }
    for row in memory.pod_ips.values_mut() {
        row.flags = pod_flags::ENROLLED;
    }
    assert_kernel_path(&memory, &to("10.96.0.1"));
}

#[test]
fn a_lease_that_was_renewed_while_a_dial_is_decided_stands() {
    let mut memory = shop(service_flags::PROXY);
    memory.lease = memory.now.get() + 1;
    proxied(&memory, &to("10.96.0.1"));
}

#[test]
fn a_pod_of_one_family_goes_to_the_proxy_in_that_one() {
    let mut memory = shop(service_flags::PROXY);
    memory.pods.get_mut(&NETNS).unwrap().ip6 = Addr::ANY;
    assert_eq!(proxied(&memory, &to("10.96.0.1")).addr, addr("10.77.0.1"));
}

#[test]
fn a_service_without_endpoints_is_the_proxys_matter_while_it_is_there() {
    let mut memory = shop(service_flags::PROXY | service_flags::PROXY_OPEN);
    memory.services.values_mut().flatten().for_each(|row| row.slots = 0);
    proxied(&memory, &to("10.96.0.1"));
    memory.lease = 0;
    match decide(&memory, &to("10.96.0.1")) {
        (Verdict::Deny, outcome) => assert_eq!(outcome.denial.reason, Reason::NO_ENDPOINTS),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_kernel_path_instead_of_the_proxy_does_not_lead_past_policies() {
    const POLICY: u64 = 9;
    let mut memory = shop(service_flags::PROXY | service_flags::PROXY_OPEN);
    let server =
        PodRow { netns: NETNS + 1, policy: POLICY, flags: pod_flags::prefix(16), ..PodRow::zeroed() };
    memory.pod_ips.insert(addr("10.77.0.2"), server);
    let isolated = PolicyRow { bits: policy_bits::ISOLATED, ..PolicyRow::zeroed() };
    memory.policies.insert((POLICY, token::ANY), isolated);
    proxied(&memory, &to("10.96.0.1"));
    memory.lease = 0;
    match decide(&memory, &to("10.96.0.1")) {
        (Verdict::Deny, outcome) => assert_eq!(outcome.denial.reason, Reason::NOT_ALLOWED),
        other => panic!("{other:?}"),
    }
}
