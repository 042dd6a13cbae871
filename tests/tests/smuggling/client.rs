//! A client that sends bytes and reads what comes until the proxy closes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where a proxy listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether the upstream gave it.
    pub(crate) upstream: bool,
    /// `x-weft-reason`
    pub(crate) reason: Option<String>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl Address {
    /// Whether somebody listens.
    pub(crate) fn answers(&self) -> bool {
        self.connect().is_ok()
    }

    fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Sends `bytes` and returns the answers, in their order.
pub(crate) fn send(address: &Address, bytes: &[u8]) -> Vec<Answer> {
    let mut stream = address.connect().unwrap();
    // A proxy may refuse and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let closed = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind());
        assert!(closed, "{address:?} does not end the connection: {error}");
    }
    let text: String = answer.iter().map(|byte| char::from(*byte)).collect();
    text.split("HTTP/1.").skip(1).filter_map(read).filter(|answer| answer.status != 100).collect()
}

/// Reads what stands behind `HTTP/1.`
fn read(text: &str) -> Option<Answer> {
    let status = text.get(2..5)?.parse().ok()?;
    let head = text.split("\r\n\r\n").next()?.to_ascii_lowercase();
    let field = |name: &str| {
        let is = |line: &&str| line.split_once(':').is_some_and(|(other, _)| other == name);
        let line = text.lines().zip(head.lines()).find(|(_, small)| is(small))?.0;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    Some(Answer { status, upstream: field("x-upstream").is_some(), reason: field("x-weft-reason") })
}

const PATIENCE: Duration = Duration::from_secs(20);
