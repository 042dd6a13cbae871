//! Keep-alive requests: as many under way as there are connections.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::{ANSWER, REQUEST, WARM_UP, rate};

/// Requests per second.
pub(super) fn measure(to: SocketAddr, connections: usize, lasts: Duration) -> io::Result<f64> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = Vec::with_capacity(connections);
    for index in 0..connections {
        let mut stream = TcpStream::connect(to)?;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        stream.write_all(&REQUEST)?;
        clients.push(Client { stream, got: 0 });
    }
    let mut events = Vec::with_capacity(connections);
    let (mut answers, mut counting, mut since) = (0, false, Instant::now());
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let index = usize::try_from(event.data.u64()).expect("it is an index");
            answers += u64::from(clients[index].turn()?);
        }
        let elapsed = since.elapsed();
        if !counting && elapsed >= WARM_UP {
            (answers, counting, since) = (0, true, Instant::now());
        } else if counting && elapsed >= lasts {
            return Ok(rate(answers, elapsed));
        }
    }
}

struct Client {
    stream: TcpStream,
    got: usize,
}

impl Client {
    /// Reads once; with a whole answer, asks again.
    fn turn(&mut self) -> io::Result<bool> {
        let mut answer = ANSWER;
        let len = self.stream.read(&mut answer[self.got..])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.got += len;
        let whole = self.got == ANSWER.len();
        if whole {
            self.got = 0;
            self.stream.write_all(&REQUEST)?;
        }
        Ok(whole)
    }
}
