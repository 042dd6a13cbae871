//! Bytes for another process in memory that nobody can change any more.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::Errno;

/// A memfd whose bytes are final: it can neither be written nor grow nor shrink, by anyone.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    len: usize,
}

/// Why bytes cannot be given away or taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The memory file cannot be made.
    #[error("cannot write {len} bytes to a memfd (is there memory left in the cgroup?): {source}")]
    Write {
        /// How many there were.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The descriptor is something else.
    #[error("the descriptor that was sent is no memfd: {source}")]
    NotAMemfd {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The sender could still change the bytes while they are read.
    #[error("the memfd that was sent lacks the seals {missing:?}; the sender has to seal it first")]
    Unsealed {
        /// The seals that are not set.
        missing: SealFlags,
    },
    /// There are more bytes than the reader wants to hold.
    #[error("the memfd that was sent has {len} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// How many there are.
        len: u64,
        /// How many there may be.
        limit: usize,
    },
    /// The bytes cannot be read.
    #[error("cannot read {len} bytes from a memfd: {source}")]
    Read {
        /// How many there are.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Sealed {
    /// Copies `bytes` to a new memfd and seals it.
    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        let write = || {
            let mut file = File::from(create()?);
            file.write_all(bytes)?;
            fcntl_add_seals(&file, SEALS)?;
            Ok(file)
        };
        let file = write().map_err(|source| Error::Write { len: bytes.len(), source })?;
        Ok(Self { file, len: bytes.len() })
    }

    /// Takes a received descriptor, if it is sealed and has at most `limit` bytes.
    pub fn verify(fd: OwnedFd, limit: usize) -> Result<Self, Error> {
        let not_a_memfd = |errno: Errno| Error::NotAMemfd { source: errno.into() };
        let missing = SEALS - fcntl_get_seals(&fd).map_err(not_a_memfd)?;
        if !missing.is_empty() {
            return Err(Error::Unsealed { missing });
        }
        // Only now: the size of an unsealed one may change at any time.
        let len = u64::try_from(fstat(&fd).map_err(not_a_memfd)?.st_size).unwrap_or(u64::MAX);
        match usize::try_from(len) {
            Ok(len) if len <= limit => Ok(Self { file: fd.into(), len }),
            _ => Err(Error::TooLarge { len, limit }),
        }
    }

    /// All bytes. Reads blockingly, from memory.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.len];
        self.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// All bytes, into a buffer of as many: the caller's, who may want to overwrite it when it is done.
    pub fn read_into(&self, bytes: &mut [u8]) -> Result<(), Error> {
        // The offset of the descriptor is shared with the sender.
        self.file.read_exact_at(bytes, 0).map_err(|source| Error::Read { len: self.len, source })
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Not executable where the kernel knows that (6.3): `vm.memfd_noexec=2` demands it.
fn create() -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        result => result,
    }
}

/// Shown in `/proc/<pid>/fd`.
const NAME: &str = "weft";
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn the_receiver_reads_what_was_written_whatever_the_offset() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = Sealed::of(&bytes).unwrap();
        let received = Sealed::verify(sent.as_fd().try_clone_to_owned().unwrap(), bytes.len()).unwrap();
        assert_eq!((received.len(), received.read().unwrap()), (400_000, bytes.clone()));
        assert_eq!(received.read().unwrap(), bytes);
    }

    #[test]
    fn nobody_can_write_to_it_grow_it_or_shrink_it() {
        let file = Sealed::of(b"final").unwrap().file;
        for result in [file.write_all_at(b"x", 0), file.set_len(4), file.set_len(6)] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn each_missing_seal_is_refused_and_named() {
        for left_out in SEALS.iter() {
            let fd = create().unwrap();
            // Without SEAL first: it forbids the others.
            fcntl_add_seals(&fd, SEALS - left_out).unwrap();
            let error = Sealed::verify(fd, 10).unwrap_err();
            assert!(matches!(error, Error::Unsealed { missing } if missing == left_out), "{error}");
        }
    }

    #[test]
    fn too_many_bytes_and_other_files_are_refused() {
        let large = Sealed::of(&[0; 11]).unwrap().file;
        assert!(matches!(Sealed::verify(large.into(), 10), Err(Error::TooLarge { len: 11, limit: 10 })));
        let other = File::open("/dev/null").unwrap();
        assert!(matches!(Sealed::verify(other.into(), 10), Err(Error::NotAMemfd { .. })));
    }
}
