//! How long connect(2) takes.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, connect, socket};

use super::{ANSWER, DRAIN, REQUEST, WARM_UP};

/// The median of connect(2) in microseconds; each call goes to another of `count` addresses.
///
/// The whole handshake runs in the calling thread, and nobody waits for the connection at its other end: no
/// process is woken. What piles up is taken away between batches, on the side of the client by resets, or it
/// would run out of ports.
pub(super) fn measure(
    server: Ipv4Addr,
    (first, count, port): (Ipv4Addr, u32, u16),
    lasts: Duration,
) -> io::Result<f64> {
    let mut control = TcpStream::connect((server, DRAIN))?;
    let (begin, mut step, mut took) = (Instant::now(), 0_u32, Vec::with_capacity(100_000));
    while begin.elapsed() < WARM_UP + lasts {
        let mut sockets = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            step = step.wrapping_add(STRIDE);
            let to = SocketAddrV4::new((u32::from(first) + step % count).into(), port);
            let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            let start = Instant::now();
            connect(&socket, &to)?;
            took.push(start.elapsed());
            set_socket_linger(&socket, Some(Duration::ZERO))?;
            sockets.push(socket);
        }
        drop(sockets);
        control.write_all(&REQUEST)?;
        control.read_exact(&mut { ANSWER })?;
        if begin.elapsed() < WARM_UP {
            took.clear();
        }
    }
    let middle = took.len() / 2;
    let (_, median, _) = took.select_nth_unstable(middle);
    Ok(median.as_secs_f64() * 1e6)
}

/// Fewer than fit the queue of a listener.
const BATCH: usize = 64;
/// A prime, so that neighbours in time are not neighbours in memory.
const STRIDE: u32 = 7919;
