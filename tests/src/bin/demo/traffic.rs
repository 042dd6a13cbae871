//! Requests that go on while something happens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use weft_tests::{Pod, soon};

use crate::http;

/// Requests of a pod, one after the other.
#[derive(Default)]
pub(crate) struct Traffic {
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
    done: AtomicBool,
}

impl Traffic {
    /// Has `pod` ask `to` while `work` is done.
    pub(crate) fn during<T>(pod: &Pod, to: &str, work: impl FnOnce(&Self) -> T) -> (Self, T) {
        let traffic = Self::default();
        let result = thread::scope(|scope| {
            scope.spawn(|| traffic.flow(pod, to));
            // Also when `work` panics: the scope waits for the client.
            let _stop = Stop(&traffic.done);
            work(&traffic)
        });
        (traffic, result)
    }

    /// Requests that were answered by 200 so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits for so many answers more, or for the first failure.
    pub(crate) fn more(&self, count: usize) {
        let goal = self.answered() + count;
        soon(|| self.answered() >= goal || !self.failures().is_empty());
    }

    /// What went wrong with the others.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("no holder of this lock panics").clone()
    }

    fn flow(&self, pod: &Pod, to: &str) {
        let to = to.parse().expect("a Service's address");
        while !self.done.load(Ordering::Relaxed) {
            match http::get(pod, to) {
                Ok(_) => _ = self.answered.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    self.failures.lock().expect("no holder of this lock panics").push(error.to_string());
                }
            }
            thread::sleep(PACE);
        }
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three connections a request: the machine is to be left some time for others.
const PACE: Duration = Duration::from_millis(1);
