//! Connections that have been served and are kept.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::http;

/// Opens connections up to each number of `steps`, with one request each, and answers with the resident bytes of
/// `process` and its children at each.
pub(super) fn measure(to: SocketAddr, steps: &[usize], process: u32) -> Result<Vec<f64>> {
    let mut kept = Vec::new();
    let step = |step: &usize| {
        while kept.len() < *step {
            kept.push(served(to).with_context(|| format!("connection {}", kept.len()))?);
        }
        // What a proxy does a moment later belongs to it as well, and so does what it gives back then.
        std::thread::sleep(SETTLES);
        let bytes = crate::l7::resident(process)?;
        #[expect(clippy::cast_precision_loss, reason = "2^53 bytes do not fit a machine")]
        Ok(bytes as f64)
    };
    steps.iter().map(step).collect()
}

fn served(to: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(http::GET)?;
    let (mut answer, mut bytes) = (http::Answer::default(), [0; 4096]);
    while !{
        let len = stream.read(&mut bytes)?;
        answer.take(&bytes[..len])?
    } {}
    Ok(stream)
}

const SETTLES: Duration = Duration::from_secs(4);
