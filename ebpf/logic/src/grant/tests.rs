use std::net::Ipv4Addr;

use weft_abi::{Addr, BePort, FlowKey, Grant, TCP};

use super::allowed;

const POLICY: u64 = 9;
const FRONT: u64 = 1000;

fn addr(last: u8) -> Addr {
    Addr::from(Ipv4Addr::new(10, 0, 0, last))
}

/// The policies let `web/front` in from 10.0.0.2 at port 8080.
fn grant() -> Grant {
    Grant { policy: POLICY, identity: FRONT, source: addr(2), port: BePort::new(8080), ..Grant::zeroed() }
}

/// Just that.
fn flow() -> FlowKey {
    FlowKey {
        src: addr(2),
        dst: addr(1),
        src_port: BePort::new(40_000),
        dst_port: BePort::new(8080),
        protocol: TCP,
        ..FlowKey::zeroed()
    }
}

#[test]
fn a_grant_is_of_one_client_source_and_port() {
    assert_eq!(allowed(&grant(), FRONT, &flow()), POLICY);
    assert_eq!(allowed(&grant(), FRONT + 1, &flow()), 0, "the pod became somebody else");
    assert_eq!(allowed(&grant(), FRONT, &FlowKey { src: addr(3), ..flow() }), 0, "the socket was bound");
    for word in 0..4 {
        let mut src = addr(2);
        src.words[word] ^= 1;
        assert_eq!(allowed(&grant(), FRONT, &FlowKey { src, ..flow() }), 0, "word {word} of the source");
    }
    let elsewhere = FlowKey { dst_port: BePort::new(8081), ..flow() };
    assert_eq!(allowed(&grant(), FRONT, &elsewhere), 0, "another program sent it to another port");
}

#[test]
fn a_grant_holds_wherever_the_same_policies_do_and_whatever_the_clients_port() {
    assert_eq!(allowed(&grant(), FRONT, &FlowKey { dst: addr(7), ..flow() }), POLICY);
    assert_eq!(allowed(&grant(), FRONT, &FlowKey { src_port: BePort::new(1), ..flow() }), POLICY);
}

#[test]
fn nothing_is_granted_by_no_grant() {
    assert_eq!(allowed(&Grant::zeroed(), 0, &FlowKey::zeroed()), 0);
    assert_eq!(allowed(&Grant::zeroed(), FRONT, &flow()), 0);
}
