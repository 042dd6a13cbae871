//! What a client of HTTP/2 may send that asks for nothing, and a server that answers nothing.
//!
//! hyper and h2 bound what is kept: streams, heads and their CONTINUATION frames, resets, DATA without bytes. They answer
//! SETTINGS and PING, and take in `WINDOW_UPDATE`, PRIORITY and frames of unknown kinds for as long as they come, which
//! costs a worker's time. So frames are counted where they pass, by their heads alone:
//!
//! ```text
//! read     HEADERS, DATA with bytes   one back     every other frame   one of the allowance
//! written  HEADERS, DATA              ten back     (Envoy's: ten WINDOW_UPDATE for each DATA that it sent)
//! time     the whole allowance back every ten seconds
//! ```

mod gathered;

use std::{error::Error as _, io::IoSlice, time::Duration};

pub(crate) use gathered::{Gathered, Spawns, Together, gather};

/// The frames of one connection.
#[derive(Debug)]
pub(crate) struct Frames {
    read: Heads,
    written: Heads,
    /// So many more frames that ask for nothing, at most `most`.
    left: u64,
    most: u64,
    /// Until when time has given back, in nanoseconds of the proxy's clock.
    given: u64,
}

/// Finds the heads of frames in the bytes of one direction.
#[derive(Debug)]
struct Heads {
    /// Bytes until the next head.
    skip: usize,
    /// A head that is not whole, and how much of it is here.
    part: [u8; HEAD],
    have: usize,
}

/// A frame as far as it is looked at (RFC 9113 4.1).
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Frames {
    /// Of a connection whose client has not sent its preface; `now` in nanoseconds.
    pub(crate) fn new(most: u32, now: u64) -> Self {
        Self::after(PREFACE, 0, most, now)
    }

    /// Of a connection to a server, to which nothing has been sent yet.
    pub(crate) fn of_server(most: u32, now: u64) -> Self {
        Self::after(0, PREFACE, most, now)
    }

    fn after(read: usize, written: usize, most: u32, now: u64) -> Self {
        let most = u64::from(most);
        Self { read: Heads::after(read), written: Heads::after(written), left: most, most, given: now }
    }

    /// Enters what was read. `false`: the peer floods the connection.
    pub(crate) fn read(&mut self, bytes: &[u8], now: u64) -> bool {
        self.give_time_back(now);
        let Self { read, left, most, .. } = self;
        let mut within = true;
        read.follow(bytes, |frame| match frame.asks() {
            true => *left = left.saturating_add(1).min(*most),
            false if *left > 0 => *left -= 1,
            false => within = false,
        });
        within
    }

    /// Enters what was written.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        let mut carried = 0;
        self.written.follow(bytes, |frame| carried += u64::from(matches!(frame.kind, DATA | HEADERS)));
        self.give_back(carried * FOR_EACH_WRITTEN);
    }

    /// Enters so many bytes of those that were to be written.
    pub(crate) fn wrote_vectored(&mut self, bufs: &[IoSlice<'_>], mut written: usize) {
        for buf in bufs {
            let here = written.min(buf.len());
            self.wrote(&buf[..here]);
            written -= here;
        }
    }

    fn give_time_back(&mut self, now: u64) {
        let each = BACK_WITHIN.as_nanos() / u128::from(self.most.max(1));
        let each = u64::try_from(each).unwrap_or(u64::MAX).max(1);
        let back = now.saturating_sub(self.given) / each;
        self.given += back * each;
        self.give_back(back);
    }

    fn give_back(&mut self, frames: u64) {
        self.left = self.left.saturating_add(frames).min(self.most);
    }
}

impl Heads {
    fn after(skip: usize) -> Self {
        Self { skip, part: [0; HEAD], have: 0 }
    }

    fn follow(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let here = (HEAD - self.have).min(bytes.len());
            self.part[self.have..self.have + here].copy_from_slice(&bytes[..here]);
            self.have += here;
            bytes = &bytes[here..];
            if self.have < HEAD {
                return;
            }
            let frame = Frame::of(self.part);
            (self.skip, self.have) = (frame.length, 0);
            each(frame);
        }
    }
}

impl Frame {
    fn of(head: [u8; HEAD]) -> Self {
        let [high, middle, low, kind, flags, ..] = head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Self { length, kind, flags }
    }

    /// Whether it is a part of a request.
    fn asks(&self) -> bool {
        match self.kind {
            HEADERS => true,
            DATA => self.length > 0 || self.flags & END_STREAM != 0,
            _ => false,
        }
    }
}

/// Whether a bound of h2's own ended the connection.
pub(crate) fn is_calmed(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|error| error.downcast_ref::<h2::Error>());
    error.is_some_and(|error| !error.is_remote() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// Bytes of a frame's head, and of the client's preface.
const HEAD: usize = 9;
const PREFACE: usize = 24;
/// Types and a flag (RFC 9113 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const FOR_EACH_WRITTEN: u64 = 10;
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![7; payload]].concat()
    }

    fn ping() -> Vec<u8> {
        frame(6, 0, 8)
    }

    fn greeted(most: u32) -> Frames {
        let mut frames = Frames::new(most, 0);
        assert!(frames.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0));
        frames
    }

    #[test]
    fn a_head_is_found_wherever_reads_cut_it() {
        let bytes = [frame(0, 1, 3), frame(1, 4, 0), ping(), frame(0, 0, 300)].concat();
        for step in 1..bytes.len() {
            let (mut heads, mut seen) = (Heads::after(0), Vec::new());
            bytes.chunks(step).for_each(|part| heads.follow(part, |frame| seen.push(frame)));
            let seen: Vec<_> = seen.iter().map(|frame| (frame.kind, frame.flags, frame.length)).collect();
            assert_eq!(seen, [(0, 1, 3), (1, 4, 0), (6, 0, 8), (0, 0, 300)], "in steps of {step}");
        }
    }

    #[test]
    fn frames_that_ask_for_nothing_are_used_up() {
        for nothing in
            [ping(), frame(4, 0, 6), frame(8, 0, 4), frame(2, 0, 5), frame(0, 0, 0), frame(99, 0, 1)]
        {
            let mut frames = greeted(3);
            let taken = (0..10).take_while(|_| frames.read(&nothing, 0)).count();
            assert_eq!(taken, 3, "of type {}", nothing[3]);
        }
    }

    #[test]
    fn requests_answers_and_time_give_back() {
        let mut frames = greeted(20);
        for _ in 0..1_000 {
            assert!(frames.read(&[frame(1, 4, 10), ping()].concat(), 0));
            assert!(frames.read(&[frame(0, 0, 10), ping()].concat(), 0));
            assert!(frames.read(&ping().repeat(10), 0));
            frames.wrote(&frame(0, 0, 1));
        }
        frames.wrote(&frame(1, 4, 1));
        assert!(frames.read(&ping().repeat(20), 0));
        assert!(!frames.read(&ping(), 0));
        let half = u64::try_from(BACK_WITHIN.as_nanos() / 2).unwrap();
        assert!(frames.read(&ping().repeat(10), half));
        assert!(!frames.read(&ping(), half));
        assert!(frames.read(&ping().repeat(20), half * 100), "and no more than it was");
        assert!(!frames.read(&ping(), half * 100));
    }
}
