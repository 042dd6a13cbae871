//! Each certificate that is not accepted, shown by a client and by a server.

use std::{sync::Arc, time::SystemTime};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls::{ClientConfig, pki_types::ServerName, version::TLS13};
use tokio::{io::AsyncReadExt as _, net::UnixStream};
use weft_abi::Reason;

use super::{SOON, meet, reason};
use crate::{
    Clock, Endpoint, Refused, Svid, Trust,
    testing::{Authority, DAY, Forger, api, self_signed, web},
    tls::{ALPN, provider::provider, verifier::ThisWorkload},
};

const API: &str = "spiffe://mesh.example/ns/shop/sa/api";
const WEB: &str = "spiffe://mesh.example/ns/shop/sa/web";

/// An end that shows `svid` whatever it is worth.
fn shows(svid: Arc<Svid>, trust: &Arc<Trust>) -> Endpoint {
    Endpoint::new(svid, Arc::clone(trust), Clock::system()).unwrap()
}

/// Lets both a client and a server show what `bad` makes for a ServiceAccount; each time the other end refuses.
async fn is_refused_for(wanted: Reason, forger: &Forger, bad: impl Fn(&str) -> Arc<Svid>) {
    let trust = forger.trust();
    let good = |id: &str| shows(forger.svid(&[id], |_| ()), &trust);

    let (client, server) = meet(&shows(bad(WEB), &trust), &good(API), api()).await;
    assert_eq!(reason(&server), wanted, "shown by a client: {server:?}");
    // In TLS 1.3 the client learns it after its own handshake is done.
    let mut byte = [0];
    let heard = client.unwrap().read(&mut byte).await.unwrap_err();
    assert_eq!(Refused::of(heard).reason(), Reason::TLS_REFUSED);

    let (client, server) = meet(&good(WEB), &shows(bad(API), &trust), api()).await;
    assert_eq!(reason(&client), wanted, "shown by a server: {client:?}");
    assert_eq!(reason(&server), Reason::TLS_REFUSED, "{server:?}");
}

/// The same, of a good certificate that `change` spoils.
async fn is_refused(wanted: Reason, change: impl Fn(&mut CertificateParams)) {
    let forger = Forger::new();
    is_refused_for(wanted, &forger, |id| forger.svid(&[id], &change)).await;
}

#[tokio::test]
async fn the_certificates_of_these_tests_are_accepted_unless_they_are_spoilt() {
    let forger = Forger::new();
    let end = |id: &str| shows(forger.svid(&[id], |_| ()), &forger.trust());
    let (client, server) = meet(&end(WEB), &end(API), api()).await;
    assert_eq!((reason(&client), reason(&server)), (Reason::NONE, Reason::NONE));
}

#[tokio::test]
async fn another_trust_domain() {
    let forger = Forger::new();
    let strange = |id: &str| forger.svid(&[&id.replace("mesh.example", "other.example")], |_| ());
    is_refused_for(Reason::TRUST_DOMAIN, &forger, strange).await;
    // What looks alike is another one too.
    let subdomain = |id: &str| forger.svid(&[&id.replace("mesh.example", "mesh.example.org")], |_| ());
    is_refused_for(Reason::TRUST_DOMAIN, &forger, subdomain).await;
}

#[tokio::test]
async fn expired_and_not_yet_valid() {
    let now = SystemTime::now();
    let past = |params: &mut CertificateParams| params.not_after = (now - DAY / 24).into();
    is_refused(Reason::CERTIFICATE_EXPIRED, past).await;
    let future = |params: &mut CertificateParams| params.not_before = (now + DAY / 24).into();
    is_refused(Reason::CERTIFICATE_NOT_YET_VALID, future).await;
}

#[tokio::test]
async fn several_uris_or_none_or_one_that_is_no_spiffe_id() {
    let forger = Forger::new();
    let two = |id: &str| forger.svid(&[id, "spiffe://mesh.example/ns/shop/sa/admin"], |_| ());
    is_refused_for(Reason::IDENTITY_MALFORMED, &forger, two).await;
    let twice = |id: &str| forger.svid(&[id, id], |_| ());
    is_refused_for(Reason::IDENTITY_MALFORMED, &forger, twice).await;
    is_refused_for(Reason::IDENTITY_MALFORMED, &forger, |_| forger.svid(&[], |_| ())).await;
    for uri in [
        "https://mesh.example/ns/shop/sa/api",
        "spiffe://mesh.example/ns/shop/../shop/sa/api",
        "spiffe://mesh.example/ns/shop/sa/api/",
        "spiffe://mesh.example/ns/shop/sa/%61pi",
        "spiffe://mesh.example/ns/shop/sa/api/extra",
        "spiffe://mesh.example/workload/api",
        "spiffe://mesh.example",
        "SPIFFE://mesh.example/ns/shop/sa/api",
    ] {
        is_refused_for(Reason::IDENTITY_MALFORMED, &forger, |_| forger.svid(&[uri], |_| ())).await;
    }
}

