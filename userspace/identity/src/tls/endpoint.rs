//! One workload's end of mutual TLS.

use std::{future::IntoFuture, net::Ipv4Addr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, CommonState, ServerConfig, client::Resumption, pki_types::ServerName,
    server::NoServerSessionStorage, sign::SingleCertAndKey, version::TLS13,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_model::ServiceAccount;

use super::{
    Proof, Refused, TlsStream,
    proof::Edition,
    provider::provider,
    verifier::{AnyWorkload, ThisWorkload},
};
use crate::{Clock, Svid, SvidError, Trust, Unacceptable, Usage};

/// The protocol inside: what tells the mesh's TLS from an app's own.
pub const ALPN: &[u8] = b"weft/1";

/// How long a handshake may take, unless told otherwise.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// One workload's end of mutual TLS: the certificate that it shows and whom it trusts, for all of its connections.
///
/// [`Endpoint::replace`] is for the handshakes that begin after it. A connection keeps what it was opened with, so a
/// renewal cuts none.
#[derive(Debug)]
pub struct Endpoint {
    current: ArcSwap<Generation>,
    clock: Clock,
}

/// What is in force between two renewals.
#[derive(Debug)]
struct Generation {
    svid: Arc<Svid>,
    trust: Arc<Trust>,
    server: Arc<ServerConfig>,
    client: ClientConfig,
    edition: Edition,
}

impl Endpoint {
    /// Shows `svid` and believes `trust`.
    pub fn new(svid: Arc<Svid>, trust: Arc<Trust>, clock: Clock) -> Result<Self, SvidError> {
        Ok(Self { current: ArcSwap::from_pointee(Generation::new(svid, trust)?), clock })
    }

    /// From now on shows `svid` and believes `trust`.
    pub fn replace(&self, svid: Arc<Svid>, trust: Arc<Trust>) -> Result<(), SvidError> {
        self.current.store(Arc::new(Generation::new(svid, trust)?));
        Ok(())
    }

    /// The certificate that is shown.
    pub fn svid(&self) -> Arc<Svid> {
        Arc::clone(&self.current.load().svid)
    }

    /// Takes a client in: any workload of the mesh that proves who it is within `within`.
    pub async fn accept<IO>(&self, io: IO, within: Duration) -> Result<TlsStream<IO>, Refused>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let now = self.generation()?;
        let mut tls = done(TlsAcceptor::from(Arc::clone(&now.server)).accept(io), within).await?;
        tls.get_mut().1.set_buffer_limit(Some(AT_ONCE));
        let proof = now.proof(tls.get_ref().1, Usage::Client)?;
        Ok(TlsStream { tls: tls.into(), proof })
    }

    /// Connects to a server, which has to prove within `within` that it is a workload of `account`.
    pub async fn connect<IO>(
        &self,
        io: IO,
        account: &ServiceAccount,
        within: Duration,
    ) -> Result<TlsStream<IO>, Refused>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let now = self.generation()?;
        let mut config = now.client.clone();
        let verifier = ThisWorkload { trust: Arc::clone(&now.trust), account: account.clone() };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        // The library wants a name. The verifier looks at none, and none is sent.
        let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
        let mut tls = done(TlsConnector::from(Arc::new(config)).connect(name, io), within).await?;
        tls.get_mut().1.set_buffer_limit(Some(AT_ONCE));
        let proof = now.proof(tls.get_ref().1, Usage::Server)?;
        Ok(TlsStream { tls: tls.into(), proof })
    }

    /// Whether a connection that was opened with `proof` would be opened with the same now: nothing was renewed, and
    /// neither end's certificate has ended.
    pub fn would_open_the_same(&self, proof: &Proof) -> bool {
        self.current.load().edition == proof.edition && self.clock.now() <= proof.ends
    }

    /// Whether the peer would still be believed, who opened a connection with `proof`: its certificate has not ended, and
    /// who vouched for it is trusted now. What was renewed here is no matter.
    ///
    /// # Errors
    /// Why not.
    pub fn still_believes(&self, proof: &mut Proof) -> Result<(), Refused> {
        let (now, time) = (self.current.load(), self.clock.now());
        if !Arc::ptr_eq(&now.trust, &proof.trust) {
            let [leaf, intermediates @ ..] = &*proof.chain else { return Err(Refused::NoCertificate) };
            now.trust.verify(leaf, intermediates, proof.usage, time)?;
            proof.trust = Arc::clone(&now.trust);
        }
        if time > proof.ends { Err(Unacceptable::Expired.into()) } else { Ok(()) }
    }

    /// What is in force. An expired certificate is not even shown: the peer would refuse it and could not say why.
    fn generation(&self) -> Result<Arc<Generation>, Refused> {
        let now = self.current.load_full();
        if now.svid.not_after() < self.clock.now() {
            return Err(Refused::OwnExpired { id: now.svid.id().clone() });
        }
        Ok(now)
    }
}

impl Generation {
    fn new(svid: Arc<Svid>, trust: Arc<Trust>) -> Result<Self, SvidError> {
        let shown = Arc::new(SingleCertAndKey::from(svid.certified()?));
        let versions = "the provider has cipher suites of TLS 1.3";
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect(versions)
            .with_client_cert_verifier(Arc::new(AnyWorkload { trust: Arc::clone(&trust) }))
            .with_cert_resolver(Arc::clone(&shown) as _);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;

        // `connect` names the workload; until then there is none that would be believed.
        let nobody = ThisWorkload { trust: Arc::clone(&trust), account: ServiceAccount::new("", "") };
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect(versions)
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(nobody))
            .with_client_cert_resolver(shown);
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;
        Ok(Self { svid, trust, server: Arc::new(server), client, edition: Edition::default() })
    }

    /// Who the other end is. The protocol is looked at here: rustls lets a peer pass that names none at all.
    fn proof(&self, state: &CommonState, usage: Usage) -> Result<Proof, Refused> {
        if state.alpn_protocol() != Some(ALPN) {
            return Err(Refused::Protocol);
        }
        let chain = state.peer_certificates().unwrap_or_default();
        let leaf = chain.first().ok_or(Refused::NoCertificate)?;
        let (peer, fingerprint) = (self.trust.read(leaf)?, format!("{:x}", Sha256::digest(leaf)).into());
        let ends = peer.not_after.min(self.svid.not_after());
        let (trust, edition) = (Arc::clone(&self.trust), self.edition.clone());
        Ok(Proof { peer, chain: chain.into(), fingerprint, usage, trust, edition, ends })
    }
}

async fn done<T>(
    handshake: impl IntoFuture<Output = std::io::Result<T>>,
    within: Duration,
) -> Result<T, Refused> {
    match tokio::time::timeout(within, handshake).await {
        Ok(done) => done.map_err(Refused::of),
        Err(_) => Err(Refused::Timeout { within }),
    }
}

/// Bytes that are sealed before they are written: each write of so many is one system call.
const AT_ONCE: usize = 256 << 10;
