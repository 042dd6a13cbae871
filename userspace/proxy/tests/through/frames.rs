//! A client or a server of HTTP/2 by hand: every frame is the test's.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::mesh::{Mesh, PATIENCE};

/// A connection whose preface and first SETTINGS are sent.
pub(crate) struct Raw {
    pub(crate) reader: Reader,
    pub(crate) writer: OwnedWriteHalf,
}

/// Reads frames one after the other.
pub(crate) struct Reader {
    socket: OwnedReadHalf,
    bytes: Vec<u8>,
}

/// A frame that the proxy sent.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What ended a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// GOAWAY with this error.
    Goaway(u32),
    /// A reset, or an end without a word.
    Closed,
}

impl Raw {
    /// Connects and says these settings.
    pub(crate) async fn connect(mesh: &Mesh, settings: &[(u16, u32)]) -> Self {
        let stream: TcpStream = mesh.dial().await;
        let (socket, mut writer) = stream.into_split();
        let settings = settings
            .iter()
            .flat_map(|(name, value)| name.to_be_bytes().into_iter().chain(value.to_be_bytes()));
        let first = [PREFACE, &frame(SETTINGS, 0, 0, &settings.collect::<Vec<_>>())].concat();
        writer.write_all(&first).await.unwrap();
        Self { reader: Reader { socket, bytes: Vec::new() }, writer }
    }

    /// The other side: takes a connection of the proxy's, and waits for its first request.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("the proxy connects").unwrap();
        let (mut socket, mut writer) = stream.into_split();
        socket.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        writer.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let mut server = Self { reader: Reader { socket, bytes: Vec::new() }, writer };
        server.expect(HEADERS, 1).await;
        server
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.writer.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// Waits for a frame of this kind and stream.
    pub(crate) async fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        let found = async {
            loop {
                let frame = self.reader.next().await.expect("the connection lives");
                if (frame.kind, frame.stream) == (kind, stream) {
                    return frame;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the frame comes")
    }
}

impl Reader {
    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !matches!(self.socket.read_buf(&mut self.bytes).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Reads to the end.
    pub(crate) async fn end(&mut self) -> End {
        let mut end = End::Closed;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                end = End::Goaway(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        end
    }

    fn take(&mut self) -> Option<Frame> {
        let (head, rest) = self.bytes.split_first_chunk::<9>()?;
        let [high, middle, low, kind, _flags, stream @ ..] = *head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let payload = rest.get(..length)?.to_vec();
        self.bytes.drain(..9 + length);
        Some(Frame { kind, stream: u32::from_be_bytes(stream), payload })
    }
}

/// The bytes of a frame (RFC 9113 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET http://web/`, and `POST`, in HPACK's static table.
pub(crate) const GET: &[u8] = b"\x82\x86\x84\x41\x03web";
pub(crate) const POST: &[u8] = b"\x83\x86\x84\x41\x03web";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
