//! What a request asks of the proxy itself: a path that means one thing, a tunnel, a time.

use std::{cell::Cell, time::Duration};

use http::{HeaderValue, Method, request::Parts};
use hyper::{ext::Protocol as ConnectProtocol, upgrade::OnUpgrade};

use super::Refused;
use crate::{
    Reason,
    http1::hop_by_hop,
    observe::Protocol,
    route::{grpc, path},
    serve::Client,
};

/// See the module.
pub(super) struct Asked {
    /// A WebSocket is asked for: the client's end of it.
    pub tunnel: Cell<Option<OnUpgrade>>,
    pub is_tunnel: bool,
    pub is_grpc: bool,
    pub grpc_timeout: Option<Duration>,
}

impl Asked {
    /// Reads a head, and gives its path the form in which it is compared and forwarded.
    pub(super) fn read(client: &Client, parts: &mut Parts) -> Result<Self, Refused> {
        let tunnel = tunnel(client, parts)?;
        if path::normalise_uri(&mut parts.uri).is_err() {
            return Err(Reason::PATH_INVALID.into());
        }
        let is_grpc = client.spoken == Protocol::Http2 && grpc::is_grpc(&parts.headers);
        let said = if is_grpc { parts.headers.get(grpc::TIMEOUT) } else { None };
        let grpc_timeout = match said {
            None => None,
            Some(value) => {
                let timeout = value.to_str().ok().and_then(grpc::parse_timeout);
                Some(timeout.ok_or(Reason::GRPC_TIMEOUT_INVALID)?)
            }
        };
        let is_tunnel = tunnel.is_some();
        Ok(Self { tunnel: Cell::new(tunnel), is_tunnel, is_grpc, grpc_timeout })
    }
}

/// Takes the client's end of a WebSocket, and has the request look the same for both versions of HTTP: `GET` with
/// `Upgrade`, as HTTP/1 has it.
fn tunnel(client: &Client, parts: &mut Parts) -> Result<Option<OnUpgrade>, Refused> {
    if parts.method == Method::CONNECT {
        let protocol = parts.extensions.remove::<ConnectProtocol>();
        if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
            return Err(Reason::CONNECT_UNSUPPORTED.into());
        }
        parts.method = Method::GET;
        let headers = &mut parts.headers;
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(parts.extensions.remove::<OnUpgrade>());
    }
    let asked = client.spoken == Protocol::Http1 && hop_by_hop::asks_for_websocket(&parts.headers);
    Ok(if asked { parts.extensions.remove::<OnUpgrade>() } else { None })
}
