use std::net::IpAddr;

use weft_abi::{Addr, BePort, FlowKey, Pod, TCP};

use super::{allowed, grant};
use crate::Request;

/// Hashes, as ids are.
const POLICY: u64 = 0x1f8f_c839_2bfa_01dc;
const FRONT: u64 = 0x9a2e_77d0_4411_c3b5;
const CRON: u64 = 0x03d5_b7ee_9f60_28a1;

fn addr(text: &str) -> Addr {
    Addr::from(text.parse::<IpAddr>().unwrap())
}

fn front() -> Pod {
    Pod { ip4: addr("10.0.0.2"), ip6: addr("fd77::2"), identity: FRONT, ..Pod::zeroed() }
}

/// What `web/front` asks for when it dials port 8080 of a pod, and how that leaves.
fn dialled(server: &str) -> (Request, FlowKey) {
    let dst = addr(server);
    let source = if dst.is_v4() { front().ip4 } else { front().ip6 };
    let port = BePort::new(8080);
    let (identity, policy, namespace) = (FRONT, POLICY, 5);
    let request =
        Request { policy, flags: 0, source, identity, namespace, proven: true, protocol: TCP, port };
    let src_port = BePort::new(40_000);
    (request, FlowKey { src: source, dst, src_port, dst_port: port, protocol: TCP, ..FlowKey::zeroed() })
}

#[test]
fn a_grant_is_of_one_client_source_and_port() {
    for server in ["10.0.0.1", "fd77::1"] {
        let (request, flow) = dialled(server);
        let granted = grant(&request);
        assert_eq!(allowed(granted, &front(), &flow), POLICY);
        let somebody_else = Pod { identity: CRON, ..front() };
        assert_ne!(allowed(granted, &somebody_else, &flow), POLICY, "the pod became somebody else");
        for port in (0..=u16::MAX).filter(|port| *port != 8080) {
            let elsewhere = FlowKey { dst_port: BePort::new(port), ..flow };
            assert_ne!(allowed(granted, &front(), &elsewhere), POLICY, "sent to port {port}");
        }
        for bit in 0..128 {
            let mut src = flow.src;
            src.words[bit / 32] ^= 1 << (bit % 32);
            assert_eq!(allowed(granted, &front(), &FlowKey { src, ..flow }), 0, "bound elsewhere: bit {bit}");
            let moved = Pod { ip4: src, ip6: src, ..front() };
            assert_ne!(allowed(granted, &moved, &FlowKey { src, ..flow }), POLICY, "moved: bit {bit}");
        }
    }
}

#[test]
fn an_address_that_is_chosen_to_look_like_the_pods_is_not_the_pods() {
    let (request, flow) = dialled("fd77::1");
    let mut words = flow.src.words;
    words[0] ^= 1;
    words[3] ^= 1;
    let bound = FlowKey { src: Addr { words }, ..flow };
    assert_eq!(allowed(grant(&request), &front(), &bound), 0);
}

#[test]
fn a_grant_holds_wherever_the_same_policies_do_and_whatever_the_clients_port() {
    let (request, flow) = dialled("10.0.0.1");
    assert_eq!(allowed(grant(&request), &front(), &FlowKey { dst: addr("10.0.0.7"), ..flow }), POLICY);
    let other = FlowKey { src_port: BePort::new(1), ..flow };
    assert_eq!(allowed(grant(&request), &front(), &other), POLICY);
}

#[test]
fn without_a_grant_nothing_is_allowed() {
    let (_, flow) = dialled("10.0.0.1");
    assert_eq!(allowed(0, &front(), &flow), 0);
}
