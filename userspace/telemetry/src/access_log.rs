//! The access log: a line for each request that a TelemetryPolicy wants logged.
//!
//! Lines wait in a bounded queue for whoever writes them; what does not fit is counted, and no record waits.

mod line;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use weft_model::{AccessLog, LogFormat, LogNumber, LogText, Snapshot};

use crate::{
    pods::Pod,
    records::{Alike, RequestRecord},
};

/// Where lines are put.
#[derive(Debug)]
pub(crate) struct Sink {
    queue: mpsc::Sender<String>,
    lost: AtomicU64,
}

/// The lines, for [`Lines::write`].
#[derive(Debug)]
pub struct Lines {
    queue: mpsc::Receiver<String>,
}

/// A request with both ends, as the log sees it.
pub(crate) struct Logged<'a> {
    pub(crate) record: &'a RequestRecord,
    pub(crate) source: Option<&'a Pod>,
    pub(crate) destination: Option<&'a Pod>,
}

/// A queue for [`WAITING`] lines.
pub(crate) fn queue() -> (Sink, Lines) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Sink { queue: sender, lost: AtomicU64::new(0) }, Lines { queue: receiver })
}

impl Sink {
    /// Writes those of the requests that the client's log or that of a server of this node wants.
    pub(crate) fn take(
        &self,
        alike: &Alike,
        source: Option<&Pod>,
        destination: Option<&Pod>,
        snapshot: &Snapshot,
    ) {
        if snapshot.access_logs.is_empty() {
            return;
        }
        let server = destination.map(|pod| &pod.workload.name);
        let logs = [Some(&alike.like().pod), server].into_iter().flatten();
        let logs: Vec<_> = logs.filter_map(|pod| snapshot.access_logs.get(pod)).collect();
        if logs.is_empty() {
            return;
        }
        for record in alike.records() {
            self.write(&Logged { record: &record, source, destination }, &logs);
        }
    }

    fn write(&self, request: &Logged<'_>, logs: &[&Arc<AccessLog>]) {
        let Some(log) = logs.iter().find(|log| request.is_wanted(log)) else { return };
        let line = match log.format {
            LogFormat::Json => line::json(request),
            LogFormat::Text => line::text(request),
        };
        if self.queue.try_send(line).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Lines that were not written, because nobody took them in time.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

impl Lines {
    /// Writes lines to `out` as they come, until the agent's observer is gone.
    ///
    /// # Errors
    /// `out` takes no more.
    pub async fn write(mut self, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut lines = Vec::new();
        while self.queue.recv_many(&mut lines, AT_ONCE).await > 0 {
            out.write_all(lines.concat().as_bytes()).await?;
            out.flush().await?;
            lines.clear();
        }
        Ok(())
    }
}

impl Logged<'_> {
    fn is_wanted(&self, log: &AccessLog) -> bool {
        let Some(filter) = &log.filter else { return true };
        let record = self.record;
        let number = |attribute| match attribute {
            LogNumber::ResponseCode => record.status.into(),
            LogNumber::GrpcStatus => record.grpc_status.unwrap_or_default().into(),
            LogNumber::Duration => record.lasted,
            LogNumber::RequestSize => record.received,
            LogNumber::ResponseSize => record.sent,
        };
        let service = record.service.as_ref().map(|service| &service.0);
        let text = |attribute| match attribute {
            LogText::Method => &*record.method,
            LogText::Path => &*record.path,
            LogText::Host => &*record.authority,
            LogText::Flags => record.flags(),
            LogText::Reason => record.reason.map_or("", |reason| reason.word()),
            LogText::SourceNamespace => &record.pod.namespace,
            LogText::SourceWorkload => self.source.map_or("", |pod| &pod.workload.owner),
            LogText::DestinationNamespace => service.map_or("", |name| &name.namespace),
            LogText::DestinationService => service.map_or("", |name| &name.name),
        };
        filter.holds(&number, &text)
    }
}

/// Lines that may wait; a line is about 600 bytes.
pub const WAITING: usize = 4_096;

/// Lines that are written at once.
const AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
