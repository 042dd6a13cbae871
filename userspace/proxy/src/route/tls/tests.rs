//! ClientHellos of OpenSSL 3.0 (beside this file), whole, in pieces and broken; and which TLSRoute has a name.

use std::sync::Arc;

use proptest::prelude::*;
use weft_model::{BackendTarget, TlsRoute};

use super::{Asked, LIMIT, ServerName, TlsTable, asks_for, server_name};
use crate::route::fixture::{backend, object};

/// For `Reviews.shop.example`, with ALPN.
const NAMED: &[u8] = include_bytes!("openssl-hello.bin");
const UNNAMED: &[u8] = include_bytes!("openssl-hello-unnamed.bin");

fn reviews() -> ServerName {
    ServerName::Name("reviews.shop.example".to_owned())
}

/// The hello of `bytes`, in records of `size` bytes.
fn fragmented(bytes: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], part].concat()
    };
    bytes[5..].chunks(size).flat_map(record).collect()
}

/// NAMED with its extension `server_name` replaced by `body`.
fn with_name(body: &[u8]) -> Vec<u8> {
    let name = b"Reviews.shop.example";
    let place = NAMED.windows(name.len()).position(|window| window == name).unwrap() - 9;
    assert_eq!(NAMED[place..place + 2], [0, 0]);
    let after = &NAMED[place + 9 + name.len()..];
    let length = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let mut hello = [&NAMED[..place], &[0, 0], &length(body.len()), body, after].concat();
    let shift = |hello: &mut [u8], place: usize| {
        let old = usize::from(u16::from_be_bytes([hello[place], hello[place + 1]]));
        let new = length(old + body.len() - 5 - name.len());
        hello[place..place + 2].copy_from_slice(&new);
    };
    // Lengths of the record, of the message, and of the list of extensions, which `place` is the first of.
    for place in [3, 7, extensions(NAMED)] {
        shift(&mut hello, place);
    }
    hello
}

/// NAMED with `more` at `place`; the lengths that stand at `lengths` grow by it.
fn grown(place: usize, more: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut hello = NAMED.to_vec();
    for &place in lengths {
        let old = u16::from_be_bytes([hello[place], hello[place + 1]]);
        let new = old + u16::try_from(more.len()).unwrap();
        hello[place..place + 2].copy_from_slice(&new.to_be_bytes());
    }
    hello.splice(place..place, more.iter().copied());
    hello
}

/// Where the length of the extensions stands.
fn extensions(hello: &[u8]) -> usize {
    let session = 5 + 4 + 34;
    let suites = session + 1 + usize::from(hello[session]);
    let compressions = suites + 2 + usize::from(u16::from_be_bytes([hello[suites], hello[suites + 1]]));
    compressions + 1 + usize::from(hello[compressions])
}

fn name_list(kind: u8, name: &[u8]) -> Vec<u8> {
    let length = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    [&length(name.len() + 3)[..], &[kind], &length(name.len()), name].concat()
}

#[test]
fn the_protocols_of_a_client_hello_are_read_however_it_is_cut() {
    let offered = b"http/1.1";
    assert_eq!(asks_for(NAMED, offered), Asked::Yes);
    for other in [&b"weft/1"[..], b"http/1", b"http/1.1.", b""] {
        assert_eq!(asks_for(NAMED, other), Asked::No, "{other:?}");
    }
    for size in [1, 7, 100] {
        assert_eq!(asks_for(&fragmented(NAMED, size), offered), Asked::Yes, "records of {size}");
    }
    for end in 0..NAMED.len() {
        assert_eq!(asks_for(&NAMED[..end], offered), Asked::NeedMore, "{end} bytes");
    }
    for no_tls in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02", b"\x00", &[0; LIMIT]] {
        assert_eq!(asks_for(no_tls, offered), Asked::No);
    }
}

#[test]
fn the_name_of_a_client_hello_is_read_in_lower_case() {
    assert_eq!(server_name(NAMED), reviews());
    assert_eq!(server_name(UNNAMED), ServerName::Unnamed);
    assert_eq!(server_name(&[NAMED, b"early data"].concat()), reviews());
    assert_eq!(server_name(&with_name(&name_list(0, b"A.example."))), ServerName::Name("a.example".into()));
}

#[test]
fn every_part_of_a_client_hello_needs_more() {
    for length in 0..NAMED.len() {
        assert_eq!(server_name(&NAMED[..length]), ServerName::NeedMore, "{length}");
    }
}

#[test]
fn a_client_hello_may_come_in_many_records() {
    for size in [1, 3, 100, 516] {
        let hello = fragmented(NAMED, size);
        assert_eq!(server_name(&hello), reviews(), "{size}");
        for length in 0..hello.len() - 1 {
            assert_eq!(server_name(&hello[..length]), ServerName::NeedMore, "{size} {length}");
        }
    }
}

