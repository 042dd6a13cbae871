//! Whom `sk_lookup` has turned away at an address of which nobody can say whose it is, for the backstop.
//!
//! Such an address is that of a link, the same on every link, and the backstop does not see in which namespace it is: of
//! itself it could not tell a pod of the mesh from any other socket of the node.
//!
//! # Kernel
//! Both run for the same SYN, one after the other and without another packet in between on that processor: in
//! `tcp_v6_rcv` the socket is looked up, and then its filters are run.

use weft_abi::{BePort, FlowKey, TCP};
use weft_ebpf_logic::Arrival;

use crate::maps;

/// It is turned away.
#[inline(always)]
pub fn remember(arrival: &Arrival) {
    if arrival.protocol == TCP
        && let Some(last) = maps::TURNED.get_ptr_mut(0)
    {
        // SAFETY: the verifier knows the pointer as this CPU's element of the array.
        unsafe {
            *last = FlowKey {
                src: arrival.remote,
                dst: arrival.local,
                src_port: arrival.remote_port,
                dst_port: arrival.local_port,
                protocol: TCP,
                _pad: [0; 3],
            };
        }
    }
}

/// Whether it was turned away, and now comes all the same. Once: what comes next has been looked at anew. Ports that are
/// not seen are any.
#[inline(always)]
pub fn was(arrival: &Arrival, sees_ports: bool) -> bool {
    let Some(last) = maps::TURNED.get_ptr_mut(0) else { return false };
    // SAFETY: as above; nobody else looks at it meanwhile.
    let last = unsafe { &mut *last };
    let same = |one: BePort, other: BePort| !sees_ports || one.be == other.be;
    let was = last.protocol == TCP
        && last.dst.is(&arrival.local)
        && last.src.is(&arrival.remote)
        && same(last.dst_port, arrival.local_port)
        && same(last.src_port, arrival.remote_port);
    if was {
        last.protocol = 0;
    }
    was
}
