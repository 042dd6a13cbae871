//! The few kernel calls that neither std nor nix wraps, and what tokio leaves to be promised.
#![expect(
    unsafe_code,
    reason = "SO_COOKIE, SO_NETNS_COOKIE and NS_GET_NSTYPE have no safe wrapper, nor has AsyncFd::register"
)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use tokio::io::{Interest, unix::AsyncFd};

/// The cookie of `socket`: the number that `bpf_get_socket_cookie` and `sock_diag` give it.
pub fn socket_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    option(socket, libc::SO_COOKIE)
}

/// The cookie of the network namespace in which `socket` was made. Since Linux 5.14.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    option(socket, SO_NETNS_COOKIE)
}

/// Whether `fd` is open on a network namespace.
pub(crate) fn is_netns(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of this process; `fd` is open
    // for the length of the call because it is borrowed.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

/// A descriptor that the runtime watches. It is never given out, so it stays the one that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    fd: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Registers a non-blocking descriptor with the runtime of the calling task.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open and is the same number as long as it lives; it lives in this
        // value, which lends it out only as `BorrowedFd` and never by `get_mut`.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd })
    }

    /// Tries `call` each time that the descriptor may be ready, until it does not answer `WouldBlock`.
    pub(crate) async fn when<T>(
        &self,
        ready: Interest,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.fd.async_io(ready, |fd| call(fd.as_fd())).await
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

fn option(socket: BorrowedFd<'_>, name: c_int) -> Result<u64, Errno> {
    let mut value = 0_u64;
    let mut len: libc::socklen_t = 8;
    // SAFETY: `value` has room for the 8 bytes that `len` promises, any 8 bytes are a valid u64, and
    // both outlive the call; `socket` is open because it is borrowed.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut len)
    };
    Errno::result(result).map(|_| value)
}

/// `include/uapi/asm-generic/socket.h`; not in libc.
const SO_NETNS_COOKIE: c_int = 71;
/// `_IO(0xb7, 0x3)` of `include/uapi/linux/nsfs.h`; not in libc.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
