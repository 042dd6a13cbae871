//! A token in a request's header: whoever sends it, none is taken that its provider has not signed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_identity::fuzz::token(bytes));
