//! A group of the memory controller, which counts what its processes use.

use std::fs;
use std::path::PathBuf;

use crate::cgroup;
use crate::command::within;

/// It goes with its world.
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// The new group called `name`, on machines of either version.
    #[track_caller]
    pub(crate) fn make(name: &str) -> Self {
        let mount = cgroup::memory_mount();
        if mount == cgroup::mount() {
            let groups_have_it = fs::write(mount.join("cgroup.subtree_control"), "+memory");
            groups_have_it.expect("this test needs the memory controller");
        }
        let path = mount.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self(path)
    }

    /// A command that runs another one in it.
    pub fn entered(&self) -> Vec<String> {
        within(&self.0)
    }

    /// How many bytes the kernel has allocated on its account.
    #[track_caller]
    pub fn kernel_bytes(&self) -> u64 {
        let version1 = fs::read_to_string(self.0.join("memory.kmem.usage_in_bytes"));
        let text = version1.unwrap_or_else(|_| {
            let stat = fs::read_to_string(self.0.join("memory.stat")).expect("the group is there");
            let slab = stat.lines().find_map(|line| line.strip_prefix("slab "));
            slab.expect("memory.stat has slab since kernel 4.15").to_owned()
        });
        text.trim().parse().expect("it is a number of bytes")
    }
}

/// The file by which a process enters the top of the memory hierarchy, as another process does for it.
pub fn top_of_memory() -> PathBuf {
    cgroup::memory_mount().join("cgroup.procs")
}
