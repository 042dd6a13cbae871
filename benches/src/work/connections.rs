//! Connections of one request each, some at a time, so that client and server are both busy.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::{ANSWER, REQUEST, WARM_UP, rate};

/// Connections per second, each from connect(2) to the end that the server puts.
pub(super) fn measure(to: SocketAddr, lasts: Duration) -> io::Result<f64> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = (0..AT_A_TIME).map(|slot| open(&epoll, slot, to)).collect::<io::Result<Vec<_>>>()?;
    let mut events = Vec::with_capacity(AT_A_TIME);
    let (mut ended, mut counting, mut since) = (0, false, Instant::now());
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let slot = usize::try_from(event.data.u64()).expect("it is a slot");
            if clients[slot].read(&mut { ANSWER })? == 0 {
                ended += 1;
                clients[slot] = open(&epoll, slot, to)?;
            }
        }
        let elapsed = since.elapsed();
        if !counting && elapsed >= WARM_UP {
            (ended, counting, since) = (0, true, Instant::now());
        } else if counting && elapsed >= lasts {
            return Ok(rate(ended, elapsed));
        }
    }
}

/// Between two namespaces of one machine, the handshake is over when connect(2) returns.
fn open(epoll: &OwnedFd, slot: usize, to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(to)?;
    epoll::add(epoll, &stream, epoll::EventData::new_u64(slot as u64), epoll::EventFlags::IN)?;
    stream.write_all(&REQUEST)?;
    Ok(stream)
}

const AT_A_TIME: usize = 16;
