//! Who may come in to a pod.
//!
//! # Kernel
//! `sk_lookup` (5.9), one link for each enrolled pod's network namespace. Runs in softirq for every
//! packet that no established (or connected UDP) socket takes; `SK_DROP` makes the kernel answer a SYN
//! with a reset.

use aya_ebpf::{macros::sk_lookup, programs::SkLookupContext};
use weft_abi::{NetnsKey, Reason, names::stat};
use weft_ebpf_logic::{Admission, Arrival, Client, Denial, admit, is_backdoor};

use crate::{context, events, kernel::Kernel, maps, origins, turned};

#[sk_lookup]
pub fn weft_sk_lookup(ctx: SkLookupContext) -> u32 {
    let Some(arrival) = context::arrival(&ctx) else { return SK_PASS };
    if is_backdoor(&Kernel, &arrival) {
        turned::remember(&arrival);
        return refuse(&arrival, &Client::NOBODY, &Denial { reason: Reason::UNKNOWN_ADDRESS, rule: 0 });
    }
    match admit(&Kernel, &arrival) {
        Admission::Pass => SK_PASS,
        Admission::Probe => {
            maps::count(stat::PROBES, 1);
            SK_PASS
        }
        Admission::Allow(client, audit) => {
            if audit.reason != Reason::NONE {
                maps::count(stat::AUDITED, 1);
                events::audited(&arrival, &client, &audit);
            }
            SK_PASS
        }
        Admission::Capture(netns, client) => {
            origins::tell(netns, &arrival, &client);
            match maps::LISTENERS.redirect_sk_lookup(ctx, NetnsKey { cookie: netns }, 0) {
                Ok(()) => {
                    maps::count(stat::CAPTURED, 1);
                    SK_PASS
                }
                // What may be mutual TLS is not for the app.
                Err(_) => {
                    refuse(&arrival, &Client::NOBODY, &Denial { reason: Reason::PROXY_UNAVAILABLE, rule: 0 })
                }
            }
        }
        Admission::Deny(client, denial) => refuse(&arrival, &client, &denial),
    }
}

#[inline(always)]
fn refuse(arrival: &Arrival, client: &Client, denial: &Denial) -> u32 {
    maps::count(stat::DENIED_LOOKUP, 1);
    events::refused_arrival(arrival, client, denial);
    SK_DROP
}

const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;
