//! A message between agent and proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weft_transport::fuzz::message(bytes));
