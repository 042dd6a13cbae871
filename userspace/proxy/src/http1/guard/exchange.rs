//! What the two directions of a connection know of each other.

use std::collections::VecDeque;

/// The requests of a connection that are not answered yet, oldest first.
///
/// The guard of the requests writes it down, the guard of the responses reads it: a response's framing depends on its
/// request's method, and what follows an upgrade depends on its answer.
#[derive(Debug, Default)]
pub struct Exchange {
    asked: VecDeque<Asked>,
    tunnel: bool,
}

/// What of a request matters to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Plain,
    /// HEAD: the answer has no body.
    Head,
    /// CONNECT: an answer of 2xx opens a tunnel.
    Connect,
    /// It has an Upgrade field: an answer of 101 opens a tunnel.
    Upgrade,
}

impl Exchange {
    /// Requests that may wait for their answers; those behind them stay in the socket.
    pub const MAX_UNANSWERED: usize = 128;

    /// How many requests wait for the end of their answer.
    pub fn unanswered(&self) -> usize {
        self.asked.len()
    }

    /// Whether the connection is a tunnel by now: its bytes are not HTTP/1.x any more.
    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    pub(super) fn is_full(&self) -> bool {
        self.asked.len() >= Self::MAX_UNANSWERED
    }

    pub(super) fn ask(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    /// The request that the next answer is for.
    pub(super) fn next(&self) -> Option<Asked> {
        self.asked.front().copied()
    }

    /// Whether the answer to the last request may open a tunnel.
    pub(super) fn may_become_tunnel(&self) -> bool {
        matches!(self.asked.back(), Some(Asked::Connect | Asked::Upgrade))
    }

    pub(super) fn answered(&mut self) {
        self.asked.pop_front();
    }

    pub(super) fn open_tunnel(&mut self) {
        self.asked.pop_front();
        self.tunnel = true;
    }
}
