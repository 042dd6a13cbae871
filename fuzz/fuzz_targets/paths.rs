//! Paths: any bytes have one normal form or none, and no reading of it is allowed that could be denied.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::PathRule;
use weft_policy::path::{Readings, merge_slashes, normalise};

fuzz_target!(|bytes: &[u8]| {
    let Ok(path) = str::from_utf8(bytes) else { return };
    let Ok(normal) = normalise(path) else {
        assert!(Readings::of(path).is_err(), "what has no form has no reading");
        return;
    };
    assert_eq!(normalise(&normal).as_deref(), Ok(&*normal), "a normal path is its own form");
    assert!(normal.split('/').all(|element| element != "." && element != ".."), "{normal}");
    let readings = Readings::of(path).expect("it has a form");
    assert_eq!(Readings::of(&normal).as_ref(), Ok(&readings), "what is forwarded reads as what was sent");
    let first = merge_slashes(&normal).into_owned();
    assert!(readings.may_match(&PathRule::Exact(first.into())), "what routes compare is a reading");
    for rule in ["/", "/admin", "/a/b"] {
        for rule in [PathRule::Prefix(rule.into()), PathRule::Exact(rule.into())] {
            assert!(readings.may_match(&rule) || !readings.must_match(&rule), "{rule:?}");
        }
    }
    assert!(readings.must_match(&PathRule::Prefix("/".into())), "everything is below the root");
});
