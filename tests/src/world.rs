//! A private network of pods on nodes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::{SigSet, Signal};

use crate::fabric::Fabric;
use crate::{Node, cgroup, sweep};

/// All nodes and pods of one test. What it made goes with the last of the world, its nodes and pods.
pub struct World {
    shared: Arc<Shared>,
}

/// What a world, its nodes and its pods have in common.
pub(crate) struct Shared {
    /// Everything's name begins with it.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) fabric: Fabric,
    ports: AtomicU32,
    manifests: Mutex<Manifests>,
}

/// The folders of all nodes, and the documents that are in every one of them.
#[derive(Default)]
struct Manifests {
    folders: Vec<PathBuf>,
    documents: BTreeMap<String, String>,
}

impl World {
    /// An empty world. None under `WEFT_E2E=off`, which is counted on stderr: then the test returns.
    ///
    /// Panics without the privileges and programs that a real network takes: a test that cannot run
    /// must not pass.
    pub fn new() -> Option<Self> {
        if std::env::var_os("WEFT_E2E").is_some_and(|value| value == "off") {
            count_as_left_out();
            return None;
        }
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make namespaces: run as root, or set WEFT_E2E=off"
        );
        Some(Self::named("test"))
    }

    /// An empty world for something that is no test: all names begin with `weft-<kind>-<pid>`.
    pub fn named(kind: &str) -> Self {
        block_child_signals();
        sweep::start_janitor(kind);
        Self { shared: Arc::new(Shared::new(kind)) }
    }

    /// Whatever ends this process from now on, what it has made stays. Nothing of it may be dropped.
    pub fn outlive_process(&self) {
        sweep::dismiss_janitor();
    }

    /// Removes what is left of the world called `name`, its processes first.
    pub fn sweep(name: &str) {
        sweep::sweep(name);
    }

    /// A new node. Its whole name, [`Node::name`], is unique on the machine and ends with `name`.
    pub fn node(&self, name: &str) -> Node {
        Node::new(Arc::clone(&self.shared), name)
    }

    /// Writes a file of manifests for every node, also for those that come later.
    pub fn apply(&self, file: &str, yaml: &str) {
        self.shared.apply(file, yaml);
    }

    /// Removes a file of manifests from every node.
    pub fn remove(&self, file: &str) {
        self.shared.remove(file);
    }

    /// The folder of its nodes' files.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The group that holds those of its nodes.
    pub fn cgroup(&self) -> &Path {
        &self.shared.cgroup
    }

    /// What the names of all namespaces, groups, pins and folders of this world begin with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Files and folders of the world called `name` that are there, be it alive or not.
    pub fn remains(name: &str) -> Vec<PathBuf> {
        sweep::remains(name)
    }
}

impl Shared {
    fn new(kind: &str) -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(1);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", sweep::process_prefix(kind));
        let dir = std::env::temp_dir().join(&name);
        let cgroup = cgroup::mount().join(&name);
        for path in [&dir, &cgroup] {
            fs::create_dir(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        }
        let fabric = Fabric::new(&name);
        Self { name, dir, cgroup, fabric, ports: AtomicU32::new(1), manifests: Mutex::default() }
    }

    /// A number that no other pod of this world has.
    pub(crate) fn next_port(&self) -> u32 {
        self.ports.fetch_add(1, Ordering::Relaxed)
    }

    /// The name of the namespace of the pod whose group is called `group`.
    pub(crate) fn netns(&self, group: &str) -> String {
        format!("{}-{group}", self.name)
    }

    /// A new node's folder gets every document that all nodes have.
    pub(crate) fn add_manifests(&self, folder: &Path) {
        let mut manifests = self.manifests();
        for (file, yaml) in &manifests.documents {
            write_atomically(folder, file, yaml);
        }
        manifests.folders.push(folder.into());
    }

    pub(crate) fn apply(&self, file: &str, yaml: &str) {
        let mut manifests = self.manifests();
        manifests.documents.insert(file.into(), yaml.into());
        for folder in &manifests.folders {
            write_atomically(folder, file, yaml);
        }
    }

    pub(crate) fn remove(&self, file: &str) {
        let mut manifests = self.manifests();
        manifests.documents.remove(file);
        for folder in &manifests.folders {
            // It may be gone from one node by `Node::remove`.
            let _ = fs::remove_file(folder.join(file));
        }
    }

    fn manifests(&self) -> MutexGuard<'_, Manifests> {
        self.manifests.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if sweep::keep() {
            eprintln!("kept: {} (enter by: ip netns exec NAME sh)", self.name);
            for path in sweep::remains(&self.name) {
                eprintln!("  {}", path.display());
            }
            return;
        }
        if std::thread::panicking() {
            eprintln!("run with WEFT_E2E=keep to look around by: ip netns exec {}-... sh", self.name);
        }
        sweep::sweep(&self.name);
    }
}

/// Has the ends of children interrupt no read of this thread and of those that it starts.
///
/// The kernel forgets a SIGCHLD that nobody handles only while the child's parent does not block it. A
/// thread that starts another, or a child, blocks every signal for a moment; then the signal goes to any
/// thread of the process, and a read with a time-out that it is in fails with EINTR (signal(7)).
fn block_child_signals() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block().expect("a thread may block signals");
}

/// Puts `yaml` in place at once: a reader never sees half of it.
pub(crate) fn write_atomically(folder: &Path, file: &str, yaml: &str) {
    let (draft, place) = (folder.join(format!(".{file}.draft")), folder.join(file));
    fs::write(&draft, yaml)
        .and_then(|()| fs::rename(&draft, &place))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", place.display()));
}

/// Past the test harness's capture, so that it shows for tests that "pass".
fn count_as_left_out() {
    static LEFT_OUT: AtomicU32 = AtomicU32::new(1);
    let count = LEFT_OUT.fetch_add(1, Ordering::Relaxed);
    writeln!(stderr(), "WEFT_E2E=off: {count} end-to-end tests left out").expect("stderr can be written");
}
