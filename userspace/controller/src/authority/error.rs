//! Why there is no authority to sign with.

use std::sync::Arc;

use weft_identity::{SvidError, TrustError, ca::CaError};
use weft_kubernetes::AskError;
use weft_model::ObjectName;

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// The API server.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// What it keeps.
    #[error("{0}")]
    Authority(#[from] CaError),
    /// The roots that are trusted.
    #[error("{0}")]
    Roots(#[from] TrustError),
    /// The controller's own certificate.
    #[error("{0}")]
    Serving(#[from] SvidError),
    /// The mesh's settings are not known yet.
    #[error("the mesh's settings are not known yet: the API server has not listed everything")]
    NotListed,
    /// The Secret of an authority that is to be brought is not there.
    #[error(
        "Secret {secret} is not there, which MeshConfig names (certificates.issuer.secretRef); make it, with tls.crt, \
         tls.key and ca.crt"
    )]
    NotBrought {
        /// Its name.
        secret: ObjectName,
    },
    /// It is another mesh's.
    #[error(
        "the authority in Secret {secret} is of trust domain {authority}, this mesh is {mesh}; install it with \
         --trust-domain {authority}, or delete the Secret and ConfigMap weft-trust-bundle: controllers then make another \
         authority, which cuts off every workload of this one"
    )]
    TrustDomain {
        /// The authority's.
        authority: Arc<str>,
        /// The mesh's.
        mesh: Arc<str>,
        /// Where the authority is.
        secret: ObjectName,
    },
}
