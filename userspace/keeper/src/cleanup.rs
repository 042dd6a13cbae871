//! The end of all that a proxy leaves.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use weft_transport::handover::SOCKET;

use crate::group::{Group, RECORD};
use crate::living::{LOCK, Process};
use crate::{Error, log, transparent};

/// Whether a proxy of `run_dir` may have left something.
pub fn is_left(run_dir: &Path) -> bool {
    run_dir.join(RECORD).exists()
}

/// Asks the proxies of `run_dir` to finish what they carry and to end, for an agent that goes on without one.
pub fn dismiss(run_dir: &Path) -> Result<(), Error> {
    let Some(group) = Group::recorded(run_dir)? else { return Ok(()) };
    Process::living(run_dir, &group)?.iter().try_for_each(Process::terminate)
}

/// Ends the proxies of `run_dir`, and removes their cgroup, their files, and what pods' namespaces have for them. Blocks:
/// they have `patience` to end by themselves, as they do once they have finished what they carry.
///
/// For when redirection was withdrawn and no agent runs, which would start the next one.
pub fn cleanup(run_dir: &Path, patience: Duration) -> Result<(), Error> {
    if let Some(group) = Group::recorded(run_dir)? {
        end(&Process::living(run_dir, &group)?, patience)?;
        remove(&group)?;
    }
    transparent::end_all(run_dir)?;
    for name in [SOCKET, LOCK, RECORD, transparent::RECORD].into_iter().chain(log::FILES) {
        let path = run_dir.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(Error::File { attempt: "remove", path, source });
            }
            _ => {}
        }
    }
    // Others may keep files there.
    let _ = fs::remove_dir(run_dir);
    Ok(())
}

fn end(proxies: &[Process], patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    for proxy in proxies {
        proxy.terminate()?;
    }
    for proxy in proxies {
        if !proxy.wait(deadline) {
            proxy.kill()?;
            proxy.wait(Instant::now() + PATIENCE);
        }
    }
    Ok(())
}

/// A process leaves its group a moment after it is known to have ended.
fn remove(group: &Group) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while !group.remove()? {
        if Instant::now() > deadline {
            return Err(Error::GroupInUse { path: group.path().to_owned() });
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// How long a proxy has to end once it was killed, and its group to be empty.
const PATIENCE: Duration = Duration::from_secs(3);
