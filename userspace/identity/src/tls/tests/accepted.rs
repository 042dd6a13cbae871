use std::{fmt::Write as _, sync::Arc};

use rustls::{ClientConfig, HandshakeKind, client::Resumption, pki_types::ServerName, version::TLS13};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{SOON, meet};
use crate::{
    Clock, Endpoint,
    testing::{Authority, Forger, api, web},
    tls::{ALPN, provider::provider, verifier::ThisWorkload},
};

#[tokio::test]
async fn both_ends_prove_who_they_are_and_bytes_pass_both_ways() {
    let authority = Authority::new();
    let (client, server) = meet(&authority.endpoint(web()), &authority.endpoint(api()), api()).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(client.peer().id.to_string(), "spiffe://mesh.example/ns/shop/sa/api");
    assert_eq!(client.peer().account, api());
    assert_eq!(server.peer().account, web());

    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    // The client has said its last word, and listens on.
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn each_end_knows_the_other_ones_certificate_by_its_sha_256() {
    let authority = Authority::new();
    let (web, api_end) = (authority.endpoint(web()), authority.endpoint(api()));
    let (client, server) = meet(&web, &api_end, api()).await;
    for (seen, shown) in [(client.unwrap(), api_end.svid()), (server.unwrap(), web.svid())] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &shown.chain()[0]);
        let mut digits = String::new();
        for byte in digest.as_ref() {
            write!(digits, "{byte:02x}").unwrap();
        }
        assert_eq!(**seen.proof().fingerprint(), digits);
    }
}

#[tokio::test]
async fn the_key_exchange_is_one_that_a_quantum_computer_does_not_break() {
    let authority = Authority::new();
    let (client, server) = meet(&authority.endpoint(web()), &authority.endpoint(api()), api()).await;
    let wanted = ("X25519MLKEM768".to_owned(), "TLS13_AES_128_GCM_SHA256".to_owned());
    assert_eq!(client.unwrap().cryptography(), wanted);
    assert_eq!(server.unwrap().cryptography(), wanted);
}

#[tokio::test]
async fn the_same_account_under_an_alias_is_the_same_account() {
    let forger = Forger::new();
    let trust = forger.trust_with(&["old.example"]);
    let endpoint =
        |id: &str| Endpoint::new(forger.svid(&[id], |_| ()), Arc::clone(&trust), Clock::system()).unwrap();
    let old = endpoint("spiffe://old.example/ns/shop/sa/api");
    let new = endpoint("spiffe://mesh.example/ns/shop/sa/web");
    for (client, server, account) in [(&new, &old, api()), (&old, &new, web())] {
        let (client, server) = meet(client, server, account.clone()).await;
        assert_eq!(client.unwrap().peer().account, account);
        let seen = server.unwrap();
        assert_ne!(seen.peer().account, account);
        assert_eq!(
            seen.peer().id.trust_domain,
            if account == api() { "mesh.example" } else { "old.example" }.into()
        );
    }
}

#[tokio::test]
async fn a_renewal_cuts_no_connection_and_the_next_one_shows_the_new_certificate() {
    let authority = Authority::new();
    let (client, server) = (authority.endpoint(web()), authority.endpoint(api()));
    let (near, far) = meet(&client, &server, api()).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let before = near.peer().serial.clone();

    let renewed = authority.issue(api());
    server.replace(Arc::clone(&renewed), authority.trust()).unwrap();
    client.replace(authority.issue(web()), authority.trust()).unwrap();
    near.write_all(b"still here").await.unwrap();
    near.flush().await.unwrap();
    let mut read = [0; 10];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");

    let (near, _far) = meet(&client, &server, api()).await;
    assert_eq!(near.as_ref().unwrap().peer().serial, renewed.serial());
    assert_ne!(near.unwrap().peer().serial, before);
}

/// A client that would resume if it could: a resumed session would outlive its certificate and its policy.
#[tokio::test]
async fn no_session_is_ever_resumed() {
    let authority = Authority::new();
    let server = authority.endpoint(api());
    let svid = authority.issue(web());
    let certified = svid.certified().unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ThisWorkload { trust: authority.trust(), account: api() }))
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let (near, far) = UnixStream::pair().unwrap();
        let name = ServerName::try_from("api.shop").unwrap();
        let (near, far) = tokio::join!(connector.connect(name, near), server.accept(far, SOON));
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        // Whatever the server sends after the handshake has arrived by then.
        far.write_all(b"!").await.unwrap();
        far.flush().await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'!');
        assert_eq!(near.get_ref().1.tls13_tickets_received(), 0);
        assert_eq!(near.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}
