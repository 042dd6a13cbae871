//! One GET, bounded in time and size.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, HOST, USER_AGENT},
    uri::{PathAndQuery, Scheme},
};
use http_body_util::Full;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use weft_model::Jwks;

use super::{FETCH_TIME, JwksPlace, LARGEST, error::FetchError, roots};
use crate::exchange::{Broken, exchange};

/// Fetches keys.
#[derive(Clone, Debug)]
pub(super) struct Fetch {
    ca_bundle: Option<PathBuf>,
}

/// What to ask, and whom.
struct Ask {
    host: String,
    /// As the `Host` header has it.
    authority: String,
    path: PathAndQuery,
    addresses: Vec<SocketAddr>,
    is_tls: bool,
}

impl Fetch {
    pub(super) fn new(ca_bundle: Option<PathBuf>) -> Self {
        Self { ca_bundle }
    }

    /// The keys at `place`.
    pub(super) async fn keys(&self, place: JwksPlace) -> Result<Arc<Jwks>, FetchError> {
        let text = timeout(FETCH_TIME, self.document(place)).await;
        let text = text.unwrap_or(Err(FetchError::Timeout { within: FETCH_TIME }))?;
        let (jwks, skipped) = Jwks::parse(&text).map_err(|source| FetchError::Keys { source })?;
        for key in skipped {
            tracing::debug!(%key, "a key of a provider is left out");
        }
        Ok(Arc::new(jwks))
    }

    async fn document(&self, place: JwksPlace) -> Result<Bytes, FetchError> {
        let ask = Ask::of(place).await?;
        let socket = connect(&ask.addresses).await?;
        if !ask.is_tls {
            return get(socket, &ask).await;
        }
        let config = roots::client(self.ca_bundle.as_deref()).await?;
        let failed = |source| FetchError::Tls { host: ask.host.clone(), source };
        let name = roots::name(&ask.host).map_err(failed)?;
        let stream = TlsConnector::from(config).connect(name, socket).await.map_err(failed)?;
        get(stream, &ask).await
    }
}

impl Ask {
    async fn of(place: JwksPlace) -> Result<Self, FetchError> {
        match place {
            JwksPlace::Uri(uri) => Self::uri(&uri).await,
            JwksPlace::Endpoints { addresses, host, path } => {
                let path = PathAndQuery::try_from(&*path);
                let path = path.map_err(|source| FetchError::Url { source: source.into() })?;
                let host = host.to_string();
                Ok(Self { authority: host.clone(), host, path, addresses, is_tls: false })
            }
        }
    }

    async fn uri(text: &str) -> Result<Self, FetchError> {
        let uri = Uri::try_from(text).map_err(|source| FetchError::Url { source: source.into() })?;
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        // A literal address of IPv6 is in brackets.
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let found = lookup_host((host.as_str(), port)).await;
        let addresses = found.map_err(|source| FetchError::Name { host: host.clone(), source })?.collect();
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { host, authority, path, addresses, is_tls })
    }
}

/// To the first that answers; each gets its share of the time.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let share = FETCH_TIME / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX);
    let mut last = FetchError::Nobody;
    for &to in addresses {
        match timeout(share, TcpStream::connect(to)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(source)) => last = FetchError::Connect { to, source },
            Err(late) => last = FetchError::Connect { to, source: late.into() },
        }
    }
    Err(last)
}

async fn get<IO>(io: IO, ask: &Ask) -> Result<Bytes, FetchError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(ask.path.as_str())
        .header(HOST, &ask.authority)
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static(concat!("weft/", env!("CARGO_PKG_VERSION"))))
        .body(Full::default())
        .map_err(|source| FetchError::Url { source })?;
    let (status, body) = exchange(io, request, LARGEST).await.map_err(|error| match error {
        Broken::Request(source) => FetchError::Url { source },
        Broken::Http(source) => FetchError::Http { source },
        Broken::TooLarge { .. } => FetchError::TooLarge,
    })?;
    if status == StatusCode::OK { Ok(body) } else { Err(FetchError::Status { status }) }
}
