//! One network namespace, held open by a file descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::Error;
use crate::socket::{is_netns, netns_cookie};

/// An open network namespace. It keeps the namespace alive: drop it once the path is gone.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    id: NetnsId,
}

/// What tells a namespace from every other one that is alive: the device and inode of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    dev: u64,
    inode: u64,
}

impl NetnsId {
    /// The inode, by which the kernel names a namespace in what it tells about BPF links.
    pub fn inode(self) -> u64 {
        self.inode
    }
}

impl Netns {
    /// Opens the namespace at `path`, a bind mount such as `/run/netns/web-1` or `/proc/<pid>/ns/net`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, OwnedFd::from(file))));
        let (metadata, fd) = opened.map_err(|source| Error::Open { path: path.into(), source })?;
        if !is_netns(fd.as_fd()) {
            return Err(Error::NotANetns { path: path.into() });
        }
        Ok(Self { fd, id: NetnsId::of(&metadata) })
    }

    /// The namespace behind a descriptor that another process sent.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        if !is_netns(fd.as_fd()) {
            return Err(Error::NotANetnsFd);
        }
        let file = File::from(fd);
        let id = NetnsId::of(&file.metadata().map_err(|_| Error::NotANetnsFd)?);
        Ok(Self { fd: file.into(), id })
    }

    /// Opens the namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Which namespace this is.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The cookie by which eBPF programs know this namespace. Never used again while the machine is up.
    pub fn cookie(&self) -> Result<u64, Error> {
        let read = || {
            let probe = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            netns_cookie(probe.as_fd())
        };
        self.run(read)?.map_err(Error::Cookie)
    }

    /// Runs `work` inside the namespace and returns what it made, such as sockets, which stay inside.
    ///
    /// `work` has a thread of its own that ends afterwards: a thread that went back to a pool could
    /// carry the namespace into unrelated work. A panic of `work` goes on in the caller. For TCP sockets
    /// [`Netns::listen`] and [`Netns::outgoing`] are cheaper.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let inside = || {
            setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(Error::Enter)?;
            Ok(work())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, inside);
            thread.map_err(Error::Thread)?.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl NetnsId {
    /// The namespace that `path` leads to now; no error where there is none yet, or none any more.
    ///
    /// Compared with [`Netns::id`], it tells whether a path was re-created under the same name.
    pub fn at(path: impl AsRef<Path>) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { dev: metadata.dev(), inode: metadata.ino() }
    }
}
