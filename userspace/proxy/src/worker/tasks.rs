//! The tasks of one owner on one worker.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

use super::turns::{Share, Ticket};
use crate::{account::Account, clock};

/// Tasks that belong to a pod, on the worker that they were spawned on. The time that they take is the pod's.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    account: Arc<Account>,
    share: Rc<Share>,
}

impl Tasks {
    pub(crate) fn of(account: Arc<Account>, share: Rc<Share>) -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { tracker, stop, account, share }
    }

    /// Spawns a task that is dropped when [`Tasks::stop`] is called.
    pub(crate) fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        self.track(name, Stoppable { stopped: self.stop.clone().cancelled_owned(), work });
    }

    /// Tasks that run now.
    pub(crate) fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Drops all tasks, and those that are spawned from now on.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether [`Tasks::stop`] was called: what is dropped now is cut.
    pub(crate) fn are_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until the last task has ended.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn track(&self, name: &'static str, work: impl Future<Output = ()> + 'static) {
        let (account, share) = (Arc::clone(&self.account), Rc::clone(&self.share));
        self.tracker.spawn_local(Timed { name, account, share, ticket: None, work });
    }
}

/// For hyper, whose tasks of a connection end with it.
impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, work: F) {
        self.track("http2 stream", work);
    }
}

pin_project! {
    /// Ends when it is told to.
    ///
    /// The token's own `run_until_cancelled_owned` keeps the work four times in its future, once for each `async` that it
    /// is handed through: with connections of 3 KiB that is most of what an idle one takes.
    struct Stoppable<F> {
        #[pin]
        stopped: WaitForCancellationFutureOwned,
        #[pin]
        work: F,
    }
}

impl<F: Future<Output = ()>> Future for Stoppable<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stopped.poll(cx).is_ready() { Poll::Ready(()) } else { this.work.poll(cx) }
    }
}

pin_project! {
    /// Counts the time of its polls, and waits for its pod's turn.
    struct Timed<F> {
        name: &'static str,
        account: Arc<Account>,
        share: Rc<Share>,
        ticket: Option<Ticket>,
        #[pin]
        work: F,
    }

    impl<F> PinnedDrop for Timed<F> {
        fn drop(this: Pin<&mut Self>) {
            if std::thread::panicking() {
                tracing::error!(task = *this.project().name, "a task panicked; its connection is closed");
            }
        }
    }
}

impl<F: Future<Output = ()>> Future for Timed<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if !this.share.admits(this.ticket, cx.waker()) {
            return Poll::Pending;
        }
        let began = Instant::now();
        let polled = clock::during(began, || this.work.poll(cx));
        let time = began.elapsed();
        this.share.spend(time);
        this.account.busy(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_hardly_larger_than_its_work() {
        let (room, stopped) = ([0_u8; 3000], CancellationToken::new().cancelled_owned());
        let work = async move {
            std::future::pending::<()>().await;
            std::hint::black_box(&room);
        };
        let task = Stoppable { stopped, work };
        assert!(size_of_val(&task) <= size_of_val(&task.work) + 128, "{}", size_of_val(&task));
    }
}
