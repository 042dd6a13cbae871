//! One connection to one proxy: tells it what it should have and lacks, and hands on what it tells.

use std::convert::Infallible;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use weft_runtime::Stop;
use weft_transport::handover::{AgentEnd, Error, FromProxy, Hello, Nack, NackReason, Pod};
use weft_transport::memfd::Sealed;
use weft_transport::seqpacket::Connection;

use crate::Maps;
use crate::counting::Counting;
use crate::event::{Event, Met};
use crate::given::{Given, Progress, Step};
use crate::wishes::Wishes;

/// Speaks with whoever has connected, until one of them is gone.
pub(crate) async fn run(
    number: u64,
    connection: Connection,
    ours: Hello,
    events: mpsc::Sender<Event>,
    counting: Counting,
    stop: Stop,
) -> Result<(), Infallible> {
    tokio::select! {
        // The keeper ends only when the agent does.
        _ = speak(number, connection, &ours, &events, counting) => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

async fn speak(
    session: u64,
    connection: Connection,
    ours: &Hello,
    events: &mpsc::Sender<Event>,
    counting: Counting,
) -> Result<(), mpsc::error::SendError<Event>> {
    let (end, pods) = match greet(connection, ours).await {
        Ok(met) => met,
        Err(error) => return events.send(Event::Unmet { error }).await,
    };
    let (wishes, following) = watch::channel(None);
    let given = Given::handed_back(pods.iter().map(|pod| pod.cookie), end.takes_identities());
    let (hello, version) = (end.peer().clone(), end.version());
    events.send(Event::Met(Box::new(Met { session, hello, version, pods, wishes }))).await?;
    let told = Progress::default();
    let error = Session { number: session, end, given, owed: None, told, counting }.follow(following, events);
    let error = error.await?.err();
    events.send(Event::Ended { session, error }).await
}

async fn greet(connection: Connection, ours: &Hello) -> Result<(AgentEnd, Vec<Pod>), Error> {
    let end = AgentEnd::greet(connection, ours).await?;
    let pods = end.take_back().await?;
    Ok((end, pods))
}

struct Session {
    number: u64,
    end: AgentEnd,
    given: Given,
    /// Since when it owes an answer and says nothing.
    owed: Option<Instant>,
    /// What the keeper knows.
    told: Progress,
    counting: Counting,
}

type Told<T> = Result<T, mpsc::error::SendError<Event>>;

impl Session {
    /// Until the proxy is gone, or the keeper has no wishes any more.
    async fn follow(
        mut self,
        mut wishes: watch::Receiver<Option<Wishes>>,
        events: &mpsc::Sender<Event>,
    ) -> Told<Result<(), Error>> {
        let (mut again, mut knock) = (interval(AGAIN), interval(KNOCK));
        for timer in [&mut again, &mut knock] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let wanted = wishes.borrow_and_update().clone();
            self.tell(wanted.as_ref(), events).await?;
            let step = wanted.as_ref().and_then(|wanted| self.given.next(wanted));
            // `wanted` holds namespaces open, and what follows may take long.
            let said = Said::of(wanted, step);
            tokio::select! {
                // A step that is not said yet when the wishes change may be wrong by now.
                changed = wishes.changed() => if changed.is_err() { return Ok(Ok(())) },
                sent = send(&self.end, said.as_ref()), if said.is_some() => match (sent, said) {
                    (Ok(id), Some(said)) => {
                        self.given.sent(id, &said.step);
                        self.owed.get_or_insert_with(Instant::now);
                    }
                    (Err(error), _) => return Ok(Err(error)),
                    (_, None) => {}
                },
                came = self.end.receive() => match came {
                    Ok(Some(message)) => if let Err(error) = self.take(message).await {
                        return Ok(Err(error));
                    },
                    Ok(None) => return Ok(Ok(())),
                    Err(error) => return Ok(Err(error)),
                },
                _ = again.tick() => self.given.ask_again(),
                _ = knock.tick() => self.given.knock(),
            }
        }
    }

    async fn take(&mut self, message: FromProxy) -> Result<(), Error> {
        match message {
            FromProxy::Ack { of } => self.given.acked(of),
            FromProxy::Nack(nack) => self.given.nacked(&nack),
            FromProxy::Report(report) => self.given.reported(report),
            // No sign of life of who owes an answer: it is said beside everything else.
            FromProxy::Records { id, bytes } => return self.count(id, bytes).await,
            FromProxy::Unfit(nack) => self.end.answer(nack).await?,
        }
        self.owed = self.given.owes_an_answer().then(Instant::now);
        Ok(())
    }

    /// Hands a batch of records on; what is none is refused, and lost.
    async fn count(&self, id: u64, bytes: Sealed) -> Result<(), Error> {
        match self.counting.count(self.end.peer().generation, bytes).await {
            Ok(()) => self.end.ack(id).await,
            Err(error) => {
                let error = error.to_string();
                tracing::warn!(pid = self.end.peer().pid, error, "records of a proxy are lost");
                self.end.answer(Nack { of: id, reason: NackReason::Failed, error }).await
            }
        }
    }

    async fn tell(&mut self, wishes: Option<&Wishes>, events: &mpsc::Sender<Event>) -> Told<()> {
        let silent = self.owed.is_some_and(|since| since.elapsed() > SILENCE);
        let progress = Progress { silent, ..self.given.progress(wishes) };
        if progress == self.told {
            return Ok(());
        }
        self.told = progress.clone();
        events.send(Event::Progress { session: self.number, progress }).await
    }
}

/// A step, and the little of the wishes that it takes to say it.
struct Said {
    step: Step,
    maps: Arc<Maps>,
    within: Duration,
}

impl Said {
    fn of(wishes: Option<Wishes>, step: Option<Step>) -> Option<Self> {
        let wishes = wishes?;
        Some(Self { step: step?, maps: wishes.maps, within: wishes.drain.unwrap_or_default() })
    }
}

async fn send(end: &AgentEnd, said: Option<&Said>) -> Result<u64, Error> {
    let Some(Said { step, maps, within }) = said else { return std::future::pending().await };
    match step {
        Step::Maps => end.maps(maps.origins.as_fd(), maps.lease.as_fd()).await,
        Step::OlderMaps(older) => {
            let pairs: Vec<_> =
                older.maps.iter().map(|maps| [maps.origins.as_fd(), maps.lease.as_fd()]).collect();
            end.older_maps(&pairs).await
        }
        Step::Identities(identities) => end.identities(identities.version, &identities.bytes).await,
        Step::Snapshot(snapshot) => end.snapshot(snapshot.version, &snapshot.bytes).await,
        Step::Pod(lent) => end.pod(&lent.pod).await,
        Step::PodGone(cookie) => end.pod_gone(*cookie).await,
        Step::Drain => end.drain(*within).await,
    }
}

/// Between two tries to give a proxy what it refused.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two questions whether it still answers.
const KNOCK: Duration = Duration::from_secs(1);
/// A proxy that owes an answer for so long hangs. Its lease has run out by then.
const SILENCE: Duration = Duration::from_secs(10);
