//! What `weft ca` writes, judged by openssl; and what is said about a directory that is not as it should be.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;

use super::{CaError, DirectoryIssuer, finish_root, init, rotate_issuer, rotate_root};
use crate::{
    Clock, IssueError, Issuer as _, Order, Signer, Svid,
    testing::{Authority, DAY, openssl, openssl_says, web, write_svid},
};

/// Whether openssl accepts a certificate under the directory's roots, for this purpose.
fn openssl_accepts(svid: &Svid, roots: &Path, purpose: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    write_svid(svid, "leaf", folder.path());
    let roots = roots.join("roots.pem").display().to_string();
    let mut args =
        vec!["verify", "-x509_strict", "-purpose", purpose, "-no-CApath", "-CAfile", &roots, "leaf.crt"];
    args.splice(1..1, ["-untrusted", "leaf.chain"]);
    openssl(&args, folder.path()).status.success()
}

fn sign(issuer: &DirectoryIssuer, ttl: Duration) -> Result<Svid, IssueError> {
    issuer.issue(Order { account: web(), ttl }).now_or_never().expect("it answers at once")
}

fn refusal(authority: &Authority) -> String {
    sign(&authority.issuer(), DAY).unwrap_err().to_string()
}

#[test]
fn openssl_accepts_what_is_issued_for_both_ends_and_reads_what_it_should_be() {
    let authority = Authority::new();
    let svid = authority.issue(web());
    for purpose in ["sslserver", "sslclient"] {
        assert!(openssl_accepts(&svid, authority.path(), purpose), "{purpose}");
    }
    assert!(!openssl_accepts(&svid, Authority::new().path(), "sslserver"), "another authority's roots");

    let folder = tempfile::tempdir().unwrap();
    write_svid(&svid, "leaf", folder.path());
    let text = openssl_says(&["x509", "-in", "leaf.crt", "-noout", "-text"], folder.path());
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let after = |title: &str| lines[lines.iter().position(|line| *line == title).unwrap() + 1];
    assert_eq!(
        after("X509v3 Subject Alternative Name: critical"),
        "URI:spiffe://mesh.example/ns/shop/sa/web"
    );
    assert_eq!(after("X509v3 Key Usage: critical"), "Digital Signature");
    assert_eq!(
        after("X509v3 Extended Key Usage:"),
        "TLS Web Server Authentication, TLS Web Client Authentication"
    );
    assert_eq!(after("X509v3 Basic Constraints: critical"), "CA:FALSE");
    assert!(text.contains("ASN1 OID: prime256v1") && text.contains("ecdsa-with-SHA256"), "{text}");

    let serial = openssl_says(&["x509", "-in", "leaf.crt", "-noout", "-serial"], folder.path());
    assert_eq!(serial.trim(), format!("serial={}", svid.serial()));
}

#[test]
fn openssl_agrees_in_every_phase_of_a_rotation() {
    let authority = Authority::new();
    let old_roots = tempfile::tempdir().unwrap();
    fs::copy(authority.path().join("roots.pem"), old_roots.path().join("roots.pem")).unwrap();
    let first = authority.issue(web());
    rotate_issuer(authority.path(), &authority.clock).unwrap();
    let second = authority.issue(web());
    rotate_root(authority.path(), &authority.clock).unwrap();
    let third = authority.issue(web());
    for (svid, name) in [(&first, "first"), (&second, "second"), (&third, "third")] {
        assert!(openssl_accepts(svid, authority.path(), "sslserver"), "{name} in the overlap");
        assert!(openssl_accepts(svid, old_roots.path(), "sslserver"), "{name} under the old root");
    }
    finish_root(authority.path(), Duration::ZERO, &authority.clock).unwrap();
    let fourth = authority.issue(web());
    assert!(openssl_accepts(&third, authority.path(), "sslserver"));
    assert!(openssl_accepts(&fourth, authority.path(), "sslserver"));
    assert!(!openssl_accepts(&second, authority.path(), "sslserver"), "the old root is trusted no more");
    assert_eq!(fourth.chain().len(), 2, "nobody needs the old root's signature any more");
}

#[test]
fn files_are_their_owners_alone_and_no_other_is_left() {
    let authority = Authority::new();
    rotate_issuer(authority.path(), &authority.clock).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut names = Vec::new();
    for entry in fs::read_dir(authority.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, [".lock", "issuer.pem", "root.pem", "roots.pem"]);
    let dir = authority.path().join("made/here");
    init(&dir, "mesh.example", &authority.clock).unwrap();
    assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
}

