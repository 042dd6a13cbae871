//! What this machine offers: its cgroup tree, its BPF filesystem, its kernel.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount, umount},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        statfs::statfs,
    },
};

use weft_transport::{Netns, NetnsId};

use crate::container;

/// What the machine does not offer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cgroup v2 mount.
    #[error("no cgroup2 mount in /proc/self/mountinfo; mount one: mount -t cgroup2 none /sys/fs/cgroup")]
    NoCgroup2,
    /// The mount shows only a part of the tree.
    #[error(
        "{path} is not the root of the host's cgroup tree but a part of it, so weft would see that part's sockets \
         only; run the agent in the host's cgroup namespace (hostPID and `nsenter --cgroup`, or mount the host's \
         /sys/fs/cgroup), or say --cgroup if the part is meant"
    )]
    PrivateCgroup {
        /// The mount.
        path: PathBuf,
    },
    /// The given path is in no cgroup2 filesystem.
    #[error("--cgroup {path} is no directory of a cgroup2 filesystem; give a path below {root}")]
    NotCgroup2 {
        /// What was given.
        path: PathBuf,
        /// The mount.
        root: PathBuf,
    },
    /// The BPF filesystem is not mounted and cannot be.
    #[error("no BPF filesystem at {path}, and mounting one failed: {source}; mount -t bpf bpf {path}")]
    NoBpffs {
        /// Where it should be.
        path: PathBuf,
        /// Why it could not be mounted.
        source: io::Error,
    },
}

/// Where BPF objects are pinned.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// The network namespaces that processes of this machine are in, those that this process can see (hostPID).
pub(crate) fn network_namespaces() -> Vec<Netns> {
    let mut found: BTreeMap<NetnsId, Netns> = BTreeMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // Whoever is no process has none, and one may end at any time.
        let place = process.path().join("ns/net");
        if let Ok(Some(id)) = NetnsId::at(&place)
            && !found.contains_key(&id)
            && let Ok(netns) = Netns::open(&place)
        {
            found.insert(netns.id(), netns);
        }
    }
    found.into_values().collect()
}

/// Where the v2 tree of control groups is mounted, if it is.
pub fn cgroup_mount() -> Option<PathBuf> {
    cgroup2_mount(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// Where the hierarchy of control groups with the memory controller is mounted, if there is one.
pub(crate) fn memory_mount() -> Option<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
    memory1_mount(&mountinfo).or_else(|| cgroup2_mount(&mountinfo).filter(|root| has_memory(root)))
}

/// The cgroup to attach to: `wanted`, else the root of the host's v2 tree.
pub(crate) fn cgroup(wanted: Option<&Path>) -> Result<PathBuf, Error> {
    let root = cgroup2_mount(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
        .ok_or(Error::NoCgroup2)?;
    match wanted {
        Some(path) if is_kind(path, CGROUP2_MAGIC) => Ok(path.to_owned()),
        Some(path) => Err(Error::NotCgroup2 { path: path.to_owned(), root }),
        // The root of the whole tree is the first inode that kernfs gave out.
        None if fs::metadata(&root).is_ok_and(|root| root.ino() == 1) => Ok(root),
        None => Err(Error::PrivateCgroup { path: root }),
    }
}

/// The cgroup that this process and its sockets are in.
pub(crate) fn own_cgroup() -> Result<PathBuf, Error> {
    let root = cgroup2_mount(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
        .ok_or(Error::NoCgroup2)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Ok(root.join(own))
}

/// A cgroup and those above it, up to the root that this process sees.
pub(crate) fn cgroups_above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().take_while(|path| is_kind(path, CGROUP2_MAGIC))
}

/// The id by which BPF programs know a cgroup.
pub(crate) fn cgroup_id(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

/// Mounts the BPF filesystem where it is missing: from within a container on its node, so that pins outlive the container.
pub(crate) fn bpffs() -> Result<(), Error> {
    if !has_bpffs() && container::has_own_mounts() {
        let mounted = container::mount_bpffs_on_node(Path::new(BPFFS), |path| is_kind(path, BPFFS_MAGIC));
        if !has_bpffs() {
            let error = mounted.err().map(|error| error.to_string());
            tracing::warn!(
                error = error.unwrap_or_else(|| "the node's is not seen here".to_owned()),
                "a BPF filesystem is mounted in this container alone: what is in the kernel ends with the agent; mount the \
                 node's (mount -t bpf bpf {BPFFS}), and give it to the container (mountPropagation: HostToContainer)"
            );
        }
    }
    own_bpffs()
}

/// Mounts the BPF filesystem where it is missing, for whoever is in this mount namespace.
pub(crate) fn own_bpffs() -> Result<(), Error> {
    let path = Path::new(BPFFS);
    if has_bpffs() {
        return Ok(());
    }
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Error::NoBpffs { path: path.to_owned(), source: errno.into() })
}

/// Takes the BPF filesystem off again that [`own_bpffs`] has mounted.
pub(crate) fn no_bpffs() -> io::Result<()> {
    Ok(umount(BPFFS)?)
}

/// Lets this process have as many descriptors as it may: two for each pod of the node.
pub(crate) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
}

/// Whether the BPF filesystem is mounted.
pub(crate) fn has_bpffs() -> bool {
    is_kind(Path::new(BPFFS), BPFFS_MAGIC)
}

/// The kernel's version: major, minor, patch.
pub(crate) fn kernel() -> (u32, u32, u32) {
    parse_release(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

fn parse_release(release: &str) -> (u32, u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// The mount point of the first cgroup2 filesystem (proc(5), mountinfo: fields 5 and, after `-`, the type).
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// The mount point of the v1 hierarchy of the memory controller, which is an option of its superblock, the last field.
fn memory1_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut of_kind = kind.split(' ');
        let is_memory = of_kind.next() == Some("cgroup")
            && of_kind.next_back()?.split(',').any(|option| option == "memory");
        is_memory.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn has_memory(root: &Path) -> bool {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

fn is_kind(path: &Path, magic: i64) -> bool {
    statfs(path).is_ok_and(|fs| fs.filesystem_type().0 == magic)
}

const CGROUP2_MAGIC: i64 = 0x6367_7270;
const BPFFS_MAGIC: i64 = 0xcafe_4a11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_mount_is_found_on_unified_and_hybrid_hosts() {
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup2_mount(unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2_mount("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"), None);
    }

    #[test]
    fn the_memory_controllers_own_mount_is_found_on_hybrid_hosts() {
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(memory1_mount(hybrid), Some("/sys/fs/cgroup/memory".into()));
        let unified =
            "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,memory_recursiveprot\n";
        assert_eq!(memory1_mount(unified), None);
    }

    #[test]
    fn a_release_has_three_numbers() {
        assert_eq!(parse_release("6.18.44-fc-v669\n"), (6, 18, 44));
        assert_eq!(parse_release("6.1.0-35-cloud-amd64"), (6, 1, 0));
        assert_eq!(parse_release("7.2-rc1"), (7, 2, 0));
        assert_eq!(parse_release(""), (0, 0, 0));
    }

    #[test]
    fn a_path_outside_the_cgroup_tree_is_refused_with_the_remedy() {
        let error = cgroup(Some(Path::new("/proc"))).unwrap_err().to_string();
        assert!(error.contains("/proc") && error.contains("give a path below"), "{error}");
    }
}
