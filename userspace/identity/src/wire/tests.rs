use proptest::prelude::*;

use super::*;
use crate::testing::{Authority, api, web};

#[test]
fn an_svid_arrives_as_it_was_sent() {
    let svid = Authority::new().issue(web());
    let arrived = Svid::from_wire(&svid.to_wire()).unwrap();
    assert_eq!(arrived, *svid);
    assert_eq!(arrived.chain().len(), 2);
}

#[test]
fn trust_arrives_as_it_was_sent() {
    let trust = Authority::new().trust_with(&["old.example", "partner.example"]);
    assert_eq!(Trust::from_wire(&trust.to_wire()).unwrap(), *trust);
}

#[test]
fn a_record_of_a_later_version_is_passed_over() {
    let svid = Authority::new().issue(web());
    let certificates = svid.chain().iter().map(|der| (CERTIFICATE, der.as_ref()));
    let records = [(200, &[7, 7][..]), (KEY, svid.key().pkcs8())].into_iter().chain(certificates);
    assert_eq!(Svid::from_wire(&write(records)).unwrap(), *svid);
}

#[test]
fn all_that_a_proxy_holds_arrives_as_it_was_sent() {
    let authority = Authority::new();
    let svids = [web(), api()].map(|account| (account.clone(), authority.issue(account)));
    let missing = [ServiceAccount::new("shop", "late")].into();
    let held = Held { trust: Some(authority.trust()), svids: svids.into(), missing };
    assert_eq!(Held::from_wire(&held.to_wire()).unwrap(), held);
    let nothing = Held::default();
    assert_eq!(Held::from_wire(&nothing.to_wire()).unwrap(), nothing);
}

#[test]
fn of_what_a_proxy_holds_a_part_that_is_none_refuses_all() {
    let authority = Authority::new();
    let (svid, trust) = (authority.issue(web()).to_wire(), authority.trust().to_wire());
    let read = |records: &[(u8, &[u8])]| Held::from_wire(&write(records.iter().copied()));
    assert!(matches!(read(&[(TRUST, &trust), (TRUST, &trust)]), Err(WireError::NotOne { what: "trust" })));
    assert!(matches!(read(&[(SVID, &svid[..svid.len() - 1])]), Err(WireError::Truncated)));
    assert!(matches!(read(&[(SVID, &trust)]), Err(WireError::NotOne { what: "private key" })));
    assert!(matches!(read(&[(MISSING, b"web")]), Err(WireError::Account)));
    assert!(read(&[(200, b"later"), (SVID, &svid)]).is_ok(), "what a later version adds is passed over");
}

#[test]
fn what_is_cut_anywhere_is_refused() {
    let svid = Authority::new().issue(web()).to_wire();
    for length in 0..svid.len() {
        assert!(Svid::from_wire(&svid[..length]).is_err(), "{length} bytes of {}", svid.len());
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(web()), authority.issue(api()));
    let mixed = Svid::new(one.chain().to_vec(), other.key().clone());
    assert!(matches!(mixed, Err(SvidError::KeyMismatch { id }) if id == *one.id()));
}

#[test]
fn two_keys_or_none_are_refused() {
    let svid = Authority::new().issue(web()).to_wire();
    assert!(Svid::from_wire(&[&svid[..], &svid[..]].concat()).is_err());
    let twice = write([(KEY, &[1][..]), (KEY, &[2])].into_iter());
    assert!(matches!(Svid::from_wire(&twice), Err(WireError::NotOne { what: "private key" })));
    let trust = Authority::new().trust().to_wire();
    assert!(matches!(Svid::from_wire(&trust), Err(WireError::NotOne { what: "private key" })));
}

#[test]
fn more_bytes_than_any_svid_has_are_not_looked_at() {
    assert!(matches!(Svid::from_wire(&vec![9; LONGEST + 1]), Err(WireError::TooLong { .. })));
}

#[test]
fn no_part_of_a_private_key_is_ever_printed() {
    let svid = Authority::new().issue(web());
    let printed = format!("{svid:?} {:?}", svid.key());
    let key = svid.key().pkcs8();
    // The secret scalar stands behind 36 bytes of PKCS#8; printed as numbers or as hexadecimal it would show.
    let scalar = &key[36..68];
    let decimal = format!("{:?}", &scalar[..8]);
    assert!(!printed.contains(decimal.trim_matches(['[', ']'])), "{printed}");
    let hex = format!("{:x}", u64::from_be_bytes(scalar[..8].try_into().unwrap()));
    assert!(!printed.to_lowercase().contains(&hex), "{printed}");
    assert!(printed.contains("PrivateKey(..)"), "{printed}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Svid::from_wire(&bytes);
        let _ = Trust::from_wire(&bytes);
        let _ = Held::from_wire(&bytes);
    }

    #[test]
    fn no_record_makes_it_panic(tag in 1_u8..9, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let record = write([(tag, &bytes[..]), (KEY, &bytes[..])].into_iter());
        let _ = Svid::from_wire(&record);
        let _ = Trust::from_wire(&record);
        let _ = Held::from_wire(&record);
    }
}
