//! What a connection's streams and its driver have in common.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use super::frame::{Frame, MOST_DATA, Malformed, Parser, WINDOW};
use super::state::{Said, State, keep, wake};
use super::{BEHIND, STREAMS};
use crate::relay::Buffer;

/// Shared by all who use a connection. They are on one thread as a rule, so nobody waits for the lock; hyper wants what
/// it may hand to another one.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<Mutex<Shared>>);

#[derive(Debug)]
pub(super) struct Shared {
    role: Role,
    parser: Parser,
    /// What is to be written, and how much of it is.
    out: Vec<u8>,
    written: usize,
    streams: HashMap<u32, State>,
    /// The last stream that the client has begun.
    last: u32,
    /// How often something came.
    pub(super) heard: u64,
    /// Of a server: begun, and not taken yet.
    begun: VecDeque<(u32, u16)>,
    accepting: Option<Waker>,
    /// Streams that wait for room in `out`, in the order of coming.
    waiting: VecDeque<u32>,
    driver: Option<Waker>,
    /// No more streams: it is closed, the server asks for none, or it has ended.
    leaving: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// What the other end must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("{0}")]
    Frame(#[from] Malformed),
    #[error("the peer begins stream {stream} after stream {last}")]
    Number { stream: u32, last: u32 },
    #[error("the peer speaks of stream {stream}, which nobody has begun")]
    Unknown { stream: u32 },
    #[error("the peer sends more on stream {stream} than it may")]
    Credit { stream: u32 },
    #[error("a server begins no streams")]
    Server,
    #[error("the peer asks and asks, and takes no answers")]
    Flood,
}

impl Handle {
    pub(super) fn new(role: Role) -> Self {
        Self(Arc::new(Mutex::new(Shared::new(role))))
    }

    /// What is behind it. No waker that is woken meanwhile runs anything.
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn new(role: Role) -> Self {
        Self {
            role,
            parser: Parser::default(),
            out: Vec::new(),
            written: 0,
            streams: HashMap::new(),
            last: 0,
            heard: 0,
            begun: VecDeque::new(),
            accepting: None,
            waiting: VecDeque::new(),
            driver: None,
            leaving: false,
            ended: false,
        }
    }

