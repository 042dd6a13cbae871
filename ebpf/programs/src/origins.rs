//! What the node's proxy is told of connections that others make to a pod.

use weft_abi::{Addr, BePort, Origin, OriginKey, names::stat};
use weft_ebpf_logic::{Arrival, Client};

use crate::maps;

/// Says who the client of a connection is that goes to the pod's inbound listener, where the kernel attests it.
///
/// Before the connection is there: whoever accepts it finds this. Where nobody is attested, nothing may be left that an
/// earlier one of these addresses was told by.
///
/// A BPF function of its own: what it needs on the stack is free again when it returns.
#[inline(never)]
pub fn tell(netns: u64, arrival: &Arrival, client: &Client) {
    let key = OriginKey {
        netns,
        addr: arrival.remote,
        port: arrival.remote_port,
        to: arrival.local_port,
        _pad: [0; 4],
    };
    if !client.proven {
        let _ = maps::ORIGINS.remove(key);
        return;
    }
    let origin = Origin {
        dialled: arrival.local,
        service: client.identity,
        pair: u64::from(client.by_proxy),
        chosen: Addr::ANY,
        port: arrival.local_port,
        chosen_port: BePort { be: 0 },
        _pad: [0; 4],
    };
    if maps::ORIGINS.insert(key, origin, 0).is_err() {
        // Its client counts as unproven then.
        maps::count(stat::ORIGINS_LOST, 1);
    }
}
