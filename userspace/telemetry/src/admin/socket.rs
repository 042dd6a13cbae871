//! The unix socket where an agent answers.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use super::Error;

/// Name of the socket in the run directory.
pub const SOCKET: &str = "agent.sock";

/// Bytes that a path may have: `sun_path` less its end.
pub const LONGEST_PATH: usize = 107;

/// Listens on [`SOCKET`] in `run_dir`, which is made if it is not there. A socket that a dead agent
/// left is replaced; one that answers is not. Only the owner can connect.
pub fn bind(run_dir: &Path) -> Result<UnixListener, Error> {
    bind_at(&run_dir.join(SOCKET))
}

/// As [`bind`], at a path of its own.
pub fn bind_at(path: &Path) -> Result<UnixListener, Error> {
    // Made under another name first: under its own it never has wider permissions.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let length = fresh.as_os_str().as_bytes().len();
    if length > LONGEST_PATH {
        return Err(Error::PathTooLong { path: path.to_owned(), length });
    }
    make_way(path)?;
    let make = || {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        remove(&fresh)?;
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        fs::rename(&fresh, path)?;
        Ok(listener)
    };
    make().map_err(|source| Error::Socket { path: path.to_owned(), source })
}

fn make_way(path: &Path) -> Result<(), Error> {
    let owned = || PathBuf::from(path);
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(Error::NotASocket { path: owned() }),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(Error::Running { path: owned() }),
        Ok(_) => Ok(()), // replaced by the rename
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Socket { path: owned(), source }),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[tokio::test]
    async fn only_the_owner_can_connect() {
        let dir = tempdir().unwrap();
        let run_dir = dir.path().join("run/weft");
        let _listener = bind(&run_dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&run_dir.join(SOCKET)), 0o600);
        assert_eq!(mode(&run_dir), 0o700);
        assert_eq!(fs::read_dir(&run_dir).unwrap().count(), 1, "nothing else is left");
    }

    #[tokio::test]
    async fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempdir().unwrap();
        drop(bind(dir.path()).unwrap());
        let listener = bind(dir.path()).unwrap();
        assert!(matches!(bind(dir.path()), Err(Error::Running { .. })));
        UnixStream::connect(dir.path().join(SOCKET)).unwrap();
        drop(listener);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join(SOCKET), "precious").unwrap();
        assert!(matches!(bind(dir.path()), Err(Error::NotASocket { .. })));
        assert_eq!(fs::read_to_string(dir.path().join(SOCKET)).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused_with_the_remedy() {
        let error = bind(Path::new(&format!("/{}", "d".repeat(100)))).unwrap_err().to_string();
        assert!(error.contains("116 bytes") && error.contains("shorter --run-dir"), "{error}");
    }
}
