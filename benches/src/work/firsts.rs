//! Connections to ports that nobody has dialled before.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::rate;

/// Serves until the process is killed.
pub(super) fn serve(first: u16, count: u16) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listeners: Vec<_> = (first..first + count)
        .map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .collect::<Result<_, _>>()?;
    for (index, listener) in listeners.iter().enumerate() {
        epoll::add(&epoll, listener, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let mut events = Vec::with_capacity(256);
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64()).expect("it is an index");
            let (mut stream, _) = listeners[index].accept()?;
            // Who is gone is not served.
            let _ = stream.write_all(b"x");
        }
    }
}

/// Connections per second, each from connect(2) to the letter that the server says, some at a time.
pub(super) fn measure(to: Ipv4Addr, first: u16, count: u16) -> io::Result<f64> {
    let (next, begin) = (AtomicU16::new(0), Instant::now());
    let some = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return io::Result::Ok(());
        }
        TcpStream::connect((to, first + index))?.read_exact(&mut [0])?;
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(some)).collect();
        all.into_iter().try_for_each(|one| one.join().expect("it does not panic"))
    })?;
    Ok(rate(count.into(), begin.elapsed()))
}

const AT_A_TIME: usize = 16;
