//! One stream of bytes, as fast as it goes.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{WARM_UP, rate};

/// Bytes per second, until the server has read the last one.
pub(super) fn measure(to: SocketAddr, lasts: Duration) -> io::Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let (block, mut bytes) = (vec![0; 128 << 10], 0);
    let begin = Instant::now();
    while begin.elapsed() < WARM_UP {
        stream.write_all(&block)?;
    }
    // What is under way now is not counted, and what is under way at the end is waited for.
    let since = Instant::now();
    while since.elapsed() < lasts {
        stream.write_all(&block)?;
        bytes += block.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut [0])? > 0 {}
    Ok(rate(bytes, since.elapsed()))
}
