//! One flow: a connection, or a datagram exchange, that was opened, closed or refused.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use weft_model::{Protocol, RouteName};

use super::Time;

/// What happened to one connection. One line of `weft observe`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// When it happened.
    pub time: Time,
    /// What was decided.
    pub verdict: Verdict,
    /// What happened.
    pub kind: FlowKind,
    /// Why it was refused, or would have been; `null` when it was not.
    pub reason: Option<Cow<'static, str>>,
    /// The way that its bytes take.
    pub path: Path,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client.
    pub source: Source,
    /// The server.
    pub destination: Destination,
    /// Payload from client to server, so far.
    pub bytes_sent: u64,
    /// Payload from server to client, so far.
    pub bytes_received: u64,
    /// Since the connection was made.
    pub duration_ms: u64,
    /// The policy rule that decided, like `DENY shop/api-deny[0]`.
    pub rule: Option<Arc<str>>,
    /// Smoothed round-trip time.
    pub rtt_us: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
    /// The request, where this is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Box<HttpFlow>>,
}

/// A request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpFlow {
    /// The method.
    pub method: Arc<str>,
    /// The path, without the query.
    pub path: Arc<str>,
    /// The answer's status; 0 where there was none.
    pub status: u16,
    /// From the request's head to the answer's end.
    pub latency_ms: f64,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Cow<'static, str>,
    /// The host that was asked for.
    pub authority: Arc<str>,
    /// `grpc-status`, where it is a gRPC call that was answered.
    pub grpc_status: Option<u32>,
    /// The route that it took, like `HTTPRoute shop/web`.
    pub route: Option<RouteName>,
    /// Envoy's short flags; `-` for none.
    pub response_flags: Cow<'static, str>,
}

/// One line of the answer to a question for flows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FlowLine {
    /// So many flows came faster than the reader took them.
    Missed {
        /// How many.
        missed: u64,
    },
    /// A flow.
    Flow(Arc<Flow>),
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// It was let through.
    Forwarded,
    /// It was refused.
    Denied,
    /// It was let through; a policy in audit mode would have refused it.
    Audit,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowKind {
    /// It was established.
    Opened,
    /// It ended.
    Closed,
    /// It never came to be.
    Refused,
    /// It was a request, which ended.
    Request,
    /// It was let through where a policy in audit mode would have refused it.
    Audited,
}

/// The way that a connection's bytes take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The app's socket talks to the backend.
    Kernel,
    /// As `kernel`, and the sockets of both ends, on one node, hand bytes to each other.
    Accelerated,
    /// The node's proxy is between them.
    Http,
    /// The proxies of both nodes are between them, and between those is mutual TLS.
    Tls,
}

/// The client's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Namespace of the pod.
    pub namespace: Option<Arc<str>>,
    /// The pod.
    pub pod: Option<Arc<str>>,
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its SPIFFE ID, where it is attested.
    pub identity: Option<Arc<str>>,
}

/// The server's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Namespace of the pod, else of the Service.
    pub namespace: Option<Arc<str>>,
    /// The pod.
    pub pod: Option<Arc<str>>,
    /// The Service that was dialled.
    pub service: Option<Arc<str>>,
    /// The address that the connection went to, or would have.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its SPIFFE ID.
    pub identity: Option<Arc<str>>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarded => "FORWARDED",
            Self::Denied => "DENIED",
            Self::Audit => "AUDIT",
        })
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Forwarded, Self::Denied, Self::Audit]
            .into_iter()
            .find(|verdict| verdict.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "a verdict is FORWARDED, DENIED or AUDIT".to_owned())
    }
}

impl fmt::Display for FlowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Request => "request",
            Self::Audited => "audited",
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Accelerated => "accelerated",
            Self::Http => "http",
            Self::Tls => "tls",
        })
    }
}
