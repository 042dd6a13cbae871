//! A TCP connection as most servers and clients have it: it never waits in its calls, and is polled.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with};

use crate::{Pod, SocketRequest};

/// The socket is `O_NONBLOCK` before it is connected. To whoever uses it, reads and writes wait, 20 s at most.
#[derive(Debug)]
pub struct Polled(TcpStream);

impl Polled {
    /// Connects from a pod; what is written first waits for it.
    pub fn connect(pod: &Pod, to: SocketAddr) -> io::Result<Self> {
        pod.open(&SocketRequest::tcp(to).non_blocking()).map(Self::from)
    }

    /// Accepts one connection.
    pub fn accept(listener: &TcpListener) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(accept_with(listener, flags)?.into())
    }

    /// The socket, still `O_NONBLOCK`.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
        self.0
    }

    fn wait<T>(&self, flags: PollFlags, mut call: impl FnMut(&TcpStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match call(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if poll(&mut [PollFd::new(&self.0, flags)], Some(&PATIENCE))? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                done => return done,
            }
        }
    }
}

impl From<OwnedFd> for Polled {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl Deref for Polled {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsFd for Polled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Read for Polled {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN, |mut socket| socket.read(into))
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT, |mut socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PATIENCE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
