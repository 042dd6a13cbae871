//! What the keeper is told by its sessions and processes.

use tokio::sync::watch;
use weft_transport::handover::{self, Hello, Pod};

use crate::given::Progress;
use crate::wishes::Wishes;

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A proxy has said hello and handed back what it holds.
    Met(Box<Met>),
    /// Somebody connected with whom nothing can be said.
    Unmet {
        /// Why.
        error: handover::Error,
    },
    /// A proxy has answered.
    Progress {
        /// Its session.
        session: u64,
        /// What it has now.
        progress: Progress,
    },
    /// A connection to a proxy has ended.
    Ended {
        /// The session.
        session: u64,
        /// Why, unless the proxy has just closed it.
        error: Option<handover::Error>,
    },
    /// A process that was started has ended.
    Exited {
        /// Its number.
        pid: u32,
        /// In words: `ended with exit status: 1`.
        ending: String,
    },
}

/// A proxy that can be spoken with.
#[derive(Debug)]
pub(crate) struct Met {
    /// Number of the session.
    pub session: u64,
    /// What the proxy said about itself.
    pub hello: Hello,
    /// The version of the protocol.
    pub version: u32,
    /// What it has handed back.
    pub pods: Vec<Pod>,
    /// How to tell the session what the proxy should have.
    pub wishes: watch::Sender<Option<Wishes>>,
}
