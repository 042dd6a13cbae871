//! What is known of one stream.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use super::frame::WINDOW;
use crate::relay::Buffer;

/// One stream, as long as somebody holds it or it waits for the other end's end.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each may be with or without the others")]
pub(super) struct State {
    /// What has come and was not read yet. A stream that has nothing to carry holds no buffer.
    pub(super) received: VecDeque<Buffer>,
    /// Of the first of these, how much was read.
    pub(super) read: usize,
    /// Bytes that were read and are no credit of the other end yet.
    pub(super) owed: u32,
    /// Bytes that the other end may still send.
    pub(super) allowed: u32,
    /// Bytes that may still be sent.
    pub(super) credit: u32,
    pub(super) said: Said,
    /// Nothing more is sent.
    pub(super) finished: bool,
    pub(super) reset: bool,
    /// Nobody holds it: the other end's end is all that is waited for.
    pub(super) is_left: bool,
    /// Whether it waits for its turn to write.
    pub(super) waits: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// Who waits for a reset alone.
    pub(super) watcher: Option<Waker>,
}

/// What the other end has said of a stream, besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Opened,
    End,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            received: VecDeque::new(),
            read: 0,
            owed: 0,
            allowed: WINDOW,
            credit: WINDOW,
            said: Said::Nothing,
            finished: false,
            reset: false,
            is_left: false,
            waits: false,
            reader: None,
            writer: None,
            watcher: None,
        }
    }

    /// Whether nothing has come of it yet, not even that there is somebody.
    pub(super) fn is_asked(&self) -> bool {
        self.said == Said::Nothing && !self.reset && self.received.is_empty() && self.allowed == WINDOW
    }

    /// Whether nobody needs to hold it until the other end has ended, too: what has come was read.
    pub(super) fn may_be_left(&self) -> bool {
        self.finished && !self.reset && self.said != Said::End && self.received.is_empty()
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let last = self.received.back_mut().filter(|last| last.room() >= bytes.len());
        if let Some(last) = last {
            last.space().extend_from_slice(bytes);
        } else if self.received.is_empty() && bytes.len() < SMALL {
            self.received.push_back(Buffer::small(bytes));
        } else {
            let mut buffer = Buffer::take();
            buffer.space().extend_from_slice(bytes);
            self.received.push_back(buffer);
        }
        wake(&mut self.reader);
    }

    pub(super) fn cut(&mut self) {
        self.reset = true;
        wake(&mut self.reader);
        wake(&mut self.writer);
        wake(&mut self.watcher);
    }
}

pub(super) fn keep(place: &mut Option<Waker>, cx: &mut Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

pub(super) fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

/// Less than that, where nothing else waits, needs no large buffer.
const SMALL: usize = 4096;
