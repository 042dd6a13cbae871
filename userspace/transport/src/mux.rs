//! Many streams on one connection, each with an end, a reset and a back-pressure of its own.
//!
//! ```text
//! client: Opener::open ──► Stream ──┐                                    ┌── Stream ◄── Incoming::accept :server
//!                          Stream ──┼──► Driver ══ one connection ══ Driver ┼── Stream
//!                          Stream ──┘                                    └── Stream
//! ```
//! What streams write while the driver waits for its turn goes out as one piece: many small writes are one record of TLS
//! and one system call. What comes in is handed to its stream at once, and never waits for another: a stream that nobody
//! reads uses up its credit and no more ([`WINDOW`]).
//!
//! Only the client opens streams, so a connection that has none can be
//! closed by the client without a race.

mod driver;
pub mod frame;
mod shared;
mod state;
mod stream;

use std::future::poll_fn;

use tokio::io::{AsyncBufRead, AsyncWrite};

pub use driver::Driver;
use frame::Frame;
pub use frame::WINDOW;
use shared::{Handle, Role};
pub use stream::Stream;

/// The client's end of a connection.
#[derive(Clone, Debug)]
pub struct Opener(Handle);

/// The server's end of a connection. Dropped, streams that nobody has taken are reset.
#[derive(Debug)]
pub struct Incoming(Handle);

/// The client's end of `io`, and what carries its bytes as long as it is polled.
pub fn client<IO: AsyncBufRead + AsyncWrite + Unpin>(io: IO) -> (Opener, Driver<IO>) {
    let shared = Handle::new(Role::Client);
    (Opener(shared.clone()), Driver::new(io, shared))
}

/// The server's end of `io`, and what carries its bytes as long as it is polled.
pub fn server<IO: AsyncBufRead + AsyncWrite + Unpin>(io: IO) -> (Incoming, Driver<IO>) {
    let shared = Handle::new(Role::Server);
    (Incoming(shared.clone()), Driver::new(io, shared))
}

impl Opener {
    /// Begins a stream for whoever is at `port`; `None` where the connection takes no more. Bytes may be written at once.
    pub fn open(&self, port: u16) -> Option<Stream> {
        let number = self.0.lock().open(port)?;
        Some(Stream::new(self.0.clone(), number))
    }

    /// Whether [`Opener::open`] has one.
    pub fn is_open(&self) -> bool {
        self.0.lock().takes_more()
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.0.lock().streams()
    }

    /// How often something has come from the server.
    pub fn heard(&self) -> u64 {
        self.0.lock().heard
    }

    /// Whether the server owes an answer to the beginning of a stream.
    pub fn is_asked(&self) -> bool {
        self.0.lock().is_asked()
    }

    /// Cuts the streams whose beginning was not answered, and begins no more.
    pub fn give_up(&self) {
        self.0.lock().give_up();
    }

    /// Begins no more streams; the connection is closed once the last has ended.
    pub fn close(&self) {
        self.0.lock().close();
    }
}

impl Incoming {
    /// The next stream, and the port of whoever it is for; `None` once the connection has ended.
    pub async fn accept(&self) -> Option<(Stream, u16)> {
        let (number, port) = poll_fn(|cx| self.0.lock().poll_accept(cx)).await?;
        Some((Stream::new(self.0.clone(), number), port))
    }

    /// Asks the client for no more streams. Those that are on their way are taken all the same.
    pub fn leave(&self) {
        self.0.lock().say(Frame::Leave);
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.0.lock().streams()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.lock().accept_nothing_more();
    }
}

/// Streams of a connection at a time; a client opens another connection for more.
pub const STREAMS: usize = 256;
/// Bytes that wait to be written to a connection, before its streams have to wait. Its own words come on top: they are
/// bounded by the streams and by what was read of them.
pub const BEHIND: usize = 128 << 10;
