//! Streams of HTTP/2 whose client does not take its answer.
//!
//! A body that cannot be sent on is not asked for its next piece, so it cannot tell by itself that it waits: the task of
//! its stream can. Both run on one thread, one inside the other: what the body did last is left where the task finds it.
//!
//! ```text
//! Delivered::poll ──► hyper's stream ──► AnswerBody::poll_frame ──► handed() | awaits_server()
//!        └─ handed, and not asked again: the client's window is shut. For too long: the stream is reset
//! ```

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Tasks;
use crate::{Reason, exchange::Guard};

/// Runs the streams of HTTP/2 connections.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    tasks: Tasks,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The stream is being dropped because a policy forbids it now.
    Forbidden(Reason),
    /// No body was asked.
    Nothing,
    /// A piece was handed over.
    Handed,
    /// There is no piece yet.
    AwaitsServer,
    /// The stream is being dropped because its client does not take the last piece.
    Cut,
}

thread_local! {
    static STEP: Cell<Step> = const { Cell::new(Step::Nothing) };
    /// Of the stream that is being polled.
    static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
    static IS_STREAM: Cell<bool> = const { Cell::new(false) };
}

/// Has the stream of HTTP/2 that is being polled be reset once `guard` says so. Gives it back where there is none.
pub(crate) fn guard(guard: Guard) -> Option<Guard> {
    if !IS_STREAM.get() {
        return Some(guard);
    }
    GUARD.replace(Some(guard));
    None
}

/// A body has handed over a piece.
pub(crate) fn handed() {
    STEP.set(Step::Handed);
}

/// A body waits for its server.
pub(crate) fn awaits_server() {
    STEP.set(Step::AwaitsServer);
}

/// Why what is dropped now is dropped, where it is for its client's slowness or a policy.
pub(crate) fn why_cut() -> Option<Reason> {
    match STEP.get() {
        Step::Cut => Some(Reason::SLOW_BODY),
        Step::Forbidden(why) => Some(why),
        Step::Nothing | Step::Handed | Step::AwaitsServer => None,
    }
}

impl Streams {
    /// A stream whose client takes nothing for longer than `patience` is reset.
    pub(crate) fn new(tasks: Tasks, patience: Duration) -> Self {
        Self { tasks, patience }
    }
}

/// hyper resets a stream whose task is dropped.
impl<F: Future<Output = ()> + 'static> Executor<F> for Streams {
    fn execute(&self, work: F) {
        let patience = self.patience;
        self.tasks.execute(Delivered { work: Some(work), patience, since: None, timer: None, guard: None });
    }
}

pin_project! {
    struct Delivered<F> {
        #[pin]
        work: Option<F>,
        patience: Duration,
        // When the last piece was handed over, if it may be on its way.
        since: Option<Instant>,
        timer: Option<Pin<Box<Sleep>>>,
        // What ends it before its time.
        guard: Option<Guard>,
    }
}

impl<F: Future<Output = ()>> Future for Delivered<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(work) = this.work.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        STEP.set(Step::Nothing);
        IS_STREAM.set(true);
        let polled = work.poll(cx);
        IS_STREAM.set(false);
        if let Some(guard) = GUARD.take() {
            *this.guard = Some(guard);
        }
        match STEP.replace(Step::Nothing) {
            _ if polled.is_ready() => return Poll::Ready(()),
            Step::Handed => *this.since = Some(Instant::now()),
            Step::AwaitsServer => *this.since = None,
            Step::Nothing | Step::Cut | Step::Forbidden(_) => {}
        }
        if let Some(guard) = this.guard
            && let Poll::Ready(why) = Pin::new(guard).poll(cx)
        {
            STEP.set(Step::Forbidden(why));
            this.work.set(None);
            STEP.set(Step::Nothing);
            return Poll::Ready(());
        }
        let Some(since) = *this.since else { return Poll::Pending };
        let until = since + *this.patience;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        // It is not set anew with each piece: it may ring for an earlier one.
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                STEP.set(Step::Cut);
                this.work.set(None);
                STEP.set(Step::Nothing);
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}
