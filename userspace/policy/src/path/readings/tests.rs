use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::path::elements;

fn prefix(text: &str) -> PathRule {
    PathRule::Prefix(text.into())
}

fn exact(text: &str) -> PathRule {
    PathRule::Exact(text.into())
}

/// Whether `path` must and may match.
fn matches(path: &str, rule: &PathRule) -> (bool, bool) {
    let readings = Readings::of(path).unwrap();
    (readings.must_match(rule), readings.may_match(rule))
}

#[test]
fn a_plain_path_has_one_reading() {
    for path in ["/", "/a/b", "/a//b", "/%61/../b", "/a%C3%A9/%20", "*"] {
        assert_eq!(Readings::of(path).unwrap().all.len(), 1, "{path}");
    }
}

#[test]
fn a_prefix_is_by_element_and_exact_is_the_whole() {
    for path in ["/admin", "/admin/", "/admin/x", "//admin", "/%61dmin", "/x/../admin/y", "/admin//x"] {
        assert_eq!(matches(path, &prefix("/admin")), (true, true), "{path}");
        assert_eq!(matches(path, &prefix("/admin/")), (true, true), "{path}");
    }
    for path in ["/", "/adminx", "/x/admin", "/admi", "/admin/../x", "*"] {
        assert_eq!(matches(path, &prefix("/admin")), (false, false), "{path}");
    }
    assert_eq!(matches("/admin", &exact("/admin")), (true, true));
    assert_eq!(matches("/admin/x", &exact("/admin")), (false, false));
    assert_eq!(matches("/admin/", &exact("/admin")), (false, true), "some servers take them for one");
    assert_eq!(matches("*", &prefix("/")), (true, true));
}

#[test]
fn what_some_server_takes_for_the_path_is_denied_and_not_allowed() {
    for path in [
        "/admin%2fx",
        "/%2fadmin",
        "/x%2f..%2fadmin",
        "/x/..%2fadmin",
        "/x%5c..%5cadmin",
        "/admin;v=1",
        "/admin;/x",
        "/x/..;/admin",
        "/admin%3bv=1",
        "/%2561dmin",
        "/x/%252e%252e/admin",
        "/x%252f..%252fadmin",
        "/ADMIN",
        "/Admin/x",
        "/;/admin",
        "/;%2Fx/admin%2F",
        "/%2fadmin/..%5c/",
        "/x%2f%2f..%2f..%2fadmin",
    ] {
        assert_eq!(matches(path, &prefix("/admin")), (false, true), "{path}");
    }
}

#[test]
fn a_name_with_a_slash_in_it_is_allowed_where_all_that_it_may_be_is() {
    assert!(matches("/npm/@scope%2fname", &prefix("/npm")).0);
    assert!(matches("/npm/@scope%2fname;v=1", &prefix("/")).0);
    assert!(!matches("/npm/..%2fadmin", &prefix("/npm")).0);
    assert!(!matches("/npm/..;/admin", &prefix("/npm")).0);
}

#[test]
fn a_path_without_an_agreed_meaning_has_no_reading() {
    for path in ["/a\\..\\admin", "/a%00", "/a%", "admin"] {
        assert!(Readings::of(path).is_err(), "{path}");
    }
}

/// Servers, as they find the elements of a path that was forwarded in its normal form.
#[derive(Clone, Copy, Debug)]
enum Server {
    /// RFC 3986: elements first, then escapes.
    Literal,
    /// nginx: decodes the whole, merges slashes, resolves dots.
    Decoding,
    /// Java: cuts parameters off, decodes, resolves dots.
    Cutting,
    /// One behind another, both decoding; backslashes are slashes.
    Twice,
}

impl Server {
    const ALL: [Self; 4] = [Self::Literal, Self::Decoding, Self::Cutting, Self::Twice];

    fn elements(self, forwarded: &str) -> Vec<String> {
        let text = match self {
            Self::Literal => return elements(forwarded).map(decoded).collect(),
            Self::Decoding => decoded(forwarded),
            Self::Cutting => {
                let cut = forwarded.split('/').map(|element| element.split(';').next().unwrap());
                decoded(&cut.collect::<Vec<_>>().join("/"))
            }
            Self::Twice => decoded(&decoded(forwarded)).replace('\\', "/"),
        };
        let mut kept = Vec::new();
        for element in text.split('/') {
            match element {
                "" | "." => {}
                ".." => drop(kept.pop()),
                element => kept.push(element.to_owned()),
            }
        }
        kept
    }
}

/// Every escape decoded, once.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap() << 4 | hex(*low).unwrap());
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Paths made of what tricks are made of.
fn tricky() -> impl Strategy<Value = String> {
    let piece = select(
        &[
            "/",
            "//",
            "/./",
            "/../",
            "/x/../",
            "%2f",
            "%2F",
            "%5c",
            "%252f",
            "%252F",
            "..",
            ".",
            "%2e",
            "%2E%2e",
            "%252e",
            ";",
            ";v=1",
            "%3b",
            "admin",
            "%61dmin",
            "ad%6Din",
            "%2561dmin",
            "x",
            "public",
            "/admin",
            "/x",
        ][..],
    );
    vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_server_finds_what_is_denied_behind_a_path_that_is_not(path in tricky()) {
        let Ok(readings) = Readings::of(&path) else { return Ok(()) };
        let forwarded = normalise(&path).unwrap();
        let denied = readings.may_match(&prefix("/admin"));
        for server in Server::ALL {
            let found = server.elements(&forwarded);
            prop_assert!(denied || found.first().is_none_or(|first| first != "admin"), "{server:?} {forwarded}");
        }
    }

    #[test]
    fn no_server_finds_anything_else_behind_a_path_that_is_allowed(path in tricky()) {
        let Ok(readings) = Readings::of(&path) else { return Ok(()) };
        let forwarded = normalise(&path).unwrap();
        if readings.must_match(&prefix("/public")) {
            for server in Server::ALL {
                let found = server.elements(&forwarded);
                prop_assert_eq!(found.first().map(String::as_str), Some("public"), "{:?} {}", server, forwarded);
            }
        }
    }

    #[test]
    fn what_must_match_may_match(path in tricky(), rule in select(&["/", "/admin", "/x", "/public"][..])) {
        let Ok(readings) = Readings::of(&path) else { return Ok(()) };
        for rule in [prefix(rule), exact(rule)] {
            prop_assert!(readings.may_match(&rule) || !readings.must_match(&rule));
        }
    }

    #[test]
    fn the_forwarded_form_reads_as_what_was_sent(path in tricky()) {
        if let Ok(readings) = Readings::of(&path) {
            let again = Readings::of(&normalise(&path).unwrap()).unwrap();
            prop_assert_eq!(again, readings);
        }
    }

    #[test]
    fn the_first_reading_is_what_routes_compare(path in "/[/.a;%25]{0,12}") {
        if let Ok(readings) = Readings::of(&path) {
            let compared = merge_slashes(&normalise(&path).unwrap()).into_owned();
            prop_assert_eq!(readings.all[0].as_slice(), compared.as_bytes());
        }
    }
}
