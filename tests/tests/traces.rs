//! That nothing is left behind can be trusted: what is there is found. Needs root and bpftool.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(unsafe_code, reason = "aya belongs to the datapath crate; two bpf(2) calls do here")]

use std::ffi::c_long;
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use weft_tests::{World, soon};

#[test]
fn a_link_on_the_nodes_cgroup_is_a_trace_of_that_node_alone() {
    let Some(world) = World::new() else { return };
    let (first, second) = (world.node("a"), world.node("b"));
    assert_eq!(first.traces(), Vec::<String>::new());
    let program = program();
    let link = link(&program, &File::open(first.cgroup()).unwrap());
    assert_eq!(first.traces().len(), 1, "{:?}", first.traces());
    assert!(first.traces()[0].starts_with("link "));
    assert_eq!(second.traces(), Vec::<String>::new());

    drop(link);
    soon(|| first.traces().iter().all(|trace| trace.starts_with("program ")));
    assert_eq!(first.traces().len(), 1, "the program has outlived its link: {:?}", first.traces());
    drop(program);
    soon(|| first.traces().is_empty());
}

#[test]
fn a_link_on_a_pods_cgroup_is_a_trace_of_its_node() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let pod = node.pod("shop/web").start();
    let _link = link(&program(), &File::open(pod.cgroup()).unwrap());
    assert_eq!(node.traces().len(), 1, "{:?}", node.traces());
}

/// `cgroup_skb` that lets everything pass: `r0 = 1; exit`.
fn program() -> OwnedFd {
    let instructions = [0x0000_0001_0000_00b7_u64, 0x95];
    let licence = b"GPL\0";
    let mut load = [0_u64; 9];
    load[0] = 8 | 2 << 32;
    load[1] = instructions.as_ptr() as u64;
    load[2] = licence.as_ptr() as u64;
    bpf(PROG_LOAD, &load)
}

/// Attaches to the ingress of a cgroup.
fn link(program: &OwnedFd, cgroup: &File) -> OwnedFd {
    let [program, cgroup] = [program.as_raw_fd(), cgroup.as_raw_fd()].map(i32::cast_unsigned);
    bpf(LINK_CREATE, &[program, cgroup, 0, 0])
}

fn bpf<T>(command: c_long, attributes: &[T]) -> OwnedFd {
    // SAFETY: `attributes` outlives the call, its size is the one given, and what it points to is kept
    // by the caller until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    assert!(fd >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