#[test]
fn a_short_ttl_is_given_and_none_outlives_its_issuer() {
    let authority = Authority::new();
    let now = SystemTime::now();
    let short = sign(&authority.issuer(), Duration::from_secs(30)).unwrap();
    let life = short.not_after().duration_since(now).unwrap();
    assert!(life <= Duration::from_secs(31) && short.not_before() < now, "{life:?}");
    let long = sign(&authority.issuer(), Duration::MAX).unwrap();
    let issuer = authority.issuer().authority().now_or_never().unwrap().unwrap().issuer;
    assert_eq!(long.not_after(), issuer.not_after);
}

#[test]
fn every_certificate_has_a_key_and_a_serial_number_of_its_own() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(web()), authority.issue(web()));
    assert_ne!(one.serial(), other.serial());
    assert_ne!(one.key(), other.key());
}

#[test]
fn a_second_authority_in_the_same_directory_is_refused() {
    let authority = Authority::new();
    let before = fs::read(authority.path().join("root.pem")).unwrap();
    let error = init(authority.path(), "mesh.example", &authority.clock).unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("rotate"), "{error}");
    assert_eq!(fs::read(authority.path().join("root.pem")).unwrap(), before);
}

#[test]
fn what_is_no_trust_domain_makes_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "Mesh", "mesh/ns", "spiffe://mesh", &"d".repeat(256)] {
        let error = init(&dir.path().join("ca"), name, &Clock::system()).unwrap_err();
        assert!(matches!(error, CaError::TrustDomain { .. }), "{name}: {error}");
    }
    assert!(!dir.path().join("ca").exists());
}

#[test]
fn a_root_is_not_dropped_while_its_certificates_live() {
    let authority = Authority::new();
    let path = authority.path();
    let none = finish_root(path, DAY, &authority.clock).unwrap_err();
    assert!(matches!(none, CaError::NoOverlap { .. }) && none.is_refusal(), "{none}");
    rotate_root(path, &authority.clock).unwrap();
    let twice = rotate_root(path, &authority.clock).unwrap_err();
    assert!(matches!(twice, CaError::OverlapRuns { .. }) && twice.is_refusal(), "{twice}");
    let early = finish_root(path, DAY, &authority.clock).unwrap_err();
    let at_most = authority.clock.now() + DAY;
    assert!(
        matches!(early, CaError::TooEarly { until } if until <= at_most && until + DAY / 2 > at_most),
        "{early}"
    );
    assert!(early.is_refusal(), "{early}");
    assert!(finish_root(path, Duration::MAX, &authority.clock).unwrap_err().is_refusal());
    // The issuer can be rotated meanwhile: what it signs is accepted under either root.
    let svid = authority.issue(web());
    rotate_issuer(path, &authority.clock).unwrap();
    assert_ne!(authority.issue(web()).chain()[1], svid.chain()[1]);
    assert_eq!(authority.issue(web()).chain().len(), 3);
}

#[test]
fn only_one_command_at_a_time_works_on_a_directory() {
    let authority = Authority::new();
    let held = super::files::lock(authority.path()).unwrap();
    let error = rotate_issuer(authority.path(), &authority.clock).unwrap_err();
    assert!(matches!(error, CaError::Busy { .. }), "{error}");
    drop(held);
    rotate_issuer(authority.path(), &authority.clock).unwrap();
}

#[test]
fn a_root_that_is_kept_offline_is_missed_by_name_and_only_by_rotations() {
    let authority = Authority::new();
    fs::remove_file(authority.path().join("root.pem")).unwrap();
    authority.issue(web());
    let error = rotate_issuer(authority.path(), &authority.clock).unwrap_err();
    assert!(matches!(error, CaError::RootAway { .. }) && error.to_string().contains("offline"), "{error}");
}

#[test]
fn a_directory_without_an_authority_says_how_to_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = sign(&DirectoryIssuer::new(dir.path(), Clock::system()), DAY).unwrap_err().to_string();
    assert!(error.contains("issuer.pem is not there; make an authority: weft ca init --dir"), "{error}");
    assert!(matches!(rotate_issuer(dir.path(), &Clock::system()), Err(CaError::Missing { .. })));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let authority = Authority::new();
    fs::set_permissions(authority.path().join("issuer.pem"), Permissions::from_mode(0o640)).unwrap();
    let error = refusal(&authority);
    assert!(error.contains("others may read it (mode 0640); chmod 600"), "{error}");
}

