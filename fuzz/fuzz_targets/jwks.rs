//! The keys of a provider, as they are fetched.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_identity::fuzz::keys(bytes));
