//! How long connect(2) takes.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, connect, socket};

use super::WARM_UP;

/// The median of connect(2) in microseconds; each call goes to another of `count` addresses.
///
/// The handshake runs in the calling thread, so nothing is waited for. A reset ends each connection: a client
/// that closes first would run out of ports.
pub(super) fn measure(first: Ipv4Addr, count: u32, port: u16, lasts: Duration) -> io::Result<f64> {
    let (begin, mut step, mut took) = (Instant::now(), 0_u32, Vec::with_capacity(100_000));
    while begin.elapsed() < WARM_UP + lasts {
        step = step.wrapping_add(STRIDE);
        let to = SocketAddrV4::new((u32::from(first) + step % count).into(), port);
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        let start = Instant::now();
        connect(&socket, &to)?;
        let end = start.elapsed();
        if begin.elapsed() > WARM_UP {
            took.push(end);
        }
        set_socket_linger(&socket, Some(Duration::ZERO))?;
    }
    let middle = took.len() / 2;
    let (_, median, _) = took.select_nth_unstable(middle);
    Ok(median.as_secs_f64() * 1e6)
}

/// A prime, so that neighbours in time are not neighbours in memory.
const STRIDE: u32 = 7919;
