//! Named tasks with an owner and an end.

use std::{
    any::Any,
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{sync::watch, task::AbortHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells a task that it should come to an end: `stop.cancelled().await`.
pub type Stop = CancellationToken;

/// The tasks of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
}

/// A task that ended in a way it should not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {name} {cause}")]
pub struct Ended {
    /// The task.
    pub name: Cow<'static, str>,
    /// What ended it.
    pub cause: Cause,
}

/// What ended a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It returned this error.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
}

#[derive(Debug)]
struct Shared {
    stop: Stop,
    tracker: TaskTracker,
    running: Mutex<Running>,
    ended: watch::Sender<Option<Ended>>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, (Cow<'static, str>, Option<AbortHandle>)>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        let (ended, _) = watch::channel(None);
        let (stop, tracker) = (Stop::new(), TaskTracker::new());
        Self { shared: Arc::new(Shared { stop, tracker, running: Mutex::default(), ended }) }
    }

    /// Runs `task` under `name`. An error or a panic is logged and reported by [`Tasks::failed`].
    pub fn spawn<E: fmt::Display>(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (name, shared) = (name.into(), Arc::clone(&self.shared));
        let id = shared.enter(name.clone());
        let supervised = self.shared.tracker.track_future(async move {
            let cause = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Cause::Failed(error.to_string())),
                Err(panic) => Some(Cause::Panicked(message(&*panic))),
            };
            shared.leave(id, name, cause);
        });
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let handle = tokio::spawn(supervised);
        self.shared.abort_by(id, handle.abort_handle());
    }

    /// What each task watches to know that it should end.
    pub fn stop_signal(&self) -> Stop {
        self.shared.stop.clone()
    }

    /// Waits until a task fails or panics, and returns the first that did.
    pub async fn failed(&self) -> Ended {
        let mut ended = self.shared.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(first)) => first.clone(),
            // The sender lives as long as `self`, and the value was just seen.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Asks every task to end, waits up to `deadline`, then aborts the rest and returns their names.
    pub async fn drain(&self, deadline: Duration) -> Vec<Cow<'static, str>> {
        self.shared.stop.cancel();
        self.shared.tracker.close();
        if timeout(deadline, self.shared.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let late: Vec<_> = std::mem::take(&mut self.shared.running().tasks).into_values().collect();
        let names = late.into_iter().map(|(name, handle)| {
            tracing::warn!(task = %name, ?deadline, "task did not end in time; aborted");
            handle.inspect(AbortHandle::abort);
            name
        });
        names.collect()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, name: Cow<'static, str>) -> u64 {
        tracing::debug!(task = %name, "task started");
        let mut running = self.running();
        running.next += 1;
        let id = running.next;
        running.tasks.insert(id, (name, None));
        id
    }

    /// The task may have ended before its handle came here.
    fn abort_by(&self, id: u64, handle: AbortHandle) {
        if let Some(task) = self.running().tasks.get_mut(&id) {
            task.1 = Some(handle);
        }
    }

    fn leave(&self, id: u64, name: Cow<'static, str>, cause: Option<Cause>) {
        self.running().tasks.remove(&id);
        let Some(cause) = cause else {
            tracing::debug!(task = %name, "task ended");
            return;
        };
        tracing::error!(task = %name, "task {cause}");
        self.ended.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(Ended { name, cause });
            is_first
        });
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn broken() -> Result<(), Infallible> {
        panic!("index {} out of range", 7)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_is_reported_with_its_name() {
        let tasks = Tasks::new();
        tasks.spawn("quiet", async { Ok::<_, Infallible>(()) });
        tasks.spawn("reader", async { Err("no such file") });
        let ended = tasks.failed().await;
        assert_eq!(ended.to_string(), "task reader failed: no such file");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_reported_and_the_others_live_on() {
        let tasks = Tasks::new();
        let (alive, living) = tokio::sync::oneshot::channel();
        tasks.spawn("other", async {
            tokio::time::sleep(SECOND).await;
            alive.send(()).map_err(|()| "nobody waits")
        });
        tasks.spawn("broken", async {
            tokio::task::yield_now().await;
            broken()
        });
        assert_eq!(tasks.failed().await.cause, Cause::Panicked("index 7 out of range".into()));
        living.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_tasks_that_end_when_asked() {
        let tasks = Tasks::new();
        let stop = tasks.stop_signal();
        tasks.spawn("polite", async move {
            stop.cancelled().await;
            tokio::time::sleep(SECOND).await;
            Ok::<_, Infallible>(())
        });
        let start = tokio::time::Instant::now();
        assert!(tasks.drain(10 * SECOND).await.is_empty());
        assert_eq!(start.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_aborts_and_names_what_does_not_end() {
        let tasks = Tasks::new();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("stuck", async move {
            let _held = held;
            pending::<Result<(), Infallible>>().await
        });
        assert_eq!(tasks.drain(SECOND).await, ["stuck"]);
        assert!(dropped.await.is_err(), "the task was dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_the_one_that_is_kept() {
        let tasks = Tasks::new();
        tasks.spawn("first", async { Err("a") });
        assert_eq!(tasks.failed().await.name, "first");
        tasks.spawn("second", async { Err("b") });
        tasks.drain(SECOND).await;
        assert_eq!(tasks.failed().await.name, "first");
    }
}
