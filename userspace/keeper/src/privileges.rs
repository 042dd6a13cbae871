//! Which privileges a proxy keeps: two, of all that root has.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::Error;

/// To enter pods' network namespaces, and to send from their addresses.
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::NET_RAW);

/// Gives up every capability but [`KEPT`], in all five sets, and any program's privileges that it could start.
///
/// The calling thread's only: the caller is the only thread.
pub(crate) fn give_up() -> Result<(), Error> {
    set_no_new_privs(true).map_err(failed("forbid new privileges"))?;
    clear_ambient_capability_set().map_err(failed("clear the ambient capabilities"))?;
    // The bounding set first: it takes CAP_SETPCAP, which goes with the others.
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) if !KEPT.contains(capability) => {
                let removed = remove_capability_from_bounding_set(capability);
                removed.map_err(failed("remove capabilities from the bounding set"))?;
            }
            Ok(_) => {}
            // The kernel's last capability has been passed.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(failed("read the bounding set of capabilities")(errno)),
        }
    }
    let kept = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, kept).map_err(failed("give up capabilities"))
}

fn failed(attempt: &'static str) -> impl FnOnce(Errno) -> Error {
    move |source| Error::Privileges { attempt, source }
}
