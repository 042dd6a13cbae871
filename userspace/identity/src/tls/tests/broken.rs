//! Peers that speak no TLS, or stop in the middle of it.

use std::sync::Arc;

use rustls::{ClientConfig, pki_types::ServerName, version::TLS13};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional, duplex},
    net::UnixStream,
};
use weft_abi::Reason;

use super::{SOON, meet, reason};
use crate::{
    Refused,
    testing::{Authority, api, web},
    tls::{provider::provider, verifier::ThisWorkload},
};

#[tokio::test]
async fn what_is_no_tls_is_malformed() {
    let authority = Authority::new();
    let (server, client) = (authority.endpoint(api()), authority.endpoint(web()));
    for garbage in [&b"GET / HTTP/1.1\r\nHost: api\r\n\r\n"[..], &[0xff; 600], &[22, 3, 1, 255, 255, 1, 2, 3]]
    {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(garbage).await.unwrap();
        assert_eq!(reason(&server.accept(far, SOON).await), Reason::TLS_MALFORMED);
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(garbage).await.unwrap();
        assert_eq!(reason(&client.connect(near, &api(), SOON).await), Reason::TLS_MALFORMED);
    }
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_middle_is_broken() {
    let authority = Authority::new();
    let hello = client_hello(&authority).await;
    let server = authority.endpoint(api());
    for length in [0, 1, 5, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&hello[..length]).await.unwrap();
        near.shutdown().await.unwrap();
        let ended = server.accept(far, SOON).await;
        assert_eq!(reason(&ended), Reason::TLS_BROKEN, "after {length} bytes: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_is_not_waited_for() {
    let authority = Authority::new();
    let hello = client_hello(&authority).await;
    let server = authority.endpoint(api());
    for length in [0, 3, hello.len() / 2, hello.len()] {
        // Not a socket: while one is waited for, paused time stands still.
        let (mut near, far) = duplex(64 << 10);
        near.write_all(&hello[..length]).await.unwrap();
        let began = tokio::time::Instant::now();
        let ended = server.accept(far, SOON).await;
        assert_eq!(
            ended.as_ref().unwrap_err().reason(),
            Reason::TLS_TIMEOUT,
            "after {length} bytes: {ended:?}"
        );
        assert_eq!(began.elapsed().as_secs(), SOON.as_secs());
        drop(near);
    }
    let (_near, far) = duplex(64 << 10);
    let ended = authority.endpoint(web()).connect(far, &api(), SOON).await;
    assert_eq!(ended.unwrap_err().reason(), Reason::TLS_TIMEOUT);
}

#[tokio::test]
async fn what_was_recorded_opens_nothing_when_it_is_sent_again() {
    let authority = Authority::new();
    let (client, server) = (authority.endpoint(web()), authority.endpoint(api()));
    let (near, mut tap) = UnixStream::pair().unwrap();
    let (far, behind) = UnixStream::pair().unwrap();
    let mut recorder = Recorder { stream: far, sent: Vec::new() };
    let (ended, accepted, ()) = tokio::join!(
        async {
            let mut stream = client.connect(near, &api(), SOON).await.unwrap();
            stream.write_all(b"pay 100").await.unwrap();
            stream.shutdown().await.unwrap();
        },
        async {
            let mut stream = server.accept(behind, SOON).await.unwrap();
            let mut order = String::new();
            stream.read_to_string(&mut order).await.unwrap();
            order
        },
        async {
            // Either end may leave first.
            let _ = copy_bidirectional(&mut tap, &mut recorder).await;
        },
    );
    let () = ended;
    assert_eq!(accepted, "pay 100");

    let (mut near, far) = UnixStream::pair().unwrap();
    near.write_all(&recorder.sent).await.unwrap();
    let again = server.accept(far, SOON).await;
    assert_eq!(reason(&again), Reason::TLS_DECRYPT, "{again:?}");
}

#[tokio::test]
async fn another_protocol_inside_tls_is_refused_and_so_is_none() {
    let authority = Authority::new();
    let server = authority.endpoint(api());
    for protocols in [vec![b"h2".to_vec()], vec![]] {
        let certified = authority.issue(web()).certified().unwrap();
        let verifier = ThisWorkload { trust: authority.trust(), account: api() };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        config.alpn_protocols = protocols;
        let (near, far) = UnixStream::pair().unwrap();
        let name = ServerName::try_from("api.shop").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (_, server) = tokio::join!(connector.connect(name, near), server.accept(far, SOON));
        assert_eq!(reason(&server), Reason::TLS_PROTOCOL, "{server:?}");
    }
}

/// A connection that is cut is not taken for one that ended.
#[tokio::test]
async fn an_end_without_a_closing_word_is_an_error() {
    let authority = Authority::new();
    let (client, server) = meet(&authority.endpoint(web()), &authority.endpoint(api()), api()).await;
    let mut stream = client.unwrap();
    drop(server.unwrap());
    let mut rest = Vec::new();
    let cut = stream.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(Refused::of(cut).reason(), Reason::TLS_BROKEN);
}

/// The first bytes of a client.
async fn client_hello(authority: &Authority) -> Vec<u8> {
    let (near, mut far) = UnixStream::pair().unwrap();
    let client = authority.endpoint(web());
    let account = api();
    let (_, hello) = tokio::join!(client.connect(near, &account, SOON), async move {
        let mut head = [0; 5];
        far.read_exact(&mut head).await.unwrap();
        let mut record = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        far.read_exact(&mut record).await.unwrap();
        [&head[..], &record].concat()
    });
    hello
}

/// Keeps what passes to the server.
struct Recorder {
    stream: UnixStream,
    sent: Vec<u8>,
}

mod recorder {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll, ready},
    };

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Recorder;

    impl AsyncRead for Recorder {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            self.sent.extend_from_slice(&bytes[..written]);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }
}
