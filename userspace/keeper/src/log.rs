//! Where a proxy writes what it has to say.
//!
//! A file of its own: a pipe or a journal that ends with the agent would take the words of a proxy that
//! lives on, and whoever reads the agent's output to its end would wait for the proxy's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The proxies' log of a run directory, and what was before it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    pub(crate) fn of(run_dir: &Path) -> Self {
        Self { path: run_dir.join(FILE) }
    }

    /// Opens it for a proxy, which appends: generations share it.
    pub(crate) fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    /// Keeps it within its bound: moves all of it aside once it is longer. Living proxies go on in the same
    /// file, so what they write in this instant may be lost.
    pub(crate) fn bound(&self) {
        if !fs::metadata(&self.path).is_ok_and(|log| log.len() > LONGEST) {
            return;
        }
        let move_aside = || {
            fs::copy(&self.path, self.before())?;
            OpenOptions::new().write(true).truncate(true).open(&self.path).map(drop)
        };
        if let Err(error) = move_aside() {
            tracing::warn!(path = %self.path.display(), %error, "the proxy's log grows beyond its bound");
        }
    }

    /// Its last line that was written since it had `length` bytes, for whoever wants to know why a proxy ended;
    /// `None` where there is none.
    pub(crate) fn last_line(&self, length: u64) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let now = file.metadata().ok()?.len();
        // It was moved aside if it is shorter now.
        let since = if length > now { 0 } else { length };
        file.seek(SeekFrom::Start(since.max(now.saturating_sub(TAIL)))).ok()?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail).ok()?;
        let line = String::from_utf8_lossy(&tail).lines().last()?.trim().to_owned();
        Some(line).filter(|line| !line.is_empty())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn before(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }
}

/// Name of the log in the run directory, and of what was before it.
pub(crate) const FILES: [&str; 2] = [FILE, "proxy.log.1"];
const FILE: &str = "proxy.log";
/// Bytes; there is as much again in the one before.
const LONGEST: u64 = 16 << 20;
/// Bytes in which the last line has to be.
const TAIL: u64 = 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_moved_aside_and_its_writers_go_on_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::of(dir.path());
        let mut writer = log.open().unwrap();
        writer.set_len(LONGEST).unwrap();
        log.bound();
        assert!(!log.before().exists(), "it is at its bound, not over it");
        writer.write_all(b"one\n").unwrap();
        log.bound();
        assert_eq!(fs::metadata(log.before()).unwrap().len(), LONGEST + 4);
        writer.write_all(b"two\nthree\n").unwrap();
        assert_eq!(fs::read_to_string(log.path()).unwrap(), "two\nthree\n");
        assert_eq!(log.last_line(LONGEST), Some("three".to_owned()));
        assert_eq!(log.last_line(10), None, "nothing was written since");
        writer.write_all(b"four\n").unwrap();
        assert_eq!(log.last_line(10), Some("four".to_owned()));
        assert!(FILES.iter().all(|name| dir.path().join(name).exists()));
    }

    #[test]
    fn without_a_log_there_is_no_last_line() {
        assert_eq!(Log::of(Path::new("/nowhere/at/all")).last_line(0), None);
    }
}
