//! A connection through the proxy that goes on.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use weft_model::ObjectName;

use super::{Destination, Inbound, Security, is_default, shared};

/// A connection whose bytes are relayed, as far as it has come. Told a second after it began, and every few seconds while
/// bytes move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// What tells it from all other connections of its proxy; [`super::ConnectionRecord::connection`] when it ends.
    #[serde(rename = "n")]
    pub connection: u64,
    /// When it began, in microseconds since 1970.
    #[serde(rename = "t")]
    pub began: u64,
    /// The pod: the client, unless the connection is inbound.
    #[serde(rename = "p", deserialize_with = "shared::deserialize")]
    pub pod: ObjectName,
    /// The client's address.
    #[serde(rename = "a")]
    pub client: SocketAddr,
    /// Who was dialled.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<SocketAddr>,
    /// The Service behind that.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Destination>,
    /// Where its bytes go.
    #[serde(rename = "e")]
    pub endpoint: SocketAddr,
    /// How it is secured between the nodes.
    #[serde(rename = "tls", default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// Of a connection that was made to `pod`: who made it. `None` where `pod` has made it.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,
    /// Of one that shares a connection between the nodes with others: whom the app has as its peer.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
    /// Bytes from the client, so far.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub received: u64,
    /// Bytes to the client, so far.
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub sent: u64,
}
