//! Messages with file descriptors between two processes: a unix socket of type `SOCK_SEQPACKET`.
//!
//! One `send` is one `recv`, whole or not at all. Nothing blocks; what does not fit is an error, never
//! a part.

use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recvmsg, sendmsg, socket_with, socketpair,
};
use tokio::io::Interest;

use crate::socket::Watched;

/// Bytes that a message may have. With its bookkeeping it fits the kernel's default socket buffers
/// (`net.core.wmem_default`, 208 KiB).
pub const LARGEST_MESSAGE: usize = 64 << 10;

/// File descriptors that a message may carry; the kernel allows 253.
pub const MOST_FDS: usize = 64;

/// Where connections are accepted.
#[derive(Debug)]
pub struct Listener {
    fd: Watched,
    path: PathBuf,
}

/// One end of a connection. Both directions may be used at once, by several tasks: each message goes
/// out whole. Dropping a call that has not returned loses no message.
#[derive(Debug)]
pub struct Connection {
    fd: Watched,
}

/// What arrived at once.
#[derive(Debug)]
pub struct Message {
    /// The bytes, at least one.
    pub bytes: Vec<u8>,
    /// The descriptors, closed on exec, in the order in which they were sent.
    pub fds: Vec<OwnedFd>,
}

/// Why a message did not come through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be made at its path.
    #[error("cannot listen on {}: {source}", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nobody answers at the path.
    #[error("cannot connect to {} (does the agent run?): {source}", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No connection can be accepted.
    #[error("cannot accept a connection on {}: {source}", path.display())]
    Accept {
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The runtime cannot watch the socket.
    #[error("cannot register a unix socket with the runtime: {0}")]
    Register(#[source] io::Error),
    /// The message cannot be sent in one piece, or is empty, which would look like the end.
    #[error(
        "a message of {bytes} bytes with {fds} descriptors cannot be sent: \
         1 to {LARGEST_MESSAGE} bytes and at most {MOST_FDS} descriptors can"
    )]
    Size {
        /// Its bytes.
        bytes: usize,
        /// Its descriptors.
        fds: usize,
    },
    /// The message could not be sent.
    #[error("cannot send a message of {bytes} bytes with {fds} descriptors: {source}")]
    Send {
        /// Its bytes.
        bytes: usize,
        /// Its descriptors.
        fds: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No message could be received.
    #[error("cannot receive a message: {0}")]
    Receive(#[source] io::Error),
    /// The message was longer than the other end may send.
    #[error("the other end sent a message of more than {LARGEST_MESSAGE} bytes; it was dropped")]
    Truncated,
    /// Not every descriptor arrived.
    #[error(
        "descriptors of a message were lost: more than {MOST_FDS} were sent, or this process has no room for \
         more (raise its limit of open files)"
    )]
    FdsLost,
}

impl Listener {
    /// Listens at `path`, open to the owner only. What is at `path` is replaced at once, without a moment
    /// where nothing is there: the caller is the only one who may listen.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let listening = || {
            // Made under another name first: under its own it never has wider permissions.
            let mut fresh = path.as_os_str().to_owned();
            fresh.push(".new");
            let fresh = PathBuf::from(fresh);
            remove(&fresh)?;
            let fd = new_socket()?;
            bind(&fd, &SocketAddrUnix::new(&fresh)?)?;
            fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
            listen(&fd, BACKLOG)?;
            fs::rename(&fresh, path)?;
            Ok(fd)
        };
        let fd = listening().map_err(|source| Error::Bind { path: path.into(), source })?;
        Ok(Self { fd: Watched::new(fd).map_err(Error::Register)?, path: path.into() })
    }

    /// Waits for a connection.
    pub async fn accept(&self) -> Result<Connection, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepting = self.fd.when(Interest::READABLE, |fd| Ok(accept_with(fd, flags)?));
        let accepted = accepting.await.map_err(|source| Error::Accept { path: self.path.clone(), source })?;
        Connection::over(accepted)
    }
}

impl Connection {
    /// Connects to whoever listens at `path`. A listener with a full queue is an error, as an absent one is.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let connected = || {
            let fd = new_socket()?;
            connect(&fd, &SocketAddrUnix::new(path)?)?;
            Ok(fd)
        };
        Self::over(connected().map_err(|source| Error::Connect { path: path.into(), source })?)
    }

    /// Two ends of one connection.
    pub fn pair() -> Result<(Self, Self), Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (one, other) = pair.map_err(|errno| Error::Register(errno.into()))?;
        Ok((Self::over(one)?, Self::over(other)?))
    }

    /// Who is at the other end, by its number in this process's pid namespace: whoever called [`Self::connect`],
    /// [`Listener::bind`] or [`Self::pair`]. `None` for one that cannot be seen from here.
    pub fn peer_process(&self) -> Option<u32> {
        let peer = getsockopt(&self.fd, PeerCredentials).ok()?;
        u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0)
    }

    fn over(fd: OwnedFd) -> Result<Self, Error> {
        Ok(Self { fd: Watched::new(fd).map_err(Error::Register)? })
    }

    /// Sends one message; waits while the other end has not read what came before. The descriptors stay
    /// the caller's, the other end has its own from then on.
    pub async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let (len, count) = (bytes.len(), fds.len());
        if len == 0 || len > LARGEST_MESSAGE || count > MOST_FDS {
            return Err(Error::Size { bytes: len, fds: count });
        }
        let sending = self.fd.when(Interest::WRITABLE, |fd| Ok(send_now(fd, bytes, fds)?));
        sending.await.map_err(|source| Error::Send { bytes: len, fds: count, source })
    }

    /// Receives one message; `None` once the other end is closed.
    ///
    /// After [`Error::Truncated`] and [`Error::FdsLost`] the next message can be received; what there was of
    /// the lost one is closed.
    pub async fn receive(&self) -> Result<Option<Message>, Error> {
        let receiving = self.fd.when(Interest::READABLE, |fd| Ok(receive_now(fd)?));
        let (message, flags) = match receiving.await {
            Ok(received) => received,
            // The other end was closed before it read what this one had sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(Error::Receive(error)),
        };
        if flags.contains(ReturnFlags::TRUNC) {
            return Err(Error::Truncated);
        }
        if flags.contains(ReturnFlags::CTRUNC) || message.fds.len() > MOST_FDS {
            return Err(Error::FdsLost);
        }
        Ok(Some(message).filter(|message| !message.bytes.is_empty()))
    }
}

fn send_now(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(fds));
        assert!(fits, "the space is for MOST_FDS, which `send` has checked");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    retry(|| sendmsg(fd, &[IoSlice::new(bytes)], &mut control, flags)).map(drop)
}

fn receive_now(fd: BorrowedFd<'_>) -> Result<(Message, ReturnFlags), Errno> {
    // Made when there is something to read: a quiet connection holds no buffer.
    let mut bytes = vec![0; LARGEST_MESSAGE];
    let mut space = [MaybeUninit::uninit(); FDS_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = retry(|| recvmsg(fd, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags))?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    bytes.shrink_to_fit();
    Ok((Message { bytes, fds }, received.flags))
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const FDS_SPACE: usize = rustix::cmsg_space!(ScmRights(MOST_FDS));
/// Proxies of all generations that may try at once.
const BACKLOG: i32 = 16;
