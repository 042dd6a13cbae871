use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use weft_abi::Reason;

use super::*;
use crate::{
    PrivateKey, Request, Svid, Trust, TrustDomains, Unacceptable, Usage,
    testing::{DAY, api, openssl_says, web},
};

const NAME: &str = "weft-system/weft-ca";

fn made() -> SecretAuthority {
    SecretAuthority::make(NAME, "mesh.example", &[], &Clock::system()).unwrap()
}

/// A workload's, as a controller issues it.
fn issued(issuer: &SecretIssuer, account: &ServiceAccount) -> Svid {
    let key = PrivateKey::generate().unwrap();
    let request = Request::parse(&Request::by(&key).unwrap()).unwrap();
    Svid::new(issuer.sign(&request, account, DAY, SystemTime::now()).unwrap(), key).unwrap()
}

fn trust(issuer: &SecretIssuer) -> Trust {
    let domains = TrustDomains::new("mesh.example", []).unwrap();
    Trust::new(domains, issuer.authority().unwrap().roots).unwrap()
}

fn verify(trust: &Trust, svid: &Svid) -> Result<(), Unacceptable> {
    for usage in [Usage::Client, Usage::Server] {
        trust.verify(&svid.chain()[0], &svid.chain()[1..], usage, SystemTime::now())?;
    }
    Ok(())
}

/// What a Secret that somebody made by openssl holds.
fn values(folder: &Path, files: &[(&str, &str)]) -> Values {
    let read = |(key, file): &(&str, &str)| ((*key).to_owned(), fs::read(folder.join(file)).unwrap());
    files.iter().map(read).collect()
}

#[test]
fn all_of_an_authority_is_the_values_of_one_secret() {
    let made = made();
    assert_eq!(made.standing().unwrap().keeping, Keeping::Secret(NAME.into()));
    let values = made.into_values();
    assert_eq!(values.keys().collect::<Vec<_>>(), ["issuer.pem", "root.pem", "roots.pem"]);
    // Who reads it anew signs by the same.
    let again = SecretAuthority::new(NAME, values).issuer().unwrap();
    let svid = issued(&again, &web());
    verify(&trust(&again), &svid).unwrap();
    assert_eq!(svid.id().to_string(), "spiffe://mesh.example/ns/shop/sa/web");
}