#[tokio::test]
async fn what_nobody_vouches_for() {
    is_refused_for(Reason::CERTIFICATE_UNTRUSTED, &Forger::new(), self_signed).await;
    // Another root that copies the names of the one that is trusted.
    let (trusted, copy) = (Forger::new(), Forger::new());
    is_refused_for(Reason::CERTIFICATE_UNTRUSTED, &trusted, |id| copy.svid(&[id], |_| ())).await;
}

#[tokio::test]
async fn an_authority_as_a_workload() {
    let authority = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    };
    is_refused(Reason::CERTIFICATE_INVALID, authority).await;
    // One that hides it: no basic constraint, yet the right to sign.
    let hidden = |params: &mut CertificateParams| params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    is_refused(Reason::CERTIFICATE_INVALID, hidden).await;
}

#[tokio::test]
async fn a_workload_as_an_authority() {
    let forger = Forger::new();
    let api = forger.svid(&[API], |_| ());
    // The workload `api` signs a certificate for `web` with its own key.
    let key = api.key().pair().unwrap();
    let signed = |id: &str| {
        let signer = rcgen::Issuer::from_ca_cert_der(&api.chain()[0], &*key).unwrap();
        let false_one = Forger::svid_by(&signer, id);
        let chain = [false_one.chain(), api.chain()].concat();
        Arc::new(Svid::unchecked(chain, false_one.key().clone()))
    };
    is_refused_for(Reason::CERTIFICATE_INVALID, &forger, signed).await;
}

#[tokio::test]
async fn a_certificate_for_something_else_than_tls() {
    let signing = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    };
    is_refused(Reason::CERTIFICATE_INVALID, signing).await;
    let encrypting =
        |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    is_refused(Reason::CERTIFICATE_INVALID, encrypting).await;
}

#[tokio::test]
async fn another_workload_than_the_one_that_was_chosen() {
    let authority = Authority::new();
    let (client, server) = meet(&authority.endpoint(web()), &authority.endpoint(web()), api()).await;
    assert_eq!(reason(&client), Reason::ANOTHER_IDENTITY);
    assert_eq!(
        client.unwrap_err().to_string(),
        format!("the server is {WEB}, not {API}, which was chosen; was its address reused?")
    );
    assert_eq!(reason(&server), Reason::TLS_REFUSED);
}

#[tokio::test]
async fn a_client_without_a_certificate() {
    let authority = Authority::new();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ThisWorkload { trust: authority.trust(), account: api() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let (near, far) = UnixStream::pair().unwrap();
    let server = authority.endpoint(api());
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("api.shop").unwrap();
    let (_, server) = tokio::join!(connector.connect(name, near), server.accept(far, SOON));
    assert_eq!(reason(&server), Reason::CERTIFICATE_MISSING, "{server:?}");
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates() {
    let forger = Forger::new();
    let stolen = |id: &str| {
        let (one, other) = (forger.svid(&[id], |_| ()), forger.svid(&[id], |_| ()));
        Arc::new(Svid::unchecked(one.chain().to_vec(), other.key().clone()))
    };
    is_refused_for(Reason::CERTIFICATE_INVALID, &forger, stolen).await;
}

#[tokio::test]
async fn the_own_certificate_is_not_shown_once_it_has_expired() {
    let authority = Authority::new();
    let late = Clock::of_tokio(SystemTime::now() + 2 * DAY);
    let end = Endpoint::new(authority.issue(web()), authority.trust(), late).unwrap();
    let (client, server) = meet(&end, &authority.endpoint(api()), api()).await;
    assert_eq!(reason(&client), Reason::NO_CERTIFICATE);
    assert_eq!(reason(&server), Reason::TLS_BROKEN);
}
