//! Whom a server of keys is vouched for by: the public authorities, and those of a bundle.
//!
//! The public ones are compiled in: an agent in an image without files has no others, and two nodes believe the same.

use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};

use super::error::FetchError;
use crate::CertificateDer;

/// A client of TLS 1.2 and 1.3: providers are not of this mesh.
pub(super) async fn client(ca_bundle: Option<&Path>) -> Result<Arc<ClientConfig>, FetchError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_bundle {
        let cannot = |source| FetchError::Bundle { path: path.to_owned(), source };
        let text = tokio::fs::read(path).await.map_err(cannot)?;
        let blocks = pem::parse_many(&text).map_err(|error| cannot(io::Error::other(error)))?;
        let blocks = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        let (taken, _) =
            roots.add_parsable_certificates(blocks.map(|block| CertificateDer::from(block.into_contents())));
        if taken == 0 {
            return Err(FetchError::EmptyBundle { path: path.to_owned() });
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the library's own provider has cipher suites of both")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What the server's certificate has to be for.
pub(super) fn name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(io::Error::other)
}
