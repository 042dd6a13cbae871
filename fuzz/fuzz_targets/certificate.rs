//! A workload's certificate: `weft_identity`'s reading of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_identity::fuzz::certificate(bytes));
