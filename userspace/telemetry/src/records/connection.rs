//! A connection through the proxy.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_abi::Reason;
use weft_model::{ObjectName, ServiceAccount};

use super::{Destination, Rule, Security, is_default, reason, shared};

/// A connection, from accept to close.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// What tells it from all other connections of its proxy; 0 for one that is never told while it goes on.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub connection: u64,
    /// When it ended, in microseconds since 1970.
    #[serde(rename = "t")]
    pub ended: u64,
    /// The pod: the client, unless the connection is inbound.
    #[serde(rename = "p", deserialize_with = "shared::deserialize")]
    pub pod: ObjectName,
    /// The client's address.
    #[serde(rename = "a")]
    pub client: SocketAddr,
    /// Who was dialled; `None` where nobody knows.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<SocketAddr>,
    /// The Service behind that.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Destination>,
    /// The TLSRoute that it took.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Where its bytes went; `None` for HTTP, which has an endpoint for each request.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// How it was secured between the nodes.
    #[serde(rename = "tls", default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Of a connection that was made to `pod`: who made it. `None` where `pod` has made it.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,
    /// What was spoken.
    #[serde(rename = "k")]
    pub spoken: Spoken,
    /// How long it lasted, in microseconds.
    #[serde(rename = "l")]
    pub lasted: u64,
    /// Bytes from the client; 0 for HTTP, which counts by request.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub received: u64,
    /// Bytes to the client; as `received`.
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub sent: u64,
    /// Why it was refused or cut; `None` where either side ended it.
    #[serde(rename = "x", with = "reason", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// What is known of the client of a connection, or of a request, that was made to a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Who it has proven to be.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ServiceAccount>,
    /// The client's own proxy, on this node, tells of it, too.
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub told: bool,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Spoken {
    /// Bytes.
    #[serde(rename = "tcp")]
    Tcp,
    /// TLS that is not looked into.
    #[serde(rename = "tls")]
    Tls,
    /// HTTP/1.
    #[serde(rename = "h1")]
    Http1,
    /// HTTP/2.
    #[serde(rename = "h2")]
    Http2,
}

impl Spoken {
    /// As flows and logs show it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}
