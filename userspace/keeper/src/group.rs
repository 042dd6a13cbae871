//! The cgroup of the proxy: by it the connect hook tells the proxy's own connections from the pods'.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::Error;

/// A cgroup v2 in which there are only proxies.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes the group below `cgroup` if it is not there, and writes down for the proxy and for
    /// [`crate::cleanup`] where it is.
    pub(crate) fn make(cgroup: &Path, run_dir: &Path) -> Result<Self, Error> {
        let group = Self { path: cgroup.join(NAME) };
        match fs::create_dir(&group.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(group.failed("make", error)),
            _ => {}
        }
        // A folder of another filesystem has no such file.
        fs::metadata(group.path.join(PROCESSES)).map_err(|source| group.failed("use", source))?;
        let (record, fresh) = (run_dir.join(RECORD), run_dir.join(format!("{RECORD}.new")));
        let write = || {
            fs::write(&fresh, group.path.as_os_str().as_bytes())?;
            fs::rename(&fresh, &record)
        };
        write().map_err(|source| Error::File { attempt: "write", path: record.clone(), source })?;
        Ok(group)
    }

    /// The group that an agent wrote down in `run_dir`; `None` where none did.
    pub(crate) fn recorded(run_dir: &Path) -> Result<Option<Self>, Error> {
        let record = run_dir.join(RECORD);
        match fs::read(&record) {
            Ok(path) => Ok(Some(Self { path: PathBuf::from(std::ffi::OsString::from_vec(path)) })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { attempt: "read", path: record, source }),
        }
    }

    /// Moves the calling process into the group.
    pub(crate) fn join(&self) -> Result<(), Error> {
        fs::write(self.path.join(PROCESSES), "0").map_err(|source| self.failed("join", source))
    }

    /// Moves a process into the group, if it is not there: a proxy that an agent with another `--cgroup` has
    /// started. What it connects from then on is the group's.
    pub(crate) fn admit(&self, pid: i32) -> Result<(), Error> {
        if self.processes().contains(&pid) {
            return Ok(());
        }
        fs::write(self.path.join(PROCESSES), pid.to_string()).map_err(|source| self.failed("join", source))
    }

    /// The processes in it; none where it is gone.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let list = fs::read_to_string(self.path.join(PROCESSES)).unwrap_or_default();
        list.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Removes it. `Ok(false)` while there are processes in it.
    pub(crate) fn remove(&self) -> Result<bool, Error> {
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
            Err(source) => Err(self.failed("remove", source)),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, attempt: &'static str, source: io::Error) -> Error {
        Error::Group { attempt, path: self.path.clone(), source }
    }
}

/// Name of the file in the run directory that says where the group is.
pub(crate) const RECORD: &str = "proxy.cgroup";
const NAME: &str = "weft-proxy";
const PROCESSES: &str = "cgroup.procs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_cgroup_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = Group::make(dir.path(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("weft-proxy") && error.contains("--proxy off"), "{error}");
        assert!(Group::recorded(dir.path()).unwrap().is_none(), "nothing is written down");
    }
}