#[test]
fn a_request_says_nothing_about_whose_certificate_it_becomes() {
    let key = PrivateKey::generate().unwrap();
    let mut params = CertificateParams::new(vec!["weft-controller.weft-system.svc".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.serialize_request(&*key.pair().unwrap()).unwrap().pem().unwrap();
    let request = Request::parse(&pem).unwrap();
    let chain = made().issuer().unwrap().sign(&request, &web(), DAY, SystemTime::now()).unwrap();
    let leaf = leaf::parse(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!((leaf::only_uri(&leaf).unwrap(), names), ("spiffe://mesh.example/ns/shop/sa/web", 1));
}

#[test]
fn through_a_rotation_old_and_new_certificates_are_good_for_old_and_new_nodes() {
    let mut authority = made();
    let before = authority.issuer().unwrap();
    let (old, old_trust) = (issued(&before, &web()), trust(&before));
    authority.rotate_issuer(&Clock::system()).unwrap();
    let second = issued(&authority.issuer().unwrap(), &api());
    assert_ne!(second.chain()[1], old.chain()[1]);
    authority.rotate_root(&Clock::system()).unwrap();
    let overlap = authority.issuer().unwrap();
    let (new, both) = (issued(&overlap, &api()), trust(&overlap));
    for svid in [&old, &second, &new] {
        for trust in [&old_trust, &both] {
            verify(trust, svid).unwrap();
        }
    }
    assert!(matches!(authority.rotate_root(&Clock::system()), Err(CaError::OverlapRuns { .. })));
    assert!(matches!(authority.finish_root(DAY, &Clock::system()), Err(CaError::TooEarly { .. })));
    authority.finish_root(Duration::ZERO, &far(Duration::from_hours(1))).unwrap();
    let finished = authority.issuer().unwrap();
    for svid in [&new, &issued(&finished, &web())] {
        verify(&trust(&finished), svid).unwrap();
        verify(&both, svid).unwrap();
    }
    assert_eq!(verify(&trust(&finished), &old).unwrap_err().reason(), Reason::CERTIFICATE_UNTRUSTED);
}

#[test]
fn a_secret_that_was_lost_is_made_anew_and_cuts_nobody() {
    let lost = made().issuer().unwrap();
    let old = issued(&lost, &web());
    let trusted = lost.authority().unwrap().roots;
    let new = SecretAuthority::make(NAME, "mesh.example", &trusted, &Clock::system()).unwrap();
    verify(&trust(&new.issuer().unwrap()), &old).unwrap();
    verify(&trust(&new.issuer().unwrap()), &issued(&new.issuer().unwrap(), &api())).unwrap();
    assert_eq!(new.standing().unwrap().roots.len(), 2);
    // As a rotation, it ends when no certificate of the old root can be alive.
    let clock = far(LONGEST_LIFE + Duration::from_hours(1));
    assert_eq!(new.due(&clock).unwrap(), Some(Due::Finish));
    let mut new = new;
    new.carry_out(Due::Finish, &clock).unwrap();
    assert_eq!(new.standing().unwrap().roots.len(), 1);
}

/// A clock that is this much ahead.
fn far(ahead: Duration) -> Clock {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    Clock::of_tokio(SystemTime::now() + ahead)
}

#[test]
fn what_is_due_is_done_long_before_its_last_moment_and_in_ten_years_nothing_ends() {
    let mut authority = made();
    let day = |number: u32| far(number * DAY);
    assert_eq!(authority.due(&day(0)).unwrap(), None);
    assert_eq!(authority.due(&day(240)).unwrap(), None);
    assert_eq!(authority.due(&day(250)).unwrap(), Some(Due::Issuer));
    let mut seen = Vec::new();
    for number in (0..4000).step_by(10) {
        let now = day(number);
        while let Some(due) = authority.due(&now).unwrap() {
            authority.carry_out(due, &now).unwrap();
            seen.push(due);
        }
        let standing = authority.standing().unwrap();
        assert!(!standing.issuer.ends_soon(now.now()), "day {number}: {standing:?}");
        assert!(!standing.roots.last().unwrap().ends_soon(now.now()), "day {number}: {standing:?}");
    }
    assert_eq!(seen.iter().filter(|due| **due == Due::Root).count(), 1, "{seen:?}");
    assert_eq!(seen.iter().filter(|due| **due == Due::Finish).count(), 1, "{seen:?}");
}

#[test]
fn what_cert_manager_writes_is_an_authority_with_every_kind_of_key() {
    for make_key in [
        &["genrsa", "-traditional", "-out", "key.pem", "2048"][..],
        &["genrsa", "-out", "key.pem", "2048"],
        &["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "key.pem"],
        &["ecparam", "-genkey", "-name", "secp384r1", "-noout", "-out", "key.pem"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| openssl_says(args, folder.path());
        run(&["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", "root.key"]);
        run(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "root.key",
            "-subj",
            "/CN=corp root",
            "-days",
            "30",
            "-out",
            "root.crt",
        ]);
        run(make_key);
        run(&["req", "-new", "-key", "key.pem", "-subj", "/CN=mesh", "-out", "ca.csr"]);
        fs::write(folder.path().join("ext"), "basicConstraints=critical,CA:true\nkeyUsage=keyCertSign\n")
            .unwrap();
        run(&[
            "x509",
            "-req",
            "-in",
            "ca.csr",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-days",
            "20",
            "-extfile",
            "ext",
            "-out",
            "ca.crt",
        ]);
        let files = [("tls.crt", "ca.crt"), ("tls.key", "key.pem"), ("ca.crt", "root.crt")];
        let brought =
            SecretIssuer::brought("pki/mesh", &values(folder.path(), &files), "mesh.example").unwrap();
        let svid = issued(&brought, &web());
        verify(&trust(&brought), &svid).unwrap();
        assert_eq!(svid.chain().len(), 2, "the root itself is not shown");
        // A root at the end of the chain does as well as ca.crt.
        let chain = [
            fs::read(folder.path().join("ca.crt")).unwrap(),
            fs::read(folder.path().join("root.crt")).unwrap(),
        ];
        let mut values = values(folder.path(), &files[1..2]);
        values.insert("tls.crt".to_owned(), chain.concat());
        let brought = SecretIssuer::brought("pki/mesh", &values, "mesh.example").unwrap();
        verify(&trust(&brought), &svid).unwrap();
    }
}

#[test]
fn a_root_alone_may_be_brought_and_what_weft_ca_init_makes() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).unwrap();
    let values: Values = [("tls.crt", root.pem()), ("tls.key", key.serialize_pem())]
        .map(|(key, text)| (key.to_owned(), text.into_bytes()))
        .into();
    let brought = SecretIssuer::brought("pki/root", &values, "mesh.example").unwrap();
    verify(&trust(&brought), &issued(&brought, &web())).unwrap();

    super::super::init(&folder.path().join("ca"), "mesh.example", &Clock::system()).unwrap();
    let files = [("issuer.pem", "ca/issuer.pem"), ("roots.pem", "ca/roots.pem")];
    let values = self::values(folder.path(), &files);
    let brought = SecretIssuer::brought("pki/ours", &values, "another.example").unwrap();
    assert_eq!(brought.trust_domain(), "mesh.example", "it names its own, and so a mistake shows");
    verify(&trust(&brought), &issued(&brought, &web())).unwrap();
}

#[test]
fn what_is_wrong_with_a_secret_is_named_with_its_key_and_a_remedy() {
    let brought = |values: &Values| {
        let issuer = SecretIssuer::brought("pki/mesh", values, "mesh.example");
        issuer.map(drop).unwrap_err().to_string()
    };
    let mut good = made().into_values();
    let error = brought(&Values::new());
    assert!(error.contains("Secret pki/mesh: tls.key is not there") && error.contains("ca.crt"), "{error}");
    let key = KeyPair::generate().unwrap().serialize_pem().into_bytes();
    let issuer = good["issuer.pem"].clone();
    let only = String::from_utf8(issuer).unwrap();
    let only = only.as_bytes()[only.find("-----BEGIN CERT").unwrap()..].to_vec();
    let wrong: Values = [("tls.key".to_owned(), key), ("tls.crt".to_owned(), only)].into();
    let error = brought(&wrong);
    assert!(
        error.contains("tls.crt: private key: it does not belong") && error.contains("correct the Secret"),
        "{error}"
    );

    good.remove("roots.pem");
    let error = SecretAuthority::new(NAME, good.clone()).issuer().unwrap_err().to_string();
    assert!(error.contains("Secret weft-system/weft-ca: roots.pem is not there"), "{error}");
    good.insert("issuer.pem".to_owned(), Vec::new());
    let error = SecretAuthority::new(NAME, good).issuer().unwrap_err().to_string();
    assert!(error.contains("weft ca rotate --secret weft-system/weft-ca issuer makes it anew"), "{error}");
}

#[test]
fn an_issuer_of_another_root_is_found_before_a_peer_refuses_it() {
    let (mut values, other) = (made().into_values(), made().into_values());
    values.insert("issuer.pem".to_owned(), other["issuer.pem"].clone());
    let issuer = SecretAuthority::new(NAME, values).issuer().unwrap();
    let request = Request::parse(&Request::by(&PrivateKey::generate().unwrap()).unwrap()).unwrap();
    let error = issuer.sign(&request, &web(), DAY, SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("refused under roots.pem beside it") && error.contains("--secret"), "{error}");
}