    pub(super) fn takes_more(&self) -> bool {
        !self.leaving && self.streams.len() < STREAMS && self.last < u32::MAX
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn open(&mut self, port: u16) -> Option<u32> {
        if !self.takes_more() {
            return None;
        }
        self.last += 1;
        let stream = self.last;
        self.streams.insert(stream, State::new());
        self.say(Frame::Open { stream, port });
        Some(stream)
    }

    pub(super) fn close(&mut self) {
        self.leaving = true;
        self.wake_driver();
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u32, u16)>> {
        match self.begun.pop_front() {
            Some(begun) => Poll::Ready(Some(begun)),
            None if self.ended => Poll::Ready(None),
            None => {
                keep(&mut self.accepting, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn accept_nothing_more(&mut self) {
        self.leaving = true;
        while let Some((stream, _)) = self.begun.pop_front() {
            self.let_go(stream);
        }
    }

    /// A server's word that somebody is behind the stream.
    pub(super) fn opened(&mut self, stream: u32) {
        self.say(Frame::Opened { stream });
    }

    pub(super) fn poll_opened(&mut self, stream: u32, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(state) = self.streams.get_mut(&stream) else { return Poll::Ready(Err(reset())) };
        if state.reset {
            return Poll::Ready(Err(reset()));
        }
        if !state.is_asked() {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.reader, cx);
        Poll::Pending
    }

    pub(super) fn is_asked(&self) -> bool {
        self.streams.values().any(State::is_asked)
    }

    pub(super) fn give_up(&mut self) {
        self.leaving = true;
        let asked = self.streams.iter_mut().filter(|(_, state)| state.is_asked());
        let cut: Vec<_> = asked.map(|(number, state)| (state.cut(), *number).1).collect();
        for stream in cut {
            self.say(Frame::Reset { stream });
            self.forget_left(stream);
        }
    }

    /// What nobody holds has come to its end.
    fn forget_left(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(|state| state.is_left) {
            self.streams.remove(&stream);
            self.wake_driver();
        }
    }

    pub(super) fn poll_readable(&mut self, stream: u32, cx: &mut Context<'_>) -> Poll<()> {
        match self.streams.get_mut(&stream) {
            Some(state) if state.received.is_empty() && state.said != Said::End && !state.reset => {
                keep(&mut state.reader, cx);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        stream: u32,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        let state = match self.poll_received(stream, cx) {
            Poll::Ready(Ok(Some(state))) => state,
            other => return other.map_ok(drop),
        };
        let first = state.received.front().expect("something was received").bytes();
        let (taken, length) = (take(&first[state.read..]), first.len());
        state.read += taken;
        if state.read == length {
            state.received.pop_front();
            state.read = 0;
        }
        self.was_read(stream, taken);
        Poll::Ready(Ok(()))
    }

    /// As [`Shared::poll_read`], of a whole buffer.
    pub(super) fn poll_piece(&mut self, stream: u32, cx: &mut Context<'_>) -> Poll<io::Result<Buffer>> {
        let Some(state) = ready!(self.poll_received(stream, cx))? else {
            return Poll::Ready(Ok(Buffer::small(&[])));
        };
        let mut first = state.received.pop_front().expect("something was received");
        first.space().drain(..std::mem::take(&mut state.read));
        self.was_read(stream, first.bytes().len());
        Poll::Ready(Ok(first))
    }

    /// A stream of which something was received; none at its end.
    fn poll_received(&mut self, stream: u32, cx: &mut Context<'_>) -> Poll<io::Result<Option<&mut State>>> {
        let Some(state) = self.streams.get_mut(&stream) else { return Poll::Ready(Err(reset())) };
        if !state.received.is_empty() {
            return Poll::Ready(Ok(Some(state)));
        }
        if state.reset {
            return Poll::Ready(Err(reset()));
        }
        if state.said == Said::End {
            return Poll::Ready(Ok(None));
        }
        keep(&mut state.reader, cx);
        Poll::Pending
    }

    /// Lets the other end send as much again, once that is worth a frame.
    fn was_read(&mut self, stream: u32, bytes: usize) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        state.owed += u32::try_from(bytes).expect("a window is smaller");
        if state.owed >= WINDOW / 2 && state.said != Said::End && !state.reset {
            let bytes = std::mem::take(&mut state.owed);
            state.allowed += bytes;
            self.say(Frame::Credit { stream, bytes });
        }
    }

    pub(super) fn poll_write(
        &mut self,
        stream: u32,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(state) = self.streams.get_mut(&stream) else { return Poll::Ready(Err(reset())) };
        if state.reset {
            return Poll::Ready(Err(reset()));
        }
        if state.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.credit == 0 {
            keep(&mut state.writer, cx);
            return Poll::Pending;
        }
        if self.out.len() - self.written >= BEHIND {
            keep(&mut state.writer, cx);
            if !std::mem::replace(&mut state.waits, true) {
                self.waiting.push_back(stream);
            }
            return Poll::Pending;
        }
        let most = usize::try_from(state.credit).expect("u32 fits usize here").min(BEHIND);
        bytes = &bytes[..bytes.len().min(most)];
        state.credit -= u32::try_from(bytes.len()).expect("no more than the credit");
        for bytes in bytes.chunks(MOST_DATA) {
            Frame::Data { stream, bytes }.write(&mut self.out);
        }
        self.wake_driver();
        Poll::Ready(Ok(bytes.len()))
    }

    pub(super) fn finish(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if !state.finished && !state.reset {
            state.finished = true;
            self.say(Frame::End { stream });
        }
    }

    /// Ready once the other end has cut the stream, whether or not all that it sent was read.
    pub(super) fn poll_reset(&mut self, stream: u32, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.streams.get_mut(&stream) {
            Some(state) if !state.reset => {
                keep(&mut state.watcher, cx);
                Poll::Pending
            }
            _ => Poll::Ready(reset()),
        }
    }

    /// Nobody holds the stream any more. One that has said its end, and has read what came, waits for the other end's;
    /// what was not ended in order is cut.
    pub(super) fn let_go(&mut self, stream: u32) {
        match self.streams.get_mut(&stream) {
            Some(state) if state.may_be_left() => state.is_left = true,
            _ => self.reset(stream),
        }
    }

    /// Cuts the stream, unless both ends have ended it.
    pub(super) fn reset(&mut self, stream: u32) {
        let Some(state) = self.streams.remove(&stream) else { return };
        if !(state.reset || state.said == Said::End && state.finished) {
            self.say(Frame::Reset { stream });
        }
        // Whoever closes waits for the last one.
        self.wake_driver();
    }

    pub(super) fn say(&mut self, frame: Frame<'_>) {
        if !self.ended {
            frame.write(&mut self.out);
            self.wake_driver();
        }
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// Takes what the other end has sent.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        self.heard += 1;
        // It has to be apart from what it is asked about.
        let mut parser = std::mem::take(&mut self.parser);
        while let Some(frame) = parser.next(&mut bytes)? {
            self.obey(frame)?;
            if self.behind().len() > FLOOD {
                return Err(Violation::Flood);
            }
        }
        self.parser = parser;
        Ok(())
    }

    fn obey(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        match frame {
            Frame::Open { stream, port } => return self.begin(stream, port),
            Frame::Leave => {
                self.leaving = true;
                return Ok(());
            }
            Frame::Data { stream, .. }
            | Frame::End { stream }
            | Frame::Reset { stream }
            | Frame::Credit { stream, .. }
            | Frame::Opened { stream }
                if stream > self.last =>
            {
                return Err(Violation::Unknown { stream });
            }
            Frame::Data { stream, bytes } => {
                let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
                let length = u32::try_from(bytes.len()).expect("frames are shorter");
                let left = state.allowed.checked_sub(length).filter(|_| state.said != Said::End);
                state.allowed = left.ok_or(Violation::Credit { stream })?;
                if state.is_left {
                    self.reset(stream);
                } else {
                    state.receive(bytes);
                }
            }
            Frame::End { stream } => {
                let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
                state.said = Said::End;
                wake(&mut state.reader);
                self.forget_left(stream);
            }
            Frame::Reset { stream } => {
                let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
                state.cut();
                self.forget_left(stream);
            }
            Frame::Credit { stream, bytes } => {
                let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
                state.credit = state.credit.checked_add(bytes).ok_or(Violation::Credit { stream })?;
                wake(&mut state.writer);
            }
            Frame::Opened { stream } => {
                let Some(state) = self.streams.get_mut(&stream) else { return Ok(()) };
                if state.said == Said::Nothing {
                    state.said = Said::Opened;
                }
                wake(&mut state.reader);
            }
        }
        Ok(())
    }

    fn begin(&mut self, stream: u32, port: u16) -> Result<(), Violation> {
        if self.role == Role::Client {
            return Err(Violation::Server);
        }
        if stream <= self.last {
            return Err(Violation::Number { stream, last: self.last });
        }
        self.last = stream;
        // One that has been asked to leave may not know it yet.
        if self.streams.len() >= STREAMS || self.accepting_is_over() {
            self.say(Frame::Reset { stream });
            return Ok(());
        }
        self.streams.insert(stream, State::new());
        self.begun.push_back((stream, port));
        wake(&mut self.accepting);
        Ok(())
    }

    fn accepting_is_over(&self) -> bool {
        self.leaving || self.ended
    }

    /// What is to be written.
    pub(super) fn behind(&self) -> &[u8] {
        &self.out[self.written..]
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.out.len() {
            // Kept while it is in use: it goes with the last stream.
            self.out.clear();
            self.written = 0;
            if self.streams.is_empty() {
                self.out = Vec::new();
            }
        } else if self.written >= BEHIND {
            self.out.drain(..self.written);
            self.written = 0;
        }
        if self.out.len() - self.written < BEHIND / 2 {
            for stream in self.waiting.drain(..) {
                let Some(state) = self.streams.get_mut(&stream) else { continue };
                state.waits = false;
                wake(&mut state.writer);
            }
        }
    }

    /// Whether the connection may be closed: nobody uses it, and nobody will.
    pub(super) fn is_over(&self) -> bool {
        self.role == Role::Client && self.leaving && self.streams.is_empty()
    }

    pub(super) fn wait(&mut self, cx: &mut Context<'_>) {
        keep(&mut self.driver, cx);
    }

    /// The connection is gone: whatever was on it is cut.
    pub(super) fn end(&mut self) {
        (self.ended, self.leaving) = (true, true);
        (self.out, self.written) = (Vec::new(), 0);
        self.streams.retain(|_, state| !state.is_left);
        self.streams.values_mut().for_each(State::cut);
        self.waiting.clear();
        wake(&mut self.accepting);
    }
}

/// What a stream that was cut says.
fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// Bytes that wait to be written, before a peer is cut off for what it makes us say. Others stay below [`BEHIND`] and a
/// word for each stream.
const FLOOD: usize = 8 * BEHIND;
