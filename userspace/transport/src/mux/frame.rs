//! Frames: how streams share one connection.
//!
//! ```text
//! kind (1) │ 0 (1) │ length (2) │ stream (4) │ length bytes          numbers are big-endian
//!
//! 1 Open    port (2)       the client begins a stream; the port of whoever it is for. Streams are numbered from 1 up
//! 2 Data    bytes          as many as the other end's credit lets
//! 3 End                    nothing more comes this way
//! 4 Reset                  neither way goes on
//! 5 Credit  bytes (4)      so many more may be sent; at first they are WINDOW
//! 6 Opened                 the server has somebody behind the stream
//! 7 Leave                  (stream 0) the server asks for no more streams on this connection
//! ```
//! **Versions.** ALPN names the framing. Within `weft/1` a frame of an unknown kind is skipped, and so is what a known one
//! has behind the bytes above: both are room for what later versions say to those that do not know it yet. Whatever is not
//! understood like that is another ALPN, offered beside this one.

/// Bytes of a frame's head.
pub const HEAD: usize = 8;

/// Bytes that each end may send on a new stream. A smaller one has the reader send its credit more often, and each time
/// wakes the other node's proxy.
pub const WINDOW: u32 = 512 << 10;

/// Bytes of a frame of data at most: with its head one record of TLS.
pub const MOST_DATA: usize = (16 << 10) - HEAD;

/// A frame, or a part of one of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The client begins a stream.
    Open {
        /// Its number.
        stream: u32,
        /// The port of whoever it is for.
        port: u16,
    },
    /// Bytes.
    Data {
        /// On which stream.
        stream: u32,
        /// A frame's data may come in several pieces.
        bytes: &'a [u8],
    },
    /// Nothing more comes.
    End {
        /// On which stream.
        stream: u32,
    },
    /// The stream was cut.
    Reset {
        /// Which.
        stream: u32,
    },
    /// More may be sent.
    Credit {
        /// On which stream.
        stream: u32,
        /// So many bytes.
        bytes: u32,
    },
    /// The server has somebody behind a stream.
    Opened {
        /// Which.
        stream: u32,
    },
    /// No more streams on this connection.
    Leave,
}

/// What is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It has fewer bytes than its kind needs.
    #[error("a frame of kind {kind} has {length} bytes; is the peer a proxy of weft?")]
    Short {
        /// The kind.
        kind: u8,
        /// How many it has.
        length: u16,
    },
    /// A frame of a stream without a number, or the other way around.
    #[error("a frame of kind {kind} is of stream {stream}; is the peer a proxy of weft?")]
    Stream {
        /// The kind.
        kind: u8,
        /// The number.
        stream: u32,
    },
}

/// Cuts what comes into frames, however it comes in pieces.
#[derive(Debug, Default)]
pub struct Parser {
    /// The head, and behind it what a kind needs to be understood.
    known: [u8; HEAD + 4],
    have: usize,
    /// Bytes of the frame that are still to come, once its head is whole.
    left: u16,
}

impl Parser {
    /// The next frame, or piece of one, at the front of `bytes`, which it is taken off; `None` when more is needed.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
        loop {
            if self.have < HEAD {
                if !self.collect(HEAD, bytes) {
                    return Ok(None);
                }
                self.left = u16::from_be_bytes([self.known[2], self.known[3]]);
                self.check()?;
            }
            let (kind, stream) = (self.known[0], self.stream());
            if kind == DATA {
                let (data, rest) = bytes.split_at(bytes.len().min(self.left.into()));
                *bytes = rest;
                self.passed(data.len());
                match (data, self.left) {
                    ([], 0) => self.have = 0,
                    ([], _) => return Ok(None),
                    (_, left) => {
                        self.have = if left == 0 { 0 } else { self.have };
                        return Ok(Some(Frame::Data { stream, bytes: data }));
                    }
                }
                continue;
            }
            let needed = HEAD + usize::from(needed(kind));
            if self.have < needed {
                let before = self.have;
                let whole = self.collect(needed, bytes);
                self.passed(self.have - before);
                if !whole {
                    return Ok(None);
                }
            }
            // What is behind it is for those who know it.
            let skipped = bytes.len().min(self.left.into());
            *bytes = &bytes[skipped..];
            self.passed(skipped);
            if self.left > 0 {
                return Ok(None);
            }
            self.have = 0;
            if let Some(frame) = self.frame(kind, stream) {
                return Ok(Some(frame));
            }
        }
    }

    /// Fills `known` up to `wanted`; whether it is full.
    fn collect(&mut self, wanted: usize, bytes: &mut &[u8]) -> bool {
        let (part, rest) = bytes.split_at(bytes.len().min(wanted - self.have));
        self.known[self.have..self.have + part.len()].copy_from_slice(part);
        self.have += part.len();
        *bytes = rest;
        self.have == wanted
    }

    fn passed(&mut self, bytes: usize) {
        self.left -= u16::try_from(bytes).expect("no more than are left");
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.known[4], self.known[5], self.known[6], self.known[7]])
    }

    fn check(&self) -> Result<(), Malformed> {
        let (kind, length, stream) = (self.known[0], self.left, self.stream());
        if length < needed(kind) {
            return Err(Malformed::Short { kind, length });
        }
        let known = (OPEN..=LEAVE).contains(&kind);
        if known && (kind == LEAVE) != (stream == 0) {
            return Err(Malformed::Stream { kind, stream });
        }
        Ok(())
    }

    fn frame(&self, kind: u8, stream: u32) -> Option<Frame<'static>> {
        let [.., a, b, c, d] = self.known;
        Some(match kind {
            OPEN => Frame::Open { stream, port: u16::from_be_bytes([a, b]) },
            END => Frame::End { stream },
            RESET => Frame::Reset { stream },
            CREDIT => Frame::Credit { stream, bytes: u32::from_be_bytes([a, b, c, d]) },
            OPENED => Frame::Opened { stream },
            LEAVE => Frame::Leave,
            _ => return None,
        })
    }
}

impl Frame<'_> {
    /// Appends it to `out`. Data is [`MOST_DATA`] at most.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Open { stream, port } => put(out, OPEN, stream, &port.to_be_bytes()),
            Self::Data { stream, bytes } => put(out, DATA, stream, bytes),
            Self::End { stream } => put(out, END, stream, &[]),
            Self::Reset { stream } => put(out, RESET, stream, &[]),
            Self::Credit { stream, bytes } => put(out, CREDIT, stream, &bytes.to_be_bytes()),
            Self::Opened { stream } => put(out, OPENED, stream, &[]),
            Self::Leave => put(out, LEAVE, 0, &[]),
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, stream: u32, body: &[u8]) {
    let length = u16::try_from(body.len()).expect("frames are shorter");
    out.extend_from_slice(&[kind, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

/// Bytes that a kind cannot do without.
fn needed(kind: u8) -> u16 {
    match kind {
        OPEN => 2,
        CREDIT => 4,
        _ => 0,
    }
}

const OPEN: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;
const RESET: u8 = 4;
const CREDIT: u8 = 5;
const OPENED: u8 = 6;
const LEAVE: u8 = 7;

#[cfg(test)]
mod tests;
