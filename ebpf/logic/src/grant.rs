//! What the connect hook found, for the server's hook to believe: a verdict is looked up once.
//!
//! A grant is the id of policies, under a number that stands for who asked, from where, for which port. It waits
//! with the socket. Whoever asks otherwise by then takes another number off and is left with no policies' id.

use weft_abi::{Addr, BePort, FlowKey, Pod};

use crate::Request;

/// That its policies let `request` in.
///
/// It stays true whatever becomes of the socket or the pods: the id of policies is a hash of what they say.
#[inline(always)]
pub fn grant(request: &Request) -> u64 {
    request.policy ^ asker(request.identity, &request.source, request.port)
}

/// The policies that `grant` shows to let `pod` in by `flow`, TCP, as it leaves; 0 for none.
///
/// Between the two hooks the app may have bound its socket to another address, a foreign program may have sent
/// it elsewhere, and the pod may have become somebody else. The address is the app's to choose, so that is
/// compared as a whole: a number could be met.
#[inline(always)]
pub fn allowed(grant: u64, pod: &Pod, flow: &FlowKey) -> u64 {
    let own = if flow.dst.is_v4() { &pod.ip4 } else { &pod.ip6 };
    if grant == 0 || !flow.src.is(own) {
        return 0;
    }
    grant ^ asker(pod.identity, &flow.src, flow.dst_port)
}

/// The identity's token is a hash that says the namespace, too.
#[inline(always)]
fn asker(identity: u64, source: &Addr, port: BePort) -> u64 {
    let words = source.v6_words();
    let high = u64::from(words[0]) << 32 | u64::from(words[1]);
    let low = u64::from(words[3]) << 32 | u64::from(words[2]);
    identity ^ high ^ low ^ u64::from(port.be) << 16
}

#[cfg(test)]
mod tests;
