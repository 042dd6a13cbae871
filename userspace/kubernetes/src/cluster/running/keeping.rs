//! What is in force, kept for the next agent: one write at a time, beside the source's other work.
//!
//! A pod of the mesh is kept before it starts: an agent that begins without an API server would withdraw one that it has
//! never heard of. A write of a large cluster takes its time. So who comes meanwhile waits for the next one, together with
//! all others that do, and nobody else waits at all.

use std::{
    io, mem,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};

use super::super::kept::Draft;
use crate::announce::Known;

/// A pod, and who waits until it may start.
pub(super) type Answer = (Known, oneshot::Sender<Known>);

/// What is to be kept, and what is being kept.
pub(super) struct Keeping {
    folder: Option<PathBuf>,
    /// There is something that no write has.
    unkept: bool,
    /// When that is written, if nobody waits for it.
    at: Instant,
    under_way: Option<JoinHandle<io::Result<()>>>,
    /// Who waits for what is under way, and who for the next.
    waiting: Vec<Answer>,
    next: Vec<Answer>,
}

/// What there is to do.
pub(super) enum Due {
    /// It is time for a write.
    Write,
    /// One has ended; `None` as the runtime is shutting down.
    Written(Option<io::Result<()>>),
}

impl Keeping {
    /// In `folder`; nothing without one.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        let at = Instant::now();
        Self { folder, unkept: false, at, under_way: None, waiting: Vec::new(), next: Vec::new() }
    }

    /// Something else is in force.
    pub(super) fn changed(&mut self) {
        self.unkept = self.folder.is_some();
    }

    /// Answers these once what is in force now is kept.
    pub(super) fn answer_when_kept(&mut self, answers: Vec<Answer>) {
        self.next.extend(answers);
    }

    /// Whether a write is to begin at once: somebody waits for it, and none is under way.
    pub(super) fn is_wanted(&self) -> bool {
        self.under_way.is_none() && !self.next.is_empty()
    }

    /// Whether a write is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins to write `draft`, which is of now, unless it is kept already.
    pub(super) fn begin(&mut self, draft: impl FnOnce() -> Draft) {
        if self.under_way.is_some() {
            return;
        }
        self.at = Instant::now() + KEEP;
        let Some(folder) = self.folder.clone().filter(|_| mem::take(&mut self.unkept)) else {
            return answer(mem::take(&mut self.next));
        };
        let draft = draft();
        self.waiting = mem::take(&mut self.next);
        self.under_way = Some(tokio::task::spawn_blocking(move || draft.write(&folder)));
    }

    /// Waits until there is something to do.
    pub(super) async fn due(&mut self) -> Due {
        match &mut self.under_way {
            Some(write) => Due::Written(outcome(write.await)),
            None if self.unkept => {
                sleep_until(self.at).await;
                Due::Write
            }
            None => std::future::pending().await,
        }
    }

    /// The write that was under way has ended like this.
    pub(super) fn written(&mut self, written: &io::Result<()>) {
        self.under_way = None;
        if let (Err(error), Some(folder)) = (written, &self.folder) {
            warn(error, folder);
        }
        answer(mem::take(&mut self.waiting));
    }
}

fn outcome(joined: Result<io::Result<()>, JoinError>) -> Option<io::Result<()>> {
    match joined {
        Ok(written) => Some(written),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

fn answer(answers: Vec<Answer>) {
    for (known, answer) in answers {
        // Whoever has stopped waiting needs no answer.
        drop(answer.send(known));
    }
}

fn warn(error: &io::Error, folder: &Path) {
    tracing::warn!(
        %error, folder = %folder.display(),
        "what is in force cannot be kept: an agent that begins while the API server is away has nothing"
    );
}

/// How often what is in force is kept, at the most, while nobody waits for it.
const KEEP: Duration = Duration::from_secs(10);
