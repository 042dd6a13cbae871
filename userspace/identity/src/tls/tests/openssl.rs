//! openssl at the other end: an implementation that shares nothing with ours.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::{io::AsyncReadExt as _, net::TcpListener};
use weft_abi::Reason;

use super::SOON;
use crate::{
    Refused, TlsStream,
    testing::{Authority, api, web, write_svid},
};

/// Ends the process.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(args: &[&str], folder: &Path) -> Running {
    let mut command = Command::new("openssl");
    command.args(args).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let started = command.spawn();
    Running(
        started.unwrap_or_else(|error| panic!("cannot run openssl ({error}); cargo xtask setup installs it")),
    )
}

/// What our server says to an openssl client with these options, which shows the certificate of `web`.
async fn accept_openssl(options: &[&str]) -> Result<TlsStream<tokio::net::TcpStream>, Refused> {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    write_svid(&authority.issue(web()), "web", folder.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut args = vec!["s_client", "-connect", &address, "-alpn", "weft/1"];
    args.extend_from_slice(options);
    let mut client = start(&args, folder.path());
    std::io::Write::write_all(client.0.stdin.as_mut().unwrap(), b"hello\n").unwrap();
    let (stream, _) = tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let mut stream = authority.endpoint(api()).accept(stream, SOON).await?;
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).await.map_err(Refused::of)?;
    assert_eq!(&hello, b"hello\n");
    Ok(stream)
}

const IDENTITY: [&str; 6] = ["-cert", "web.crt", "-cert_chain", "web.chain", "-key", "web.key"];

#[tokio::test]
async fn an_openssl_client_with_a_certificate_of_the_mesh_is_served() {
    let stream = accept_openssl(&IDENTITY).await.unwrap();
    assert_eq!(stream.peer().account, web());
}

#[tokio::test]
async fn whoever_has_no_aes_in_hardware_may_choose_chacha20() {
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let stream = accept_openssl(&[&IDENTITY[..], &["-ciphersuites", suite]].concat()).await;
        assert!(stream.is_ok(), "{suite}: {:?}", stream.err());
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let refused = accept_openssl(&[&IDENTITY[..], &["-tls1_2"]].concat()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::TLS_VERSION, "{refused}");
}

#[tokio::test]
async fn openssl_without_a_certificate_is_refused() {
    let refused = accept_openssl(&[]).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::CERTIFICATE_MISSING, "{refused}");
}

#[tokio::test]
async fn nothing_in_common_is_refused() {
    let curves = [&IDENTITY[..], &["-groups", "P-521"]].concat();
    let refused = accept_openssl(&curves).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::TLS_PARAMETERS, "{refused}");
    let suites = [&IDENTITY[..], &["-ciphersuites", "TLS_AES_128_CCM_SHA256"]].concat();
    let refused = accept_openssl(&suites).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::TLS_PARAMETERS, "{refused}");
}

#[tokio::test]
async fn an_openssl_server_of_tls_1_2_is_refused_and_one_of_1_3_is_not() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    write_svid(&authority.issue(api()), "api", folder.path());
    for (version, wanted) in [("-tls1_2", Reason::TLS_VERSION), ("-tls1_3", Reason::NONE)] {
        // A port that nobody has: openssl binds it a moment later.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let args = [
            "s_server",
            "-accept",
            &address,
            "-cert",
            "api.crt",
            "-cert_chain",
            "api.chain",
            "-key",
            "api.key",
            "-alpn",
            "weft/1",
            "-Verify",
            "2",
            "-quiet",
            version,
        ];
        let _server = start(&args, folder.path());
        let connected = tokio::time::timeout(SOON, async {
            loop {
                if let Ok(stream) = tokio::net::TcpStream::connect(&address).await {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        });
        let ended = authority.endpoint(web()).connect(connected.await.unwrap(), &api(), SOON).await;
        let reason = ended.as_ref().err().map_or(Reason::NONE, Refused::reason);
        assert_eq!(reason, wanted, "{version}: {ended:?}");
    }
}
