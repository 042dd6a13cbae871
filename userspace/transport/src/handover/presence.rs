//! Whether a proxy lives, told by a lock that the kernel takes away with the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::Error;

/// Held by each living proxy of a run directory. Generations share it.
#[derive(Debug)]
pub struct Presence {
    _lock: File,
}

impl Presence {
    /// Tells that this process is a proxy of `run_dir`, until the value is dropped or the process ends.
    ///
    /// Blocks for the instant in which an agent looks. Take it before anything else: an agent that starts
    /// meanwhile would start another proxy.
    pub fn hold(run_dir: &Path) -> Result<Self, Error> {
        let (path, file) = open(run_dir)?;
        flock(&file, FlockOperation::LockShared).map_err(|errno| failed(path, errno))?;
        Ok(Self { _lock: file })
    }

    /// Whether any proxy of `run_dir` lives.
    pub fn any(run_dir: &Path) -> Result<bool, Error> {
        let (path, file) = open(run_dir)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(failed(path, errno)),
        }
    }
}

fn open(run_dir: &Path) -> Result<(PathBuf, File), Error> {
    let path = run_dir.join(LOCK);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    match opened {
        Ok(file) => Ok((path, file)),
        Err(source) => Err(Error::Lock { path, source }),
    }
}

fn failed(path: PathBuf, errno: Errno) -> Error {
    Error::Lock { path, source: io::Error::from(errno) }
}

const LOCK: &str = "proxy.lock";

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_proxy_is_there_as_long_as_one_generation_of_it_is() {
        let dir = tempdir().unwrap();
        let any = || Presence::any(dir.path()).unwrap();
        assert!(!any());
        let first = Presence::hold(dir.path()).unwrap();
        let second = Presence::hold(dir.path()).unwrap();
        assert!(any());
        drop(first);
        assert!(any());
        drop(second);
        assert!(!any());
    }
}
