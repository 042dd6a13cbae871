//! `weft get connections`.

use std::fmt;

use serde::{Deserialize, Serialize};
use weft_model::Protocol;

use super::{Destination, Path, Source};

macro_rules! unprotected {
    ($($(#[doc = $doc:literal])* $variant:ident;)*) => {
        /// Why a connection of an enrolled pod missed the mesh: one closed list, the same words in the command line and
        /// in `weft_unprotected_connections`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Unprotected {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Unprotected {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What it means, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

unprotected! {
    /// It is older than its pod's enrolment, as far as this agent knows. It is protected once the app connects anew.
    OlderThanEnrolment;
    /// Its process is outside the cgroup that the programs are attached to, such as one that has entered the pod's
    /// network from the host: no hook sees it.
    HostPath;
    /// Another eBPF program holds a hook, or has sent the connection elsewhere after weft had decided.
    ForeignHook;
    /// No hook saw it begin, and it is not older than its pod's enrolment: its pod could not be enrolled, or there was no
    /// room to remember it.
    Unmanaged;
    /// Both ends are enrolled pods, on two nodes, and it is in clear: it is older than the mode that asks for mutual TLS.
    OlderThanMutualTls;
    /// Its client is not proven to be an enrolled pod, and it is in clear. Strict refuses it.
    ClientOutside;
}

impl fmt::Display for Unprotected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

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
    /// False for a connection that no hook saw begin.
    pub managed: bool,
    /// Why the mesh neither proves who its client is nor encrypts it; `null` for one that it protects.
    #[serde(default)]
    pub unprotected: Option<Unprotected>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_word_with_its_meaning() {
        let page = include_str!("../../../../docs/strict.md").replace('\n', " ");
        for why in Unprotected::ALL {
            let row = format!("| `{why}` | {} |", why.meaning());
            assert!(page.contains(&row), "docs/strict.md lacks: {row}");
        }
    }
}
