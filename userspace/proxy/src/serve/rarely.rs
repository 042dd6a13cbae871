//! What hardly ever happens to a connection.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;

pin_project! {
    /// Polls `work` when it has asked for that, and not whenever its task is woken for something else.
    ///
    /// The task of a connection is polled some times for each request, and waits for half a dozen things beside it: to ask all
    /// of them each time is work for nothing.
    pub(super) struct Rarely<F> {
        bell: Arc<Bell>,
        #[pin]
        work: F,
    }
}

/// Rings for the work, and wakes its task.
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Release);
        self.task.wake();
    }
}

impl<F> Rarely<F> {
    pub(super) fn new(work: F) -> Self {
        // It has to be asked once before it can ring.
        Self { bell: Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() }), work }
    }
}

impl<F: Future> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Before the bell is looked at: a ring from now on wakes this task.
        this.bell.task.register(cx.waker());
        if !this.bell.rung.swap(false, AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(this.bell));
        this.work.poll(&mut Context::from_waker(&waker))
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, pin::pin};

    use futures_util::{future::poll_immediate, task::noop_waker_ref};

    use super::*;

    #[test]
    fn work_is_polled_once_for_each_time_that_it_was_woken() {
        let (polls, own) = (Cell::new(0), Cell::new(None::<Waker>));
        let work = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            own.set(Some(cx.waker().clone()));
            if polls.get() < 3 { Poll::Pending } else { Poll::Ready(polls.get()) }
        });
        let mut rarely = pin!(Rarely::new(work));
        let mut poll = || rarely.as_mut().poll(&mut Context::from_waker(noop_waker_ref()));
        assert!(poll().is_pending() && poll().is_pending());
        assert_eq!(polls.get(), 1, "nobody has woken it since");
        own.take().unwrap().wake();
        assert!(poll().is_pending() && poll().is_pending());
        assert_eq!(polls.get(), 2);
        own.take().unwrap().wake();
        assert_eq!(poll(), Poll::Ready(3));
    }

    #[tokio::test]
    async fn its_task_is_woken_with_it() {
        let (told, hears) = tokio::sync::oneshot::channel();
        let mut rarely = pin!(Rarely::new(hears));
        assert!(poll_immediate(rarely.as_mut()).await.is_none());
        let tell = async {
            tokio::task::yield_now().await;
            told.send(7).unwrap();
        };
        let (word, ()) = tokio::join!(rarely, tell);
        assert_eq!(word, Ok(7));
    }
}
