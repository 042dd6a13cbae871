//! `weft get connections`.

use serde::{Deserialize, Serialize};
use weft_model::Protocol;

use super::{Destination, Path, Source};

/// A live connection of an enrolled pod of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its state, as `ss` shows it: `ESTAB`, `SYN-SENT`, ...
    pub state: String,
    /// The way that its bytes take.
    pub path: Path,
    /// False for a connection that is older than its pod's enrolment.
    pub managed: bool,
    /// The client.
    pub source: Source,
    /// The server.
    pub destination: Destination,
    /// Payload from client to server, so far.
    pub bytes_sent: Option<u64>,
    /// Payload from server to client, so far.
    pub bytes_received: Option<u64>,
    /// Since it was made.
    pub duration_ms: Option<u64>,
    /// Smoothed round-trip time.
    pub rtt_us: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
}