#[test]
fn what_is_no_client_hello_is_told_at_once() {
    for first in
        [&b"GET / HTTP/1.1\r\n"[..], &[21, 3, 1], &[22, 2], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 4, 2], b"\0"]
    {
        assert_eq!(server_name(first), ServerName::NotTls, "{first:?}");
    }
}

#[test]
fn a_client_hello_that_breaks_the_rules_is_broken() {
    let mut alert_between = fragmented(NAMED, 100);
    alert_between[105] = 21;
    let too_large = [22, 3, 1, 64, 0, 1, 0, 64, 1];
    let mut endless = fragmented(&vec![1; LIMIT], 1);
    endless.truncate(LIMIT);
    endless[5] = 1;
    endless[11] = 0;
    endless[17] = 63;
    endless[23] = 255;
    let extensions = extensions(NAMED);
    let list = name_list(0, b"b.example");
    let extension = [&[0, 0, 0, 14][..], &list].concat();
    assert_eq!(list.len(), 14);
    let named_twice = [name_list(0, b"a.example"), name_list(0, b"b.example")].concat();
    for hello in [
        alert_between,
        too_large.to_vec(),
        endless,
        grown(extensions + 2, &extension, &[3, 7, extensions]),
        grown(NAMED.len(), &[0], &[3, 7]),
        grown(NAMED.len(), &[0], &[3, 7, extensions]),
        with_name(&[]),
        with_name(&[0, 0]),
        with_name(&name_list(1, b"a.example")),
        with_name(&name_list(0, b"")),
        with_name(&name_list(0, b".")),
        with_name(&name_list(0, b"a..example")),
        with_name(&name_list(0, b"a\0.example")),
        with_name(&name_list(0, b"fd00::1")),
        with_name(&name_list(0, &[b'a'; 64])),
        with_name(&named_twice),
    ] {
        assert_eq!(server_name(&hello), ServerName::Broken, "{hello:?}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics_and_never_needs_more_than_the_bound(
        start in prop::sample::select(vec![&b""[..], &[22, 3, 1], &NAMED[..9], &NAMED[..200]]),
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = [start, &tail].concat();
        let early = server_name(&bytes);
        bytes.resize(LIMIT, 0);
        let late = server_name(&bytes);
        prop_assert_ne!(&late, &ServerName::NeedMore);
        prop_assert!(early == ServerName::NeedMore || early == late, "a decision stands: {:?} then {:?}", early, late);
    }

    #[test]
    fn a_changed_byte_never_panics(place in 0..NAMED.len(), byte: u8, size in 1..600usize) {
        let mut hello = NAMED.to_vec();
        hello[place] = byte;
        let _ = server_name(&hello);
        let _ = server_name(&fragmented(&hello, size));
    }
}

fn table(routes: &[(&str, &[&str])]) -> TlsTable {
    let route = |(name, hostnames): &(&str, &[&str])| {
        let hostnames = hostnames.iter().map(|hostname| Arc::from(*hostname)).collect();
        Arc::new(TlsRoute { name: object(name), hostnames, backends: vec![backend(name, 1)] })
    };
    TlsTable::compile(&routes.iter().map(route).collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_very_name_beats_the_longest_wildcard_and_that_a_route_for_all() {
    let table = table(&[
        ("all", &[]),
        ("wide", &["*.example.com"]),
        ("narrow", &["*.shop.example.com"]),
        ("exact", &["a.shop.example.com", "b.example.com"]),
        ("younger", &["*.example.com", "b.example.com"]),
    ]);
    for (name, to) in [
        (Some("a.shop.example.com"), "exact"),
        (Some("b.shop.example.com"), "narrow"),
        (Some("x.y.shop.example.com"), "narrow"),
        (Some("shop.example.com"), "wide"),
        (Some("b.example.com"), "exact"),
        (Some("example.com"), "all"),
        (Some("other.test"), "all"),
        (None, "all"),
    ] {
        let found = table.find(name).unwrap();
        assert_eq!(&*found.route.name.name, to, "{name:?}");
        assert!(
            matches!(&found.backends.draw(0).unwrap().target, BackendTarget::Service { name, .. } if *name == object(to))
        );
    }
}

#[test]
fn without_a_route_for_all_an_unknown_name_and_no_name_have_none() {
    let table = table(&[("wide", &["*.example.com"])]);
    assert!(table.find(Some("example.com")).is_none());
    assert!(table.find(Some(".example.com")).is_none());
    assert!(table.find(Some("badexample.com")).is_none());
    assert!(table.find(None).is_none());
}
