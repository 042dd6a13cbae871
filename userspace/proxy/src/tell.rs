//! Telling the agent what ended: records become batches, one under way at a time.
//!
//! ```text
//! workers ──► queue ──► gather: at once, then every 50 ms ──► a sealed batch ──► agent ──► its answer ──► the next
//! ```
//! Nothing waits for it. Records stay in the queue while the agent is away or slow; what finds no room there, is too old
//! once somebody listens again, or was under way when the agent went is lost, and counted.

mod batch;

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until, timeout};
use weft_model::ObjectName;
use weft_telemetry::records::RecordBatch;
use weft_transport::{
    handover::{self, FromAgent, Nack, NackReason, ProxyEnd},
    memfd::Sealed,
};

use crate::{
    Handle,
    account::Usage,
    observe::{Read, Reader, since_1970},
};

/// What is told, and how far that is. Every step may be dropped before its end: nothing is lost by it.
pub(crate) struct Teller {
    generation: u64,
    reader: Reader,
    /// What the next batch is made of.
    read: Read,
    batch_due: Instant,
    usage_due: Instant,
    /// What was told last of each pod.
    told: Vec<(ObjectName, Usage)>,
    /// Records that were taken from the queue and never reached an agent.
    lost: u64,
    under_way: UnderWay,
    /// This agent takes no records.
    unwanted: bool,
}

/// The one batch that may be under way, and how many records it has.
enum UnderWay {
    Nothing,
    Packed(Sealed, u64),
    Sent(u64, u64),
}

impl Teller {
    /// Tells what comes out of `reader` as the proxy `generation`.
    pub(crate) fn of(generation: u64, reader: Reader) -> Self {
        let now = Instant::now();
        Self {
            generation,
            reader,
            read: Read::default(),
            batch_due: now,
            usage_due: now,
            told: Vec::new(),
            lost: 0,
            under_way: UnderWay::Nothing,
            unwanted: false,
        }
    }

    /// An agent is there.
    pub(crate) fn met(&mut self, handle: &Handle) {
        self.unwanted = false;
        // A new one knows of no pod what it has used, and of no connection.
        handle.tell_anew();
        self.told.clear();
        self.usage_due = Instant::now();
    }

    /// The agent is gone. What it had not answered it may have counted or not.
    pub(crate) fn left(&mut self) {
        self.end_of_sent(true);
    }

    /// Does the next step: gathers a batch, or sends it. Never returns while an answer is due.
    pub(crate) async fn step(&mut self, handle: &Handle, agent: &ProxyEnd) -> Result<(), handover::Error> {
        if self.unwanted {
            return std::future::pending().await;
        }
        match &self.under_way {
            UnderWay::Nothing => {
                self.gather().await;
                self.pack(handle, agent.takes_alike());
                Ok(())
            }
            UnderWay::Packed(batch, records) => {
                let id = agent.records(batch).await?;
                self.under_way = UnderWay::Sent(id, *records);
                Ok(())
            }
            UnderWay::Sent(..) => std::future::pending().await,
        }
    }

    /// The agent has counted a batch.
    pub(crate) fn taken(&mut self, of: u64) {
        if matches!(self.under_way, UnderWay::Sent(id, _) if id == of) {
            self.end_of_sent(false);
        }
    }

    /// The agent has refused a message; perhaps a batch.
    pub(crate) fn refused(&mut self, nack: &Nack) {
        if matches!(self.under_way, UnderWay::Sent(id, _) if id == nack.of) {
            self.end_of_sent(true);
            self.unwanted = nack.reason == NackReason::UnknownKind;
        }
    }

    /// Tells what is left before the proxy ends, if the agent takes it within a second.
    pub(crate) async fn finish(&mut self, handle: &Handle, agent: &ProxyEnd) {
        self.usage_due = Instant::now();
        // The proxy ends either way.
        let _ = timeout(LAST, self.tell_rest(handle, agent)).await;
    }

