//! Decisions that are made again when the tables change, for as long as what they let in lasts.
//!
//! A worker has a list of them, so that a request which is decided about once, as nearly all are, needs no place of its own
//! among those that wait for a change.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use slab::Slab;

/// What was decided by the tables of a moment.
pub(crate) trait Decided {
    /// Decides by those of now, and tells whoever it concerns.
    fn decide_again(&self);
}

/// The decisions of one worker that are still of consequence.
#[derive(Default)]
pub(crate) struct Rechecks(RefCell<Slab<Weak<dyn Decided>>>);

impl Rechecks {
    /// Has it decided again with each change, until its place is [left](Rechecks::leave).
    pub(crate) fn join(&self, decision: Weak<dyn Decided>) -> usize {
        self.0.borrow_mut().insert(decision)
    }

    pub(crate) fn leave(&self, place: usize) {
        self.0.borrow_mut().remove(place);
    }

    /// The tables have changed.
    pub(super) fn decide(&self) {
        let all: Vec<Rc<dyn Decided>> = self.0.borrow().iter().filter_map(|(_, one)| one.upgrade()).collect();
        for decision in &all {
            decision.decide_again();
        }
        // Room for a flood of requests that is over.
        self.0.borrow_mut().shrink_to_fit();
    }
}
