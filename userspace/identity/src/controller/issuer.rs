//! A mesh's controllers as the issuer of a node's certificates.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Method;
use serde::de::DeserializeOwned;
use tokio::time::{Duration, Instant};

use super::{
    AUTHORITY, AuthorityAnswer, CERTIFICATES, CertificateAnswer, CertificateOrder, ControllerError,
    Controllers,
};
use crate::{Authority, IssueError, Issuer, Order, PrivateKey, Request, Signer, Svid, ca};

/// Has a node's certificates issued by controllers. Keys are made here; what is sent is a request.
#[derive(Debug)]
pub struct ControllerIssuer {
    controllers: Controllers,
    /// What was answered last, and when.
    seen: Mutex<Option<(Instant, Seen)>>,
}

#[derive(Clone, Debug)]
struct Seen {
    trust_domain: Arc<str>,
    issuer: Signer,
}

impl ControllerIssuer {
    /// By these.
    pub fn new(controllers: Controllers) -> Self {
        Self { controllers, seen: Mutex::default() }
    }

    async fn look(&self) -> Result<Authority, IssueError> {
        let roots = self.controllers.roots()?.certificates().to_vec();
        let known = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Seen { trust_domain, issuer } = match known {
            Some((at, seen)) if at.elapsed() < LOOK => seen,
            _ => self.see().await?,
        };
        Ok(Authority { trust_domain, roots, issuer })
    }

    async fn see(&self) -> Result<Seen, IssueError> {
        let (to, bytes) = self.controllers.ask(Method::GET, AUTHORITY, Bytes::new()).await?;
        let AuthorityAnswer { trust_domain, issuer } = read(to, &bytes)?;
        let issuer = certificates(to, &issuer).and_then(|chain| {
            Signer::read(&chain[0])
                .map_err(|error| ControllerError::Answer { to, problem: error.to_string() })
        })?;
        let seen = Seen { trust_domain: trust_domain.into(), issuer };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), seen.clone()));
        Ok(seen)
    }

    async fn order(&self, order: Order) -> Result<Svid, IssueError> {
        let key = PrivateKey::generate()?;
        let asked = CertificateOrder {
            service_account: order.account,
            request: Request::by(&key)?,
            ttl_seconds: order.ttl.as_secs(),
        };
        let body = serde_json::to_vec(&asked).expect("texts and a number are JSON");
        let (to, bytes) = self.controllers.ask(Method::POST, CERTIFICATES, body.into()).await?;
        let CertificateAnswer { chain } = read(to, &bytes)?;
        Ok(Svid::new(certificates(to, &chain)?, key)?)
    }
}

impl Issuer for ControllerIssuer {
    fn authority(&self) -> BoxFuture<'_, Result<Authority, IssueError>> {
        Box::pin(self.look())
    }

    fn issue(&self, order: Order) -> BoxFuture<'_, Result<Svid, IssueError>> {
        Box::pin(self.order(order))
    }
}

fn read<T: DeserializeOwned>(to: std::net::SocketAddr, bytes: &[u8]) -> Result<T, ControllerError> {
    serde_json::from_slice(bytes).map_err(|error| ControllerError::Answer { to, problem: error.to_string() })
}

fn certificates(
    to: std::net::SocketAddr,
    pem: &str,
) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, ControllerError> {
    ca::certificates(pem).map_err(|problem| ControllerError::Answer { to, problem })
}

/// How long an answer about the authority is good for: its certificate changes once in months, and that controllers are
/// away is noticed within this.
const LOOK: Duration = Duration::from_mins(1);
