//! A controller's end of TLS: it proves who it is, and asks its clients for no certificate, which they have none of yet.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::{PrivateKey, SvidError, tls::provider};

/// What a controller shows. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    current: Arc<ArcSwapOption<ServerConfig>>,
}

impl Serving {
    /// Shows nothing yet, and so takes nobody in.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on shows this certificate, whose issuers follow it.
    pub fn show(&self, chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<(), SvidError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.pkcs8()));
        let key = any_supported_type(&der).map_err(|source| SvidError::Key { source })?;
        let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has cipher suites of TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        self.current.store(Some(Arc::new(config)));
        Ok(())
    }

    /// Whether there is anything to show.
    pub fn is_ready(&self) -> bool {
        self.current.load().is_some()
    }

    /// Takes a client in, who has to have done its part within `within`.
    pub async fn accept<IO>(
        &self,
        io: IO,
        within: Duration,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let config = self.current.load_full();
        let config = config.ok_or_else(|| io::Error::other("there is no certificate to show yet"))?;
        tokio::time::timeout(within, TlsAcceptor::from(config).accept(io)).await?
    }
}

pub(super) const HTTP_1: &[u8] = b"http/1.1";
