//! The thread that counts what the proxies tell.
//!
//! It gives way to their workers: a batch of 512 records is a millisecond of work, and on a core that has no idle time
//! the requests under way would wait for it until the scheduler's slice is over. What comes faster than it is counted
//! waits in the proxy, and what finds no room there is lost and counted.

use std::sync::Arc;

use rustix::process::nice;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use weft_telemetry::records::{RecordBatch, Unreadable};
use weft_transport::memfd::{self, Sealed};

use crate::Records;

/// Hands batches to the thread. It ends with the last of these.
#[derive(Clone)]
pub(crate) struct Counting(mpsc::Sender<Batch>);

struct Batch {
    generation: u64,
    bytes: Sealed,
    counted: oneshot::Sender<Result<(), Uncounted>>,
}

/// Why a batch is lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Uncounted {
    #[error(transparent)]
    Memory(#[from] memfd::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the thread that counts has ended; the agent's log says why")]
    Ended,
}

impl Counting {
    /// Starts the thread: one of the runtime's, for as long as the agent lives.
    pub(crate) fn start(records: Arc<dyn Records>) -> Self {
        // Each proxy has one batch under way.
        let (batches, waiting) = mpsc::channel(1);
        spawn_blocking(move || run(waiting, &*records));
        Self(batches)
    }

    /// Counts what the proxy `generation` has told.
    pub(crate) async fn count(&self, generation: u64, bytes: Sealed) -> Result<(), Uncounted> {
        let (counted, answer) = oneshot::channel();
        self.0.send(Batch { generation, bytes, counted }).await.map_err(|_| Uncounted::Ended)?;
        answer.await.map_err(|_| Uncounted::Ended)?
    }
}

fn run(mut waiting: mpsc::Receiver<Batch>, records: &dyn Records) {
    // On Linux this is the thread's own. Anybody may be nicer.
    if let Err(error) = nice(NICER) {
        tracing::debug!(%error, "records are counted as urgently as requests are served");
    }
    while let Some(Batch { generation, bytes, counted }) = waiting.blocking_recv() {
        // A session that has ended needs no answer.
        let _ = counted.send(count(generation, &bytes, records));
    }
}

fn count(generation: u64, bytes: &Sealed, records: &dyn Records) -> Result<(), Uncounted> {
    let batch = RecordBatch::read(&bytes.read()?)?;
    records.take(RecordBatch { generation, ..batch });
    Ok(())
}

/// A third of the others' share of a core: about what it takes to count all that the others serve.
const NICER: i32 = 5;
