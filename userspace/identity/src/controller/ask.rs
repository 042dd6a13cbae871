//! One question to one controller, bounded in time and size.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::Full;
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::ServerName, version::TLS13};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Refusal, Roots, serving::HTTP_1};
use crate::{
    exchange::{Broken, exchange},
    tls::provider,
};

/// Why a controller's answer is not to be had. Cloned where several wait for one.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Nobody knows yet whom to trust.
    #[error("the roots of the mesh are not known yet: {why}")]
    NoRoots {
        /// Why not.
        why: Arc<str>,
    },
    /// There is none.
    #[error(
        "no controller is ready: the Service of {host} has no ready endpoint; does one run? \
         kubectl get pods -A -l app.kubernetes.io/component=controller,app.kubernetes.io/name=weft"
    )]
    Nobody {
        /// The name of their Service.
        host: Arc<str>,
    },
    /// The token cannot be read.
    #[error(
        "the token for controllers, {}, cannot be read: {source}; is it mounted (projected, audience weft-ca), and --ca-token its path?",
        path.display()
    )]
    Token {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No connection came about.
    #[error("no connection to the controller at {to} came about: {source}")]
    Connect {
        /// Where it is.
        to: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// It is not who it should be.
    #[error(
        "the controller at {to} does not prove that it is {host}: {source}; do the trusted roots vouch for it?"
    )]
    Tls {
        /// Where it is.
        to: SocketAddr,
        /// Who it should be.
        host: Arc<str>,
        /// The cause.
        source: io::Error,
    },
    /// It broke off.
    #[error("the controller at {to} broke off: {source}")]
    Broken {
        /// Where it is.
        to: SocketAddr,
        /// The cause.
        source: Broken,
    },
    /// It takes too long.
    #[error("the controller at {to} did not answer within {within:?}")]
    Timeout {
        /// Where it is.
        to: SocketAddr,
        /// How long it was waited for.
        within: Duration,
    },
    /// It says no.
    #[error("the controller at {to} answers {status}: {error}")]
    Said {
        /// Where it is.
        to: SocketAddr,
        /// The status.
        status: StatusCode,
        /// One word.
        reason: String,
        /// Why, and the remedy.
        error: String,
    },
    /// Its words cannot be read.
    #[error(
        "the answer of the controller at {to} cannot be read: {problem}; are agent and controller at most one version apart?"
    )]
    Answer {
        /// Where it is.
        to: SocketAddr,
        /// What is wrong.
        problem: String,
    },
}

impl ControllerError {
    /// Whether the question is to blame, and not who was asked.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Said { status, .. } if status.is_client_error())
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) body: Bytes,
}

/// Whom to ask, and as whom.
pub(super) struct Asking<'a> {
    pub(super) host: &'a Arc<str>,
    pub(super) roots: &'a Roots,
    pub(super) token: &'a str,
}

impl Asking<'_> {
    /// The answer of the controller at `to`.
    pub(super) async fn ask(&self, to: SocketAddr, question: Question) -> Result<Bytes, ControllerError> {
        let late = |_| ControllerError::Timeout { to, within: ANSWER };
        let (status, body) = timeout(ANSWER, self.exchange(to, question)).await.map_err(late)??;
        if status.is_success() {
            return Ok(body);
        }
        let Refusal { reason, error } = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
            reason: String::new(),
            error: String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
        });
        Err(ControllerError::Said { to, status, reason, error })
    }

    async fn exchange(
        &self,
        to: SocketAddr,
        question: Question,
    ) -> Result<(StatusCode, Bytes), ControllerError> {
        let socket = TcpStream::connect(to).await;
        let socket = socket.map_err(|source| ControllerError::Connect { to, source })?;
        let unproven = |source| ControllerError::Tls { to, host: Arc::clone(self.host), source };
        let name = ServerName::try_from(self.host.to_string());
        let name = name.map_err(|error| unproven(io::Error::other(error)))?;
        let config = client(self.roots).map_err(|error| unproven(io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(unproven)?;
        let broken = |source| ControllerError::Broken { to, source };
        exchange(stream, self.request(question).map_err(broken)?, LARGEST).await.map_err(broken)
    }

    fn request(&self, question: Question) -> Result<Request<Full<Bytes>>, Broken> {
        let mut token = HeaderValue::try_from(format!("Bearer {}", self.token)).map_err(http::Error::from)?;
        token.set_sensitive(true);
        let request = Request::builder()
            .method(question.method)
            .uri(question.path)
            .header(HOST, &**self.host)
            .header(USER_AGENT, HeaderValue::from_static(concat!("weft/", env!("CARGO_PKG_VERSION"))))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(AUTHORIZATION, token)
            .body(Full::new(question.body))?;
        Ok(request)
    }
}

/// Nothing is resumed: a controller's certificate is looked at each time, and so are the roots.
fn client(roots: &Roots) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots.certificates() {
        store.add(root.clone())?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// How long an answer may take, connection included: of the ten seconds that an issuer has, two controllers get theirs.
const ANSWER: Duration = Duration::from_millis(4_500);

/// Bytes of an answer: a chain has some thousand.
const LARGEST: usize = 256 << 10;
