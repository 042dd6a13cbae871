//! Decisions that several hooks make, on several ways: global functions.
//!
//! The verifier follows a global function once a program, with arguments of which it knows their types alone, and takes each
//! call of it for one instruction that returns any number. Everything else it follows anew for each state in which it comes
//! there. What is known of an argument is forgotten, so a pointer may be null as far as it knows.
//!
//! # Kernel
//! Pointers to structs as arguments of global functions: 5.12 (e5069b9c23b3). Before 6.3 (6715df8d5d24) no function may be
//! handed memory that was never written, so no byte of what is handed over is without a name.

use core::mem::MaybeUninit;

use weft_abi::{Addr, BePort, Reason, ServiceKey};
use weft_ebpf_logic::{Caller, Destination, Request, Ruling, authorize, pick};

use crate::kernel::Kernel;

/// What the policies say to `request`.
#[inline(always)]
pub fn ask_policies(request: &Request) -> Ruling {
    let mut ruling = MaybeUninit::<Ruling>::zeroed();
    let to = ruling.as_mut_ptr();
    // SAFETY: it is ours. What nobody has decided is refused.
    unsafe { (*to).verdict.reason = Reason::NOT_ALLOWED };
    weft_authorize(request, to);
    // SAFETY: zeros and a reason are a ruling, too.
    unsafe { ruling.assume_init() }
}

/// Picks a backend and writes it to `to`.
#[inline(always)]
pub fn ask_balancer(key: &ServiceKey, caller: &Caller, to: &mut Destination) -> Reason {
    // One byte, as every code is.
    Reason { code: weft_pick(key, caller, to) as u8 }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weft_authorize(request: *const Request, ruling: *mut Ruling) -> u32 {
    // SAFETY: null, or what `ask_policies` has on its stack.
    let (request, ruling) = unsafe { (request.as_ref(), ruling.as_mut()) };
    let (Some(request), Some(ruling)) = (request, ruling) else { return 0 };
    *ruling = authorize(&Kernel, request);
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weft_pick(key: *const ServiceKey, caller: *const Caller, to: *mut Destination) -> u32 {
    // SAFETY: null, or what `ask_balancer` was given.
    let (key, caller, to) = unsafe { (key.as_ref(), caller.as_ref(), to.as_mut()) };
    let (Some(key), Some(caller), Some(to)) = (key, caller, to) else {
        return Reason::NO_ENDPOINTS.code.into();
    };
    // 6.1 looks nothing up by memory that a caller owns.
    let key = *key;
    pick(&Kernel, &key, caller, to).code.into()
}

const _: () = {
    let addr = size_of::<Addr>();
    assert!(size_of::<Request>() == 8 + 4 + addr + 8 + 8 + 1 + 1 + size_of::<BePort>());
    assert!(size_of::<Caller>() == 8 + 4 + size_of::<BePort>() + 1 + 1);
    assert!(size_of::<Destination>() == addr + size_of::<BePort>() + 8 + 8 + 4 + 1 + 1);
};
