//! What the connect hook found, for the server's hook to believe: a verdict is looked up once.

use weft_abi::{FlowKey, Grant};

/// The policies that `grant` shows to let in a connection of `identity` as `flow`, TCP; 0 where it is about
/// another request than that.
///
/// Between the two hooks the app may have bound its socket to another address, a foreign program may have sent
/// it elsewhere, and the pod may have become somebody else.
#[inline(always)]
pub fn allowed(grant: &Grant, identity: u64, flow: &FlowKey) -> u64 {
    let same = grant.identity == identity && grant.port.be == flow.dst_port.be && grant.source.is(&flow.src);
    if same { grant.policy } else { 0 }
}

#[cfg(test)]
mod tests;
