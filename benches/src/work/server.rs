//! One thread, one epoll: as little work per request as a server can do, so that the path shows.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::{ANSWER, REQUEST};

/// The port that answers each request.
pub const ANSWER_AND_KEEP: u16 = 8080;
/// The port that answers one request and closes, as the server of `Connection: close` does.
pub const ANSWER_AND_CLOSE: u16 = 8081;
/// The port that reads to the end.
pub const DISCARD: u16 = 8082;
/// The port that says `b` and closes.
pub const BLUE: u16 = 8083;
/// The port that says `g` and closes.
pub const GREEN: u16 = 8084;
/// The port that nobody waits at: connections stay in its queue.
pub const QUEUE: u16 = 8085;
/// The port that empties the queue before it answers.
pub const DRAIN: u16 = 8086;

/// Serves until the process is killed.
pub(super) fn serve() -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let queue = listen(QUEUE)?;
    queue.set_nonblocking(true)?;
    let mut server = Server { epoll, peers: Vec::new(), buffer: vec![0; 256 << 10], queue };
    for port in [ANSWER_AND_KEEP, ANSWER_AND_CLOSE, DISCARD, BLUE, GREEN, DRAIN] {
        server.add(Peer::Listener(listen(port)?, port))?;
    }
    let mut events = Vec::with_capacity(256);
    loop {
        epoll::wait(&server.epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            server.serve(usize::try_from(event.data.u64()).expect("it is a descriptor"))?;
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
}

/// Sockets stay blocking: each is touched once per event, and only after epoll says that it will not block.
struct Server {
    epoll: std::os::fd::OwnedFd,
    /// By descriptor.
    peers: Vec<Option<Peer>>,
    buffer: Vec<u8>,
    queue: TcpListener,
}

enum Peer {
    Listener(TcpListener, u16),
    /// The port that it came to, and how many bytes of its request have come.
    Client(TcpStream, u16, usize),
}

impl Server {
    fn serve(&mut self, index: usize) -> io::Result<()> {
        let next = match self.peers[index].as_mut().expect("a closed descriptor has no events") {
            Peer::Listener(listener, port) => Some((listener.accept()?.0, *port)),
            Peer::Client(stream, port, got) => {
                if *port == DRAIN {
                    while self.queue.accept().is_ok() {}
                }
                if !answer(stream, *port, got, &mut self.buffer) {
                    self.peers[index] = None;
                }
                None
            }
        };
        match next {
            Some((mut stream, BLUE)) => say(&mut stream, *b"b"),
            Some((mut stream, GREEN)) => say(&mut stream, *b"g"),
            Some((stream, port)) => self.add(Peer::Client(stream, port, 0))?,
            None => {}
        }
        Ok(())
    }

    fn add(&mut self, peer: Peer) -> io::Result<()> {
        let socket = match &peer {
            Peer::Listener(listener, _) => listener.as_fd(),
            Peer::Client(stream, ..) => stream.as_fd(),
        };
        let index = usize::try_from(socket.as_raw_fd()).expect("descriptors are not negative");
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?;
        if self.peers.len() <= index {
            self.peers.resize_with(index + 1, || None);
        }
        self.peers[index] = Some(peer);
        Ok(())
    }
}

/// Reads once and answers; whether the connection goes on.
fn answer(stream: &mut TcpStream, port: u16, got: &mut usize, buffer: &mut [u8]) -> bool {
    // A reset ends a connection like a close does.
    let Ok(len @ 1..) = stream.read(buffer) else { return false };
    if port == DISCARD {
        return true;
    }
    *got += len;
    while *got >= REQUEST.len() {
        *got -= REQUEST.len();
        if stream.write_all(&ANSWER).is_err() || port == ANSWER_AND_CLOSE {
            return false;
        }
    }
    true
}

/// The client may be gone already.
fn say(stream: &mut TcpStream, letter: [u8; 1]) {
    let _ = stream.write_all(&letter);
}
