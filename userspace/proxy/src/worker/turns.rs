//! Turns: a pod with many busy connections does not make the others wait.
//!
//! A runtime runs tasks in the order in which they were woken, so who has a thousand of them gets a thousand times as
//! much. Here a pod that has used its share of a turn has its tasks parked, and a turn is over when every task that was
//! woken in it has been looked at: a worker that has nothing to do begins a new one. A pod that is alone has one turn after the
//! other.
//!
//! ```text
//! woken ──► share left? ──yes──► polled, its time counts
//!                │ no
//!                └──► parked ──(a few each turn)──► polled
//! ```

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::Waker,
    time::Duration,
};

use tokio::task::{spawn_local, yield_now};

/// The turns of one worker.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    number: Cell<u64>,
    /// Pods with parked tasks.
    waiting: RefCell<Vec<Rc<Share>>>,
    /// Whether somebody ends the turn.
    ending: Cell<bool>,
}

/// What one pod may use of each turn.
#[derive(Debug)]
pub(crate) struct Share {
    turns: Rc<Turns>,
    /// The last turn in which it ran.
    turn: Cell<u64>,
    used: Cell<Duration>,
    parked: RefCell<VecDeque<Waker>>,
    /// Tickets given out so far; those below `called` have been woken.
    given: Cell<u64>,
    called: Cell<u64>,
}

/// A task's place among the parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

impl Share {
    pub(crate) fn new(turns: &Rc<Turns>) -> Rc<Self> {
        Rc::new(Self {
            turns: Rc::clone(turns),
            turn: Cell::new(0),
            used: Cell::default(),
            parked: RefCell::default(),
            given: Cell::new(0),
            called: Cell::new(0),
        })
    }

    /// Whether a task may run now. Else it is parked, and woken in a later turn; what wakes it before then wakes it in
    /// vain.
    pub(crate) fn admits(self: &Rc<Self>, ticket: &mut Option<Ticket>, waker: &Waker) -> bool {
        if let Some(Ticket(number)) = *ticket {
            let called = number < self.called.get();
            if called {
                *ticket = None;
            }
            return called;
        }
        let turn = self.turns.number.get() + RESTS.get();
        if self.turn.replace(turn) != turn {
            self.used.set(Duration::ZERO);
        }
        if self.used.get() < SHARE {
            return true;
        }
        let number = self.given.get();
        self.given.set(number + 1);
        *ticket = Some(Ticket(number));
        if self.parked.borrow().is_empty() {
            self.turns.waiting.borrow_mut().push(Rc::clone(self));
        }
        self.parked.borrow_mut().push_back(waker.clone());
        if !self.turns.ending.replace(true) {
            spawn_local(Rc::clone(&self.turns).end());
        }
        false
    }

    /// A task has run for so long.
    pub(crate) fn spend(&self, time: Duration) {
        self.used.set(self.used.get() + time);
    }

    /// Wakes a few. Returns whether others are left.
    fn call(&self) -> bool {
        let mut parked = self.parked.borrow_mut();
        let few = CALLED.min(parked.len());
        for waker in parked.drain(..few) {
            self.called.set(self.called.get() + 1);
            waker.wake();
        }
        !parked.is_empty()
    }
}

/// This thread has looked at all that was woken, and has nothing to do: the turn is over.
pub(super) fn rests() {
    RESTS.set(RESTS.get() + 1);
}

thread_local! {
    /// How often this thread had nothing to do.
    static RESTS: Cell<u64> = const { Cell::new(0) };
}

impl Turns {
    /// Ends one turn after the other, as long as anybody is parked.
    async fn end(self: Rc<Self>) {
        loop {
            // Behind everything that has been woken so far, and behind a look at the sockets.
            yield_now().await;
            self.number.set(self.number.get() + 1);
            let mut waiting = self.waiting.take();
            waiting.retain(|share| share.call());
            // None is added meanwhile: waking polls nothing.
            let none = waiting.is_empty();
            self.waiting.replace(waiting);
            if none {
                self.ending.set(false);
                return;
            }
        }
    }
}

/// What a pod may use of a turn before its tasks are parked: about thirty requests.
const SHARE: Duration = Duration::from_micros(500);
/// Parked tasks of a pod that run in each turn whatever the others use.
const CALLED: usize = 8;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Instant;

    use tokio::task::LocalSet;

    use super::*;
    use crate::{account::Account, worker::Tasks};

    /// A task that is always ready and takes 20 µs each time.
    async fn busy(polls: Rc<Cell<u64>>) {
        poll_fn(|cx| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(20) {}
            polls.set(polls.get() + 1);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    }

    fn pod(turns: &Rc<Turns>) -> Tasks {
        Tasks::of(Arc::<Account>::default(), Share::new(turns))
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn one_task_of_a_pod_does_not_wait_for_a_thousand_of_another() {
        run(async {
            let turns = Rc::default();
            let (noisy, quiet) = (pod(&turns), pod(&turns));
            let (many, one) = (Rc::<Cell<u64>>::default(), Rc::<Cell<u64>>::default());
            for _ in 0..1000 {
                noisy.spawn("busy", busy(Rc::clone(&many)));
            }
            quiet.spawn("busy", busy(Rc::clone(&one)));
            while one.get() < 200 {
                yield_now().await;
            }
            // In the order of waking it would be a thousand to one.
            assert!(many.get() < 60 * one.get(), "{} to {}", many.get(), one.get());
            noisy.stop();
            quiet.stop();
            noisy.ended().await;
        });
    }

    #[test]
    fn what_a_pod_has_used_is_forgotten_once_its_worker_has_nothing_to_do() {
        run(async {
            let share = Share::new(&Rc::default());
            let admits = || share.admits(&mut None, Waker::noop());
            assert!(admits());
            share.spend(SHARE);
            assert!(!admits(), "its share is used up");
            rests();
            assert!(admits(), "it would wait for nobody");
        });
    }

    #[test]
    fn a_worker_that_has_nothing_to_do_begins_a_new_turn() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(rests).build();
        let before = RESTS.get();
        runtime.unwrap().block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
        assert!(RESTS.get() > before);
    }

    #[test]
    fn every_task_of_a_pod_comes_to_its_turn() {
        run(async {
            let pod = pod(&Rc::default());
            let polls: Vec<Rc<Cell<u64>>> = (0..100).map(|_| Rc::default()).collect();
            for polls in &polls {
                pod.spawn("busy", busy(Rc::clone(polls)));
            }
            while polls.iter().any(|polls| polls.get() < 5) {
                yield_now().await;
            }
            pod.stop();
            pod.ended().await;
        });
    }
}
