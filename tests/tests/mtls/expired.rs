//! The authority's issuer has expired.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use weft_tests::{Node, eventually, manifests, soon, text};

use crate::forged::block;
use crate::path::SECRET;
use crate::stage::{API, Stage};

#[test]
fn with_an_expired_issuer_the_last_certificates_serve_until_they_end_and_status_says_so_loudly() {
    let mesh = manifests::mesh_config("{certificates: {ttl: 1m}}");
    let Some(stage) = Stage::open(&[("mesh.yaml", mesh)]) else { return };
    let nodes = [&stage.a, &stage.b];
    expire(&stage);
    for node in nodes {
        soon(|| is_loud(node));
    }
    // New handshakes, since nobody has been to this address yet, for as long as both ends are certified.
    let to = stage.api.addr6(8080);
    let mut served = 0;
    let mut exchange = || {
        let answered = [API, to].iter().all(|to| stage.echoes(*to, SECRET).is_ok());
        if nodes.iter().all(|node| seconds_left(node) > 0) {
            assert!(answered, "a certificate that is valid does not serve");
            served += 1;
        }
        answered
    };
    assert!(exchange());
    eventually(Duration::from_mins(2), || {
        exchange();
        nodes.iter().all(|node| seconds_left(node) == 0)
    });
    assert!(served > 1, "they have served beside an expired issuer");
    // Of the last second status says 0 already, and who is refused in it is refused by the other end.
    soon(|| {
        let refused = stage.echoes(API, SECRET).is_err();
        refused && stage.a.flows(&[]).iter().any(|flow| flow["reason"] == "NoCertificate")
    });
    soon(|| stage.a.metric("weft_proxy_rejected_total", &["reason=\"NoCertificate\""]) >= 1.0);
    assert!(nodes.iter().all(|node| is_loud(node)));

    let folder = stage.world.dir().join("ca").display().to_string();
    let rotated = stage.a.weft_alone(&["ca", "rotate", "--dir", &folder, "issuer"]);
    assert!(rotated.status.success(), "{}", text(&rotated));
    // The next try may be half a minute away by now.
    eventually(Duration::from_mins(2), || stage.echoes(API, SECRET).is_ok());
    eventually(Duration::from_mins(1), || nodes.iter().all(|node| node.weft(&["status"]).status.success()));
}

/// Puts an issuer in the authority's directory that the same root has signed, and that has ended a minute ago.
fn expire(stage: &Stage) {
    let folder = stage.world.dir().join("ca");
    let root = fs::read_to_string(folder.join("root.pem")).unwrap();
    let key = KeyPair::from_pem(&block(&root, "PRIVATE KEY")).unwrap();
    let root = Issuer::from_ca_cert_pem(&block(&root, "CERTIFICATE"), key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "an issuer of yesterday");
    params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local".try_into().unwrap())];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let (now, minute) = (SystemTime::now(), Duration::from_mins(1));
    (params.not_before, params.not_after) = ((now - 60 * minute).into(), (now - minute).into());
    let key = KeyPair::generate().unwrap();
    let issuer = params.signed_by(&key, &root).unwrap();
    // In place, so that it stays its owner's alone.
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(folder.join("issuer.pem")).unwrap();
    file.write_all((key.serialize_pem() + &issuer.pem()).as_bytes()).unwrap();
}

/// Whether `weft status` is not well, and says what to do.
fn is_loud(node: &Node) -> bool {
    let answer = node.weft(&["status"]);
    let page = text(&answer);
    let failure = page.lines().find(|line| line.starts_with("Issuer failure:"));
    answer.status.code() == Some(1)
        && failure.is_some_and(|failure| failure.contains("weft ca rotate"))
        && node.metric("weft_issuer_failing", &[]) > 0.0
}

/// How long the node's one certificate is valid still.
fn seconds_left(node: &Node) -> u64 {
    let view = node.weft_json(&["get", "certificates"]);
    view["certificates"][0]["expiresInSeconds"].as_u64().unwrap_or(0)
}
