//! The watches that run, one for each kind.

use std::{collections::BTreeMap, fmt};

use futures_util::{
    StreamExt as _,
    future::{AbortHandle, BoxFuture, abortable},
    stream::FuturesUnordered,
};
use kube::Client;
use tokio::sync::mpsc;

use super::{
    follow::{Listener, Told, follow},
    resource::Resource,
    server::Remote,
};
use crate::object::Kind;

/// What is watched: a kind, or (`None`) which kinds there are.
pub(super) type Of = Option<Kind>;

/// Everything that is watched at an API server.
pub(super) struct Watches {
    client: Client,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    watched: BTreeMap<Of, Watch>,
    /// Whom the number of a watch stands for: what was told before it ended is no news.
    numbers: BTreeMap<u64, Of>,
    next: u64,
    to: mpsc::Sender<(u64, Told)>,
    from: mpsc::Receiver<(u64, Told)>,
}

struct Watch {
    number: u64,
    api_version: String,
    abort: AbortHandle,
}

impl Watches {
    /// None yet.
    pub(super) fn new(client: Client) -> Self {
        let (to, from) = mpsc::channel(MOST_WAITING);
        let (running, watched, numbers) = (FuturesUnordered::new(), BTreeMap::new(), BTreeMap::new());
        Self { client, running, watched, numbers, next: 0, to, from }
    }

    /// Watches `of`, in place of what was watched for it.
    pub(super) fn start(&mut self, of: Of, resource: Resource) {
        self.stop(of);
        let number = self.next;
        self.next += 1;
        let api_version = resource.api_version.clone();
        let (server, listener) = (Remote::new(self.client.clone(), resource), self.listener(number));
        let (running, abort) = abortable(async move { follow(&server, &listener).await });
        self.running.push(Box::pin(async {
            // Stopped, which whoever stopped it knows.
            let _ = running.await;
        }));
        self.watched.insert(of, Watch { number, api_version, abort });
        self.numbers.insert(number, of);
    }

    /// Watches `of` no longer.
    pub(super) fn stop(&mut self, of: Of) {
        if let Some(watch) = self.watched.remove(&of) {
            watch.abort.abort();
            self.numbers.remove(&watch.number);
        }
    }

    /// The version in which `of` is watched.
    pub(super) fn version(&self, of: Of) -> Option<&str> {
        self.watched.get(&of).map(|watch| watch.api_version.as_str())
    }

    /// The kinds that are watched.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.watched.keys().filter_map(|of| *of)
    }

    /// The next that is told, and what more is there without waiting for it, in order.
    pub(super) async fn next(&mut self) -> Vec<(Of, Told)> {
        let mut news = Vec::new();
        while news.is_empty() {
            let first = tokio::select! {
                Some(()) = self.running.next() => continue,
                Some(told) = self.from.recv() => told,
            };
            self.hear(first, &mut news);
            while news.len() < MOST_AT_ONCE
                && let Ok(told) = self.from.try_recv()
            {
                self.hear(told, &mut news);
            }
        }
        news
    }

    fn hear(&self, (number, told): (u64, Told), news: &mut Vec<(Of, Told)>) {
        news.extend(self.numbers.get(&number).map(|of| (*of, told)));
    }

    fn listener(&self, id: u64) -> Listener {
        Listener { id, to: self.to.clone() }
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("watched", &self.watched.keys()).finish_non_exhaustive()
    }
}

/// Objects that wait to be taken over: a server that is faster has to wait.
const MOST_WAITING: usize = 512;
/// News that are published together.
const MOST_AT_ONCE: usize = 1024;
