//! What pods' namespaces get so that apps see their clients' addresses, and that it goes again.
//!
//! A file of the run directory names the namespaces, from before anything is put there until all of it is removed: by it
//! the next agent, or `weft cleanup`, finds what an agent that was killed has left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, mem};

use weft_telemetry::api::{PeerAddress, Peers, Shown};
use weft_transport::handover::Unheard;
use weft_transport::{Error as Refused, Netns, NetnsId, Transparent};

use crate::{Error, LocalPod};

/// The namespaces that have it.
pub(crate) struct Namespaces {
    record: PathBuf,
    made: BTreeMap<u64, Made>,
    /// Of an earlier agent.
    left: BTreeSet<PathBuf>,
}

struct Made {
    path: PathBuf,
    name: String,
    families: Transparent,
    peers: Vec<PeerAddress>,
    tried: Instant,
}

impl Namespaces {
    /// Those of an earlier agent of `run_dir`, and none yet.
    pub(crate) fn of(run_dir: &Path) -> Self {
        let record = run_dir.join(RECORD);
        let left = read(&record).unwrap_or_else(|error| {
            tracing::error!(%error, path = %record.display(), "what an earlier agent has put into namespaces may stay there");
            BTreeSet::new()
        });
        Self { record, made: BTreeMap::new(), left }
    }

    /// Makes the namespace of `pod` ready, unless it is or was tried a moment ago. For which families it is.
    pub(crate) fn make(&mut self, pod: &LocalPod) -> Transparent {
        let known = self.made.get(&pod.cookie);
        if let Some(made) = known
            && (made.peers.iter().all(|peer| peer.shown == Shown::Client) || made.tried.elapsed() < AGAIN)
        {
            return made.families;
        }
        let (is_known, name) = (known.is_some(), pod.name.to_string());
        let made = match self.write(Some(&pod.path)) {
            Ok(()) => {
                let made = pod.netns.make_transparent();
                let peers = peers(pod, &[&made.v4, &made.v6]);
                Made { path: pod.path.clone(), name, families: made.families(), peers, tried: Instant::now() }
            }
            Err(error) => {
                let peers = [false, true].map(|v6| address(v6, Some(error.to_string()))).into();
                let families = Transparent::default();
                Made { path: pod.path.clone(), name, families, peers, tried: Instant::now() }
            }
        };
        for peer in made.peers.iter().filter(|peer| peer.shown == Shown::Pod && !is_known) {
            tracing::warn!(pod = %pod.name, family = peer.family, why = peer.why, "apps do not see their clients' addresses");
        }
        let families = made.families;
        self.made.insert(pod.cookie, made);
        families
    }

    /// Removes what a pod's namespace has, which may be on its way away itself.
    pub(crate) fn end(&mut self, cookie: u64, netns: &Netns) {
        let Some(made) = self.made.remove(&cookie) else { return };
        if let Err(error) = netns.end_transparent() {
            tracing::warn!(pod = made.name, %error, "a rule or a route may stay in a pod's namespace");
        }
        self.rewrite();
    }

    /// Removes what an earlier agent has left where it is not wanted any more.
    ///
    /// Where a namespace is wanted by another path than that agent's, such as that of a process and no more that of the
    /// runtime, it stays: connections need it at every moment.
    pub(crate) fn end_left(&mut self, wanted: &[LocalPod]) {
        if self.left.is_empty() {
            return;
        }
        let ids: BTreeSet<_> = wanted.iter().map(|pod| pod.netns.id()).collect();
        let paths: BTreeSet<_> = wanted.iter().map(|pod| &pod.path).collect();
        let is_wanted = |path: &PathBuf| {
            paths.contains(path) || matches!(NetnsId::at(path), Ok(Some(id)) if ids.contains(&id))
        };
        let left = mem::take(&mut self.left);
        let (kept, gone): (BTreeSet<_>, BTreeSet<_>) = left.into_iter().partition(is_wanted);
        for (path, error) in gone.iter().filter_map(|path| Some((path, end_at(path).err()?))) {
            tracing::warn!(path = %path.display(), %error, "a rule or a route may stay in a namespace");
        }
        // What is wanted by its own path is made, and written down as such.
        self.left = kept.into_iter().filter(|path| !paths.contains(path)).collect();
        if !gone.is_empty() {
            self.rewrite();
        }
    }

    /// Whose addresses apps see, by the pod's name.
    pub(crate) fn peers(&self, unheard: &[Unheard]) -> Peers {
        let of = |(cookie, made): (&u64, &Made)| {
            let ports =
                unheard.iter().filter(|unheard| unheard.cookie == *cookie).map(|unheard| unheard.port);
            let except: Vec<_> = ports.collect();
            let peers = made.peers.iter().map(|peer| PeerAddress { except: except.clone(), ..peer.clone() });
            (made.name.clone(), peers.collect())
        };
        self.made.iter().map(of).collect()
    }

    fn rewrite(&self) {
        if let Err(error) = self.write(None) {
            tracing::warn!(%error, "the list of namespaces that have rules of ours is longer than need be");
        }
    }

