//! What a hook returns: the one place that turns a denial into a return code, errno, counter and event.

use aya_ebpf::helpers::generated::bpf_set_retval;
use weft_abi::names::stat;
use weft_ebpf_logic::{Denial, Destination};

use crate::{context::SockAddr, events, maps};

/// Lets the call go on.
pub const PROCEED: i32 = 1;
const REJECT: i32 = 0;

/// Refuses a connect or sendmsg call, which had been sent to `to`.
///
/// Fails closed. Another program on the same hook may clear this errno; the destination's hook
/// decides again.
///
/// # Kernel
/// `bpf_set_retval` is 5.18; before that the loader switches it off and the app sees EPERM.
#[inline(always)]
pub fn refuse(call: &SockAddr, protocol: u8, denial: &Denial, to: &Destination) -> i32 {
    maps::count(stat::DENIED_CONNECT, 1);
    events::refused_dial(call, protocol, denial, to);
    if events::has_retval() {
        // SAFETY: an errno is in range for the helper.
        unsafe { bpf_set_retval(-denial.reason.errno()) };
    }
    REJECT
}
