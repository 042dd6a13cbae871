//! Which agent owns a run directory and its node's pins; and the end of all of it.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{host, pins::Node};

/// The right to be the agent of a run directory and of a node, until dropped or the process ends.
#[derive(Debug)]
pub struct Tenancy {
    pins: Node,
    node: String,
    _node_lock: Flock<fs::File>,
    // The last that is let go of: whoever has it finds the other one free.
    run_dir: PathBuf,
    _run_lock: Flock<fs::File>,
}

impl Drop for Tenancy {
    /// An agent that has pinned nothing leaves no folder for it. While the lock is held, nobody else uses that.
    fn drop(&mut self) {
        self.pins.remove_empty();
    }
}

/// Why a run directory cannot be had, or cleaned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent has it.
    #[error("an agent runs on {run_dir}; stop it first")]
    Running {
        /// The run directory.
        run_dir: PathBuf,
    },
    /// Another agent has the node, from another run directory.
    #[error("an agent of node {node} runs already; give this one another --node, or stop the other")]
    NodeTaken {
        /// The node.
        node: String,
    },
    /// There is no BPF filesystem to pin in.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// It was never an agent's.
    #[error(
        "{run_dir} is no run directory of an agent (it has no file `node`); give --run-dir as the agent had it"
    )]
    Unknown {
        /// The run directory.
        run_dir: PathBuf,
    },
    /// A file or pin cannot be written or removed.
    #[error("cannot write or remove {path}: {source}; weft runs as root, on directories that root may write")]
    File {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Tenancy {
    /// Makes `run_dir` this process's, as the agent of `node` that keeps things in `state_dir`.
    pub fn take(run_dir: &Path, node: &str, state_dir: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: run_dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir).map_err(failed)?;
        let run_lock = lock(run_dir)?;
        host::bpffs()?;
        let pins = Node::new(node);
        let node_lock = lock_node(&pins, node)?;
        fs::write(run_dir.join(NODE), node).map_err(failed)?;
        let state_dir = std::path::absolute(state_dir).map_err(failed)?;
        fs::write(run_dir.join(STATE), state_dir.as_os_str().as_bytes()).map_err(failed)?;
        let (node, run_dir) = (node.to_owned(), run_dir.to_owned());
        Ok(Self { pins, node, _node_lock: node_lock, run_dir, _run_lock: run_lock })
    }

    /// Takes everything out of the kernel that this agent, or one before it, has put there: from then on connections go
    /// where they are dialled. Whoever serves those that were redirected before goes on.
    pub fn withdraw(&self) -> Result<(), Error> {
        self.pins.remove().map_err(|source| Error::File { path: self.pins.dir().to_owned(), source })
    }

    /// Removes the files of this agent, and lets go of the run directory.
    pub fn forget(self) -> Result<(), Error> {
        forget(&self.run_dir, &self.node)?;
        // Others may keep files there.
        let _ = fs::remove_dir(&self.run_dir);
        Ok(())
    }
}

/// Where the agent of `node` keeps the last good manifests: agents may share a state directory.
pub fn last_good(state_dir: &Path, node: &str) -> PathBuf {
    state_dir.join(LAST_GOOD).join(node)
}

/// Removes every trace of the agent that had `run_dir`: its programs, links and maps, then its files.
/// Refused while it runs.
pub fn cleanup(run_dir: &Path) -> Result<(), Error> {
    let node =
        fs::read_to_string(run_dir.join(NODE)).map_err(|_| Error::Unknown { run_dir: run_dir.to_owned() })?;
    let lock = lock(run_dir)?;
    let pins = Node::new(node.trim());
    let node_lock = if pins.dir().exists() { Some(lock_node(&pins, node.trim())?) } else { None };
    pins.remove().map_err(|source| Error::File { path: pins.dir().to_owned(), source })?;
    forget(run_dir, node.trim())?;
    drop((lock, node_lock));
    let _ = fs::remove_dir(run_dir);
    Ok(())
}

/// Removes the files of the agent of `node`, but for the folder itself, which others may have files in.
fn forget(run_dir: &Path, node: &str) -> Result<(), Error> {
    if let Ok(state_dir) = fs::read(run_dir.join(STATE)) {
        let state_dir = Path::new(OsStr::from_bytes(&state_dir));
        remove(&last_good(state_dir, node), |path| fs::remove_dir_all(path))?;
        remove(&last_good_jwks(state_dir, node), |path| fs::remove_file(path))?;
        // Others may keep files there, and in the run directory.
        let _ = fs::remove_dir(state_dir.join(LAST_GOOD));
        let _ = fs::remove_dir(state_dir.join(JWKS));
        let _ = fs::remove_dir(state_dir);
    }
    for file in [NODE, STATE, LOCK, "agent.sock"] {
        remove(&run_dir.join(file), |path| fs::remove_file(path))?;
    }
    Ok(())
}

/// The file in which it keeps the last good keys of providers of tokens.
pub fn last_good_jwks(state_dir: &Path, node: &str) -> PathBuf {
    state_dir.join(JWKS).join(format!("{node}.json"))
}

fn lock(run_dir: &Path) -> Result<Flock<fs::File>, Error> {
    let path = run_dir.join(LOCK);
    // Who stands by looks again and again, and is to change nothing, not even when the file was written.
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|source| Error::File { path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::Running { run_dir: run_dir.to_owned() })
}

/// The lock is on the folder of the pins: two agents that share them would undo each other's work. An agent that ends may
/// remove the folder just before it is locked: then it is made anew.
fn lock_node(pins: &Node, node: &str) -> Result<Flock<fs::File>, Error> {
    let path = pins.dir();
    let failed = |source| Error::File { path: path.to_owned(), source };
    loop {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        let folder = match made.and_then(|()| fs::File::open(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            folder => folder.map_err(failed)?,
        };
        let held = folder.metadata().map_err(failed)?.ino();
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock)
            .map_err(|_| Error::NodeTaken { node: node.to_owned() })?;
        if fs::metadata(path).is_ok_and(|now| now.ino() == held) {
            return Ok(lock);
        }
    }
}

fn remove(path: &Path, how: impl Fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    match how(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Holds the name of the node whose pins belong to the run directory.
const NODE: &str = "node";
/// Holds the path of the state directory.
const STATE: &str = "state-dir";
/// Not "manifests": that may well be the user's own folder, beside the state.
const LAST_GOOD: &str = "last-good";
const JWKS: &str = "jwks";
const LOCK: &str = "agent.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleanup_leaves_what_agents_beside_it_remember() {
        let root = tempfile::tempdir().unwrap();
        let (run_dir, state_dir) = (root.path().join("run"), root.path().join("state"));
        // Names that no agent has: nothing of theirs is pinned.
        let [mine, others] = ["tenancy-test-1", "tenancy-test-2"].map(|node| last_good(&state_dir, node));
        for folder in [&run_dir, &mine, &others, &state_dir.join(JWKS)] {
            fs::create_dir_all(folder).unwrap();
        }
        let jwks = ["tenancy-test-1", "tenancy-test-2"].map(|node| last_good_jwks(&state_dir, node));
        for file in &jwks {
            fs::write(file, "[]").unwrap();
        }
        fs::write(run_dir.join(NODE), "tenancy-test-1").unwrap();
        fs::write(run_dir.join(STATE), state_dir.as_os_str().as_bytes()).unwrap();
        cleanup(&run_dir).unwrap();
        assert!(!mine.exists() && others.exists() && !run_dir.exists());
        assert!(!jwks[0].exists() && jwks[1].exists());
    }
}
