//! What a proxy is given of certificates and trust: what is taken is written and read as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_identity::Held;

fuzz_target!(|bytes: &[u8]| {
    let Ok(held) = Held::from_wire(bytes) else { return };
    let again = Held::from_wire(&held.to_wire()).expect("what is written is taken");
    assert_eq!(again, held);
});
