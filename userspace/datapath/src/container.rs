//! An agent in a container acts on its node: in the node's control groups, and in its BPF filesystem. Process 1 is the node's there,
//! for the container shares the node's process IDs (`hostPID`).

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

/// Has this thread, and whatever it starts from then on, be in the control groups as process 1 sees them. To be called before
/// any other thread is there. Does nothing in the same namespace, and for whoever may not look at process 1.
///
/// Runtimes give a container that is not privileged a namespace of its own where all control groups are of version 2
/// (containerd, CRI-O). In it, /proc tells paths from another root, and no process can be moved to a group outside of it.
///
/// # Kernel
/// With the mount option `nsdelegate`, which is systemd's, that is ENOENT whatever the capabilities (`cgroup_procs_write_permission`,
/// 4.13). Entering takes `CAP_SYS_ADMIN` (`cgroup_namespaces(7)`).
///
/// # Errors
/// Of setns(2).
pub fn enter_control_groups() -> io::Result<()> {
    if is_own("cgroup") { enter("cgroup", CloneFlags::CLONE_NEWCGROUP) } else { Ok(()) }
}

/// Whether this process has a mount namespace that is not that of process 1.
pub(crate) fn has_own_mounts() -> bool {
    is_own("mnt")
}

/// Mounts a BPF filesystem at `path` of the node. It is to be seen here as well where the container has the folder with
/// `mountPropagation: HostToContainer`; what is mounted here alone ends with the container, and all pins with it.
///
/// # Kernel
/// Entering another mount namespace takes `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT` (`mount_namespaces(7)`), and a thread that shares its
/// working directory with no other one.
pub(crate) fn mount_bpffs_on_node(path: &Path, is_there: impl Fn(&Path) -> bool + Sync) -> io::Result<()> {
    let on_node = || {
        unshare(CloneFlags::CLONE_FS)?;
        enter("mnt", CloneFlags::CLONE_NEWNS)?;
        if !is_there(path) {
            mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)?;
        }
        Ok(())
    };
    thread::scope(|scope| scope.spawn(on_node).join().expect("it does not panic"))
}

/// Whether the namespace of this process is another one than that of process 1. What cannot be seen is taken for the same.
fn is_own(kind: &str) -> bool {
    let [of_node, own] = ["1", "self"].map(|process| fs::metadata(format!("/proc/{process}/ns/{kind}")));
    matches!((of_node, own), (Ok(of_node), Ok(own)) if of_node.ino() != own.ino())
}

fn enter(kind: &str, flag: CloneFlags) -> io::Result<()> {
    setns(fs::File::open(format!("/proc/1/ns/{kind}"))?, flag)?;
    Ok(())
}
