//! Bytes of one connection carried to another, both ways, until both have ended.

mod buffer;
mod idle;
mod over;
mod way;

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::select;

use idle::Idle;
use way::{Broken, Way, broken};

/// Bytes handed over so far. May be read while the relay runs.
#[derive(Debug, Default)]
pub struct Progress {
    left_to_right: AtomicU64,
    right_to_left: AtomicU64,
}

/// How each side ended.
#[derive(Debug)]
pub struct Relayed {
    /// The first stream.
    pub left: End,
    /// The second stream.
    pub right: End,
}

/// How one side ended.
#[derive(Debug)]
pub enum End {
    /// It sent all it had and said so (FIN).
    Eof,
    /// It broke the connection (RST).
    Reset,
    /// It was still open when no byte had moved for the idle time, and was reset.
    Idle,
    /// It was still open when the other side broke, and was reset.
    Cut,
    /// This machine ended it: a time-out of the kernel, or a socket that was destroyed.
    Failed(io::Error),
}

/// Carries bytes between `left` and `right` until both have sent their end, one of them breaks, or
/// nothing moved for `idle`.
///
/// - An end of one side (FIN) is passed on when every byte before it is; the other way goes on.
/// - A reset is passed on as a reset, behind the bytes that came before it.
/// - A side that does not read stops the other: at most [`BUFFER`] bytes a way are in this process. A way
///   that has nothing to carry holds no buffer.
/// - Dropped before its end, it resets both: a stream that was cut must not look complete.
pub async fn relay(left: TcpStream, right: TcpStream, idle: Duration, progress: &Progress) -> Relayed {
    let mut pair = Pair { left, right, finished: false };
    let (clock, mut ends) = (Idle::new(idle), Ends::default());
    let outcome = select! {
        outcome = carry(&mut pair, progress, &clock, &mut ends) => outcome.map_err(Some),
        () = clock.reached() => Err(None),
    };
    pair.finished = outcome.is_ok();
    ends.after(outcome)
}

impl Progress {
    /// Bytes that left sent and right's socket took.
    pub fn left_to_right(&self) -> u64 {
        self.left_to_right.load(Ordering::Relaxed)
    }

    /// Bytes that right sent and left's socket took.
    pub fn right_to_left(&self) -> u64 {
        self.right_to_left.load(Ordering::Relaxed)
    }
}

impl End {
    /// EPIPE is what a reset reads as once the end of the stream was read.
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Failed(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// The two streams. Dropped unfinished, their close is a reset.
struct Pair<R: Inside> {
    left: TcpStream,
    right: R,
    finished: bool,
}

impl<R: Inside> Drop for Pair<R> {
    fn drop(&mut self) {
        if !self.finished {
            self.left.reset();
            self.right.reset();
        }
    }
}

/// What is known of each side's end.
#[derive(Default)]
struct Ends {
    left: Option<End>,
    right: Option<End>,
}

impl Ends {
    /// How each side ended: in order, after a silence, or as one of them broke.
    fn after(self, outcome: Result<(), Option<Broken>>) -> Relayed {
        match outcome {
            Ok(()) => Relayed { left: End::Eof, right: End::Eof },
            Err(None) => self.others(|| End::Idle),
            Err(Some(broken)) => self.broken(broken),
        }
    }

    /// As one of them broke.
    fn broken(mut self, Broken { side, error }: Broken) -> Relayed {
        match side {
            Side::Left => self.left = Some(End::of(error)),
            Side::Right => self.right = Some(End::of(error)),
        }
        self.others(|| End::Cut)
    }

    fn others(self, end: impl Fn() -> End) -> Relayed {
        Relayed { left: self.left.unwrap_or_else(&end), right: self.right.unwrap_or_else(&end) }
    }
}

async fn carry(
    pair: &mut Pair<TcpStream>,
    progress: &Progress,
    clock: &Idle,
    ends: &mut Ends,
) -> Result<(), Broken> {
    let (from_left, to_left) = pair.left.split();
    let (from_right, to_right) = pair.right.split();
    let forth = Way { from: Side::Left, to: Side::Right, bytes: &progress.left_to_right, clock };
    let back = Way { from: Side::Right, to: Side::Left, bytes: &progress.right_to_left, clock };
    let mut forth = pin!(forth.carry(from_left, to_right));
    let mut back = pin!(back.carry(from_right, to_left));
    // Once a side has sent its end nobody reads from it any more, but it can still reset.
    select! {
        ended = &mut forth => {
            let left = ended?;
            ends.left = Some(End::Eof);
            select! {
                ended = back => ended.map(drop),
                error = broken(left.as_ref()) => Err(Broken { side: Side::Left, error }),
            }
        }
        ended = &mut back => {
            let right = ended?;
            ends.right = Some(End::Eof);
            select! {
                ended = forth => ended.map(drop),
                error = broken(right.as_ref()) => Err(Broken { side: Side::Right, error }),
            }
        }
    }
}

pub use buffer::{BUFFER, Buffer};
pub use over::{Inside, relay_inside};
