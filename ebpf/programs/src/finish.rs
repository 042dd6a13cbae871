//! What a hook returns: the one place that turns a denial into a return code, errno, counter and event.

use aya_ebpf::helpers::generated::bpf_set_retval;
use weft_abi::names::stat;
use weft_ebpf_logic::Outcome;

use crate::{context::SockAddr, events, maps};

/// Lets the call go on.
pub const PROCEED: i32 = 1;
const REJECT: i32 = 0;

/// Refuses a connect or sendmsg call, with the errno of its reason.
///
/// Fails closed. Another program on the same hook may clear this errno; the destination's hook
/// decides again.
///
/// # Kernel
/// `bpf_set_retval` is 5.18; before that the loader switches it off and the app sees EPERM.
#[inline(always)]
pub fn refuse(call: &SockAddr, protocol: u8, outcome: &Outcome) -> i32 {
    maps::count(stat::DENIED_CONNECT, 1);
    events::refused_dial(call, protocol, outcome);
    if events::has_retval() {
        // SAFETY: an errno is in range for the helper.
        unsafe { bpf_set_retval(-outcome.denial.reason.errno()) };
    }
    REJECT
}