    async fn tell_rest(&mut self, handle: &Handle, agent: &ProxyEnd) -> Result<(), handover::Error> {
        loop {
            if matches!(self.under_way, UnderWay::Nothing) {
                self.reader.read(&mut self.read);
                self.pack(handle, agent.takes_alike());
            }
            match self.under_way {
                UnderWay::Nothing => return Ok(()),
                UnderWay::Packed(..) => self.step(handle, agent).await?,
                UnderWay::Sent(..) => match agent.receive().await? {
                    Some((_, FromAgent::Ack { of })) => self.taken(of),
                    Some((_, FromAgent::Nack(nack))) => self.refused(&nack),
                    Some(_) => {}
                    None => return Ok(()),
                },
            }
            if self.unwanted {
                return Ok(());
            }
        }
    }

    /// Waits until there is something to tell, and it is time.
    async fn gather(&mut self) {
        tokio::select! {
            () = self.reader.wait(&mut self.read) => {}
            () = sleep_until(self.usage_due) => return,
        }
        // Nobody waits for a record now: it is put down without waking this thread.
        if !self.reader.has_batch() {
            sleep_until(self.batch_due).await;
        }
        self.reader.read(&mut self.read);
    }

    /// Makes a batch of what was gathered and what pods have used, if that is news.
    fn pack(&mut self, handle: &Handle, alike: bool) {
        let now = Instant::now();
        let mut usage = Vec::new();
        if now >= self.usage_due {
            self.usage_due = now + USAGE;
            let used = handle.report().pods;
            if used != self.told {
                usage = batch::usage(&used);
                self.told = used;
            }
        }
        if self.read.is_empty() && usage.is_empty() {
            return;
        }
        self.batch_due = now + PERIOD;
        let oldest = SystemTime::now().checked_sub(OLDEST).unwrap_or(SystemTime::UNIX_EPOCH);
        let Read { mut requests, mut others } = std::mem::take(&mut self.read);
        let before = others.len();
        others.retain(|record| record.ended() >= oldest);
        self.lost += (before - others.len() + requests.forget_before(since_1970(oldest))) as u64;
        let records = (requests.requests() + others.len()) as u64;
        let lost = self.lost.saturating_add(self.reader.dropped());
        let head = RecordBatch { generation: self.generation, usage, lost, ..RecordBatch::default() };
        let bytes = batch::of(Read { requests, others }, head, alike).to_bytes();
        match Sealed::of(&bytes) {
            Ok(sealed) => self.under_way = UnderWay::Packed(sealed, records),
            Err(error) => {
                self.lost += records;
                tracing::warn!(%error, records, "records are lost");
            }
        }
    }

    fn end_of_sent(&mut self, lost: bool) {
        if let UnderWay::Sent(_, records) = self.under_way {
            self.under_way = UnderWay::Nothing;
            self.lost += if lost { records } else { 0 };
        }
    }
}

/// Between two batches that are not full.
const PERIOD: Duration = Duration::from_millis(50);
/// Between two looks at what pods have used.
const USAGE: Duration = Duration::from_secs(1);
/// A record that has waited for an agent for longer is nobody's news: rates are those of the last minute.
const OLDEST: Duration = Duration::from_mins(1);
/// How long a proxy that has drained waits for the agent to take its last records.
const LAST: Duration = Duration::from_secs(1);

#[cfg(test)]
pub(crate) mod tests {
    use weft_telemetry::records::RequestRecord;
    use weft_transport::handover::LARGEST_RECORDS;

    use super::*;
    use crate::observe::MOST;

    /// Some request.
    pub(crate) fn request() -> RequestRecord {
        RequestRecord { tries: 1, ..batch::tests::largest() }
    }

    #[test]
    fn the_largest_batch_is_one_that_the_agent_takes() {
        for alike in [true, false] {
            // Each unlike the one before.
            let mut read = Read::default();
            for tries in (0..).take(MOST) {
                read.requests.add(&RequestRecord { tries: u32::MAX - tries, ..batch::tests::largest() });
                read.others.push(batch::tests::largest_connection());
            }
            let pod = (
                batch::tests::longest_name(),
                Usage { busy_ns: u64::MAX, sent: u64::MAX, ..Usage::default() },
            );
            let usage = batch::usage(&vec![pod; 1])[0].clone();
            let head = RecordBatch { usage: vec![usage; handover::MOST_PODS], ..RecordBatch::default() };
            let bytes = batch::of(read, head, alike).to_bytes();
            assert!(bytes.len() <= LARGEST_RECORDS, "{} bytes", bytes.len());
            RecordBatch::read(&bytes).unwrap();
        }
    }
}