    fn write(&self, more: Option<&Path>) -> Result<(), Error> {
        let made = self.made.values().map(|made| &*made.path);
        let all: BTreeSet<_> = made.chain(self.left.iter().map(|path| &**path)).chain(more).collect();
        let text = all.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
        let failed = |source| Error::File { attempt: "write", path: self.record.clone(), source };
        if fs::read_to_string(&self.record).is_ok_and(|before| before == text) {
            return Ok(());
        }
        // Whoever is killed in between leaves the old list or the new one.
        let next = self.record.with_extension("new");
        fs::write(&next, text).and_then(|()| fs::rename(&next, &self.record)).map_err(failed)
    }
}

/// Removes all that agents of `run_dir` have put into namespaces, and the list of them.
pub(crate) fn end_all(run_dir: &Path) -> Result<(), Error> {
    let record = run_dir.join(RECORD);
    let failed = |source| Error::File { attempt: "read", path: record.clone(), source };
    for path in read(&record).map_err(failed)? {
        end_at(&path)?;
    }
    Ok(())
}

/// No error where the namespace is gone.
fn end_at(path: &Path) -> Result<(), Refused> {
    match NetnsId::at(path) {
        Ok(None) => Ok(()),
        _ => match Netns::open(path) {
            // What `ip netns` leaves of a name for a moment.
            Err(Refused::NotANetns { .. }) => Ok(()),
            opened => opened?.end_transparent(),
        },
    }
}

fn read(record: &Path) -> io::Result<BTreeSet<PathBuf>> {
    match fs::read_to_string(record) {
        Ok(text) => Ok(text.lines().map(PathBuf::from).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Of the families that the pod has.
fn peers(pod: &LocalPod, made: &[&Result<(), Arc<Refused>>; 2]) -> Vec<PeerAddress> {
    let families = [false, true].into_iter().zip(made);
    let has = |v6: bool| pod.addresses.iter().any(|address| address.is_ipv6() == v6);
    let had = families.filter(|(v6, _)| has(*v6));
    had.map(|(v6, made)| address(v6, made.as_ref().err().map(ToString::to_string))).collect()
}

fn address(v6: bool, why: Option<String>) -> PeerAddress {
    let family = if v6 { "IPv6" } else { "IPv4" }.to_owned();
    let shown = if why.is_some() { Shown::Pod } else { Shown::Client };
    PeerAddress { family, shown, why, except: Vec::new() }
}

/// Names the namespaces, a path a line.
pub(crate) const RECORD: &str = "proxy.namespaces";
/// Before a namespace that could not be made ready is tried again.
const AGAIN: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;
    use std::thread;

    use weft_model::{ObjectName, ServiceAccount};

    use super::*;

    /// In a thread that has a network namespace of its own.
    fn inside(test: impl FnOnce() + Send + 'static) {
        let inside = move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test is run as root");
            test();
        };
        thread::spawn(inside).join().unwrap();
    }

    fn has_rule() -> bool {
        let rules = Command::new("ip").args(["-6", "rule", "show"]).output().unwrap();
        String::from_utf8_lossy(&rules.stdout).contains("fwmark")
    }

    fn pod(path: &Path) -> LocalPod {
        LocalPod {
            name: ObjectName::parse("shop/web").unwrap(),
            cookie: 1,
            addresses: Vec::new(),
            service_account: ServiceAccount::new("shop", "web"),
            path: path.to_owned(),
            netns: Arc::new(Netns::open(path).unwrap()),
        }
    }

    #[test]
    fn what_an_earlier_agent_has_left_stays_as_long_as_the_namespace_is_wanted_by_whatever_path() {
        inside(|| {
            let dir = tempfile::tempdir().unwrap();
            let (runtimes, other) = (dir.path().join("runtimes"), dir.path().join("other"));
            symlink(format!("/proc/self/task/{}/ns/net", nix::unistd::gettid()), &runtimes).unwrap();
            symlink(&runtimes, &other).unwrap();
            Namespaces::of(dir.path()).make(&pod(&runtimes));
            assert!(has_rule());

            let mut next = Namespaces::of(dir.path());
            next.end_left(&[pod(&other)]);
            assert!(has_rule(), "connections need it at every moment");
            next.make(&pod(&other));
            next.end_left(&[pod(&other)]);
            assert!(has_rule());
            next.end_left(&[]);
            assert!(!has_rule());
        });
    }

    #[test]
    fn what_an_earlier_agent_has_left_in_a_namespace_that_nobody_wants_goes() {
        inside(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("netns");
            symlink(format!("/proc/self/task/{}/ns/net", nix::unistd::gettid()), &path).unwrap();
            Namespaces::of(dir.path()).make(&pod(&path));
            Namespaces::of(dir.path()).end_left(&[]);
            assert!(!has_rule());
            assert_eq!(fs::read_to_string(dir.path().join(RECORD)).unwrap(), "");
        });
    }
}
