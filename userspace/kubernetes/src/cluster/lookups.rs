//! Which kinds there are, as their `CustomResourceDefinition`s come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kube::Client;
use serde_json::Value;
use tokio::time::sleep;
use weft_runtime::Backoff;

use super::{
    definitions::served,
    follow::Told,
    resource::{OPTIONAL, Optional, Resource},
    server::Remote,
    trim,
    trouble::Trouble,
};
use crate::object::Kind;

/// What is asked about definitions, whose watch tells of their metadata alone.
pub(super) struct Lookups {
    client: Client,
    wanted: BTreeSet<Kind>,
    running: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Which question about a kind is the last one.
    last: BTreeMap<Kind, u64>,
    next: u64,
    /// The definitions that the list has named so far.
    seen: BTreeSet<Kind>,
    listed: bool,
    backoff: Backoff,
}

struct Answer {
    number: u64,
    kind: Kind,
    version: Result<Option<&'static str>, Trouble>,
}

/// A kind is there in this `apiVersion`, or is not.
pub(super) type Decided = (Kind, Option<&'static str>);

impl Lookups {
    pub(super) fn new(client: Client) -> Self {
        // Of a mesh as such, nodes need to know nothing.
        let wanted =
            OPTIONAL.iter().map(|optional| optional.kind).filter(|kind| *kind != Kind::XMesh).collect();
        Self {
            client,
            wanted,
            running: FuturesUnordered::new(),
            last: BTreeMap::new(),
            next: 0,
            seen: BTreeSet::new(),
            listed: false,
            backoff: Backoff::new(Duration::from_millis(800), Duration::from_secs(30)),
        }
    }

    /// This kind is asked for, too.
    pub(super) fn want(&mut self, kind: Kind) {
        self.wanted.insert(kind);
    }

    /// Takes over what the watch of definitions tells; what that decides at once.
    pub(super) fn take(&mut self, told: &Told) -> Vec<Decided> {
        match told {
            Told::Listing => self.seen.clear(),
            Told::Is(object) => {
                if let Some(kind) = self.kind(object) {
                    self.seen.insert(kind);
                    self.ask(kind, Duration::ZERO);
                }
            }
            Told::Was(object) => {
                if let Some(kind) = self.kind(object) {
                    self.seen.remove(&kind);
                    self.last.remove(&kind);
                    return vec![(kind, None)];
                }
            }
            Told::Listed => {
                self.listed = true;
                let missing: Vec<_> = self.wanted.difference(&self.seen).copied().collect();
                self.last.retain(|kind, _| self.seen.contains(kind));
                return missing.into_iter().map(|kind| (kind, None)).collect();
            }
            Told::Answered | Told::Failed(_) => {}
        }
        Vec::new()
    }

    /// The next that is decided, or why it cannot be; pending while nothing is asked.
    pub(super) async fn next(&mut self) -> Result<Decided, Trouble> {
        loop {
            let Some(Answer { number, kind, version }) = self.running.next().await else {
                std::future::pending::<()>().await;
                continue;
            };
            if self.last.get(&kind) != Some(&number) {
                continue;
            }
            self.last.remove(&kind);
            return match version {
                Ok(version) => {
                    self.backoff.reset();
                    Ok((kind, version))
                }
                Err(trouble) => {
                    let wait = self.backoff.step();
                    self.ask(kind, wait);
                    Err(trouble)
                }
            };
        }
    }

    /// Whether it is known of every kind whether it is there.
    pub(super) fn are_done(&self) -> bool {
        self.listed && self.last.is_empty()
    }

    /// The kind that a definition defines, where it is one that is wanted.
    fn kind(&self, definition: &Value) -> Option<Kind> {
        let name = trim::name(definition)?;
        let found = OPTIONAL.iter().find(|optional| *optional.definition == *name.name)?;
        Some(found.kind).filter(|kind| self.wanted.contains(kind))
    }

    fn ask(&mut self, kind: Kind, wait: Duration) {
        let Some(Optional { definition, .. }) = OPTIONAL.iter().find(|optional| optional.kind == kind) else {
            return;
        };
        let number = self.next;
        self.next += 1;
        self.last.insert(kind, number);
        let server = Remote::new(self.client.clone(), Resource::definitions());
        self.running.push(Box::pin(async move {
            sleep(wait).await;
            let found = server.get(definition).await;
            let version = found.map(|found| found.and_then(|found| served(kind, &found)));
            Answer { number, kind, version }
        }));
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("last", &self.last).finish_non_exhaustive()
    }
}