#[test]
fn what_is_wrong_with_a_file_is_named_with_its_field_and_a_remedy() {
    let authority = Authority::new();
    let path = authority.path().join("issuer.pem");
    let good = fs::read_to_string(&path).unwrap();
    let (key, certificate) = good.split_at(good.find("-----BEGIN CERTIFICATE").unwrap());
    let another = Authority::new();
    let other = fs::read_to_string(another.path().join("issuer.pem")).unwrap();
    let (other_key, _) = other.split_at(other.find("-----BEGIN CERTIFICATE").unwrap());
    let folder = tempfile::tempdir().unwrap();
    write_svid(&authority.issue(web()), "leaf", folder.path());
    let leaf = fs::read_to_string(folder.path().join("leaf.crt")).unwrap();
    let leaf_key = fs::read_to_string(folder.path().join("leaf.key")).unwrap();
    let table = [
        (String::new(), "private key: there is none"),
        (certificate.to_owned(), "private key: there is none"),
        (key.to_owned(), "certificate: there is none"),
        (format!("{key}{key}{certificate}"), "private key: there are several"),
        (format!("{other_key}{certificate}"), "private key: it does not belong to the certificate"),
        (format!("{leaf_key}{leaf}"), "certificate: it is no authority's"),
        (good.replace("END PRIVATE", "EMD PRIVATE"), "PEM: "),
        (good.replacen("\nM", "\nA", 1), "private key: "),
    ];
    for (text, problem) in table {
        fs::write(&path, text).unwrap();
        let error = refusal(&authority);
        assert!(error.contains(&format!("issuer.pem: {problem}")), "{error}\n  wanted: {problem}");
        assert!(error.contains("weft ca rotate --dir") && error.ends_with("issuer makes it anew"), "{error}");
    }
    // And the remedy is one.
    rotate_issuer(authority.path(), &authority.clock).unwrap();
    authority.issue(web());
}

#[test]
fn roots_that_cannot_be_read_are_to_be_restored() {
    let authority = Authority::new();
    fs::write(authority.path().join("roots.pem"), "").unwrap();
    let error = refusal(&authority);
    assert!(error.contains("roots.pem: roots: there is no certificate; restore the file"), "{error}");
    fs::write(authority.path().join("root.pem"), "").unwrap();
    let error = rotate_issuer(authority.path(), &authority.clock).unwrap_err().to_string();
    assert!(error.contains("root.pem: private key: there is none (PKCS#8); restore the file"), "{error}");
}

#[test]
fn an_issuer_of_another_root_is_found_before_a_peer_refuses_it() {
    let (authority, other) = (Authority::new(), Authority::new());
    fs::copy(other.path().join("issuer.pem"), authority.path().join("issuer.pem")).unwrap();
    let error = refusal(&authority);
    assert!(error.contains("refused under roots.pem beside it: no trusted root vouches"), "{error}");
}

#[test]
fn an_expired_issuer_signs_nothing_and_is_told_from_one_that_ends_soon() {
    let authority = Authority::new();
    let about = |clock: &Clock| {
        let issuer = DirectoryIssuer::new(authority.path(), clock.clone());
        issuer.authority().now_or_never().unwrap().unwrap().issuer
    };
    let now = SystemTime::now();
    let in_days = |days: u32| now + days * DAY;
    let issuer: Signer = about(&Clock::system());
    assert!(!issuer.ends_soon(in_days(304)), "{issuer:?}");
    assert!(issuer.ends_soon(in_days(306)), "{issuer:?}");
    assert!(issuer.age(in_days(10)) >= 10 * DAY);

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let late = DirectoryIssuer::new(authority.path(), Clock::of_tokio(in_days(366)));
    let error = sign(&late, DAY).unwrap_err();
    assert!(matches!(error, IssueError::Directory(CaError::NotValidNow { what: "issuer", .. })), "{error}");
    assert!(error.to_string().contains("weft ca rotate --dir"), "{error}");
    let early = DirectoryIssuer::new(authority.path(), Clock::of_tokio(now - DAY));
    assert!(sign(&early, DAY).is_err(), "a clock that is a day behind");
}
