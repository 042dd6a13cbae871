//! One kind, listed and watched for ever.
//!
//! As `kube::runtime::watcher`, which in kube 4.2 begins a list by watch anew without a word when the connection
//! breaks in the middle of it, so that what was deleted meanwhile is never missed, and which asks a server
//! that refuses such lists the same again and again.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use weft_runtime::Backoff;

use super::{
    server::{Event, Server, Start},
    trouble::Trouble,
};

/// What is told of a kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// All that there is follows, from the beginning.
    Listing,
    /// All that there is was told.
    Listed,
    /// An object is like this.
    Is(Value),
    /// It is gone.
    Was(Value),
    /// The server answers.
    Answered,
    /// It does not, or not as it should.
    Failed(Trouble),
}

/// Whom it is told: the kind's number goes with it.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) id: u64,
    pub(super) to: mpsc::Sender<(u64, Told)>,
}

/// Nobody listens any more.
struct Deaf;

/// Tells `listener` of all that `server` has, until nobody listens.
pub(super) async fn follow(server: &dyn Server, listener: &Listener) {
    let mut following = Following { server, listener, known: None, streams: true };
    let mut backoff = Backoff::new(SHORTEST, LONGEST);
    loop {
        let began = Instant::now();
        let Ok(ended) = following.once().await else { return };
        let lasted = began.elapsed() >= STEADY;
        if lasted {
            backoff.reset();
        }
        match ended {
            // The server's own time is up: go on.
            Ok(()) if lasted => {}
            Ok(()) => backoff.wait().await,
            Err(Trouble::NoStreamedLists(why)) => {
                tracing::info!(why, "lists are asked for in parts");
                following.streams = false;
            }
            Err(Trouble::Expired) => {
                following.known = None;
                backoff.wait().await;
            }
            Err(trouble) => {
                if following.tell(Told::Failed(trouble)).await.is_err() {
                    return;
                }
                backoff.wait().await;
            }
        }
    }
}

struct Following<'s> {
    server: &'s dyn Server,
    listener: &'s Listener,
    /// The version up to which all is told.
    known: Option<String>,
    /// Whether lists are asked for by watch.
    streams: bool,
}

impl Following<'_> {
    /// Lists if need be, then watches until that ends.
    async fn once(&mut self) -> Result<Result<(), Trouble>, Deaf> {
        let start = match self.known.clone() {
            Some(version) => Start::After(version),
            None if self.streams => Start::Everything,
            None => match self.list().await? {
                Ok(version) => Start::After(version),
                Err(trouble) => return Ok(Err(trouble)),
            },
        };
        let mut events = match self.server.watch(start.clone()).await {
            Ok(events) => events,
            Err(trouble) => return Ok(Err(trouble)),
        };
        let begun = if start == Start::Everything { Told::Listing } else { Told::Answered };
        self.tell(begun).await?;
        loop {
            let Ok(event) = timeout(SILENCE, events.next()).await else {
                // Marks come every minute: the connection is dead, and nobody has said so.
                return Ok(Ok(()));
            };
            match event {
                None => return Ok(Ok(())),
                Some(Err(trouble)) => return Ok(Err(trouble)),
                Some(Ok(event)) => self.take(event).await?,
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), Deaf> {
        match event {
            Event::Is(object) => {
                self.reached(&object);
                self.tell(Told::Is(object)).await
            }
            Event::Was(object) => {
                self.reached(&object);
                self.tell(Told::Was(object)).await
            }
            Event::Mark { version, complete } => {
                let listed = complete && self.known.is_none();
                if listed || self.known.is_some() {
                    self.known = Some(version);
                }
                self.tell(if listed { Told::Listed } else { Told::Answered }).await
            }
        }
    }

    /// All parts of the list; the version to watch from.
    async fn list(&mut self) -> Result<Result<String, Trouble>, Deaf> {
        let mut after = None;
        loop {
            let first = after.is_none();
            let page = match self.server.list(after).await {
                Ok(page) => page,
                Err(trouble) => return Ok(Err(trouble)),
            };
            if first {
                self.tell(Told::Listing).await?;
            }
            for object in page.objects {
                self.tell(Told::Is(object)).await?;
            }
            after = page.after;
            if after.is_none() {
                self.tell(Told::Listed).await?;
                self.known = Some(page.version.clone());
                return Ok(Ok(page.version));
            }
        }
    }

    /// Of a list by watch, versions are in no order: only its end is one to go on from.
    fn reached(&mut self, object: &Value) {
        if let (Some(known), Some(version)) =
            (&mut self.known, object.pointer("/metadata/resourceVersion").and_then(Value::as_str))
        {
            version.clone_into(known);
        }
    }

    async fn tell(&self, told: Told) -> Result<(), Deaf> {
        self.listener.to.send((self.listener.id, told)).await.map_err(|_| Deaf)
    }
}

/// Waits between tries that fail: client-go's choice.
const SHORTEST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);
/// What has lasted for so long was no failure.
const STEADY: Duration = Duration::from_secs(5);
/// An API server marks where a quiet watch is once a minute. One that is silent for longer is asked anew: that costs one
/// request, and a connection whose other end has vanished is found out long before its time is up.
const SILENCE: Duration = Duration::from_secs(150);

#[cfg(test)]
mod tests;
