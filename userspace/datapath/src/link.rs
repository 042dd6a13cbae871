//! Links of programs to hooks, by the four bpf(2) commands that aya does not offer.
//!
//! aya cannot replace the program of a pinned link, nor ask what is attached to a network namespace;
//! both are the core of a restart without a gap.
#![expect(unsafe_code, reason = "bpf(2) takes a union of structs by pointer")]

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// `enum bpf_attach_type` of the hooks that weft uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Attach {
    /// `cgroup_skb/ingress`.
    SkbIngress = 0,
    /// `sock_ops`.
    SockOps = 3,
    /// `cgroup/connect4`.
    Connect4 = 10,
    /// `cgroup/connect6`.
    Connect6 = 11,
    /// `cgroup/sendmsg4`.
    Sendmsg4 = 14,
    /// `cgroup/sendmsg6`.
    Sendmsg6 = 15,
    /// `cgroup/recvmsg4`.
    Recvmsg4 = 19,
    /// `cgroup/recvmsg6`.
    Recvmsg6 = 20,
    /// `cgroup/getpeername4`.
    Peername4 = 29,
    /// `cgroup/getpeername6`.
    Peername6 = 30,
    /// `cgroup/sock_release`.
    Release = 34,
    /// `sk_lookup`.
    SkLookup = 36,
}

/// Attaches `program` to `target` (a cgroup or network namespace); the link lives as long as its fd or
/// its pin.
///
/// # Kernel
/// Links: 5.7 for cgroups, 5.8 for network namespaces. EPERM: another program holds the hook
/// exclusively.
pub(crate) fn create(program: BorrowedFd<'_>, target: BorrowedFd<'_>, attach: Attach) -> io::Result<OwnedFd> {
    let attr = LinkCreate { program: fd(program), target: fd(target), attach: attach as u32, flags: 0 };
    let fd = call(BPF_LINK_CREATE, attr)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `program` in the place of the program of `link`, atomically.
///
/// # Kernel
/// ENOLINK: what it was attached to is gone.
pub(crate) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    call(BPF_LINK_UPDATE, LinkUpdate { link: fd(link), program: fd(program), flags: 0, old_program: 0 })
        .map(drop)
}

/// Takes a link off its hook at once. Without it, a link that nobody holds any more goes some time later, and
/// several go in any order.
///
/// # Kernel
/// 5.9.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(BPF_LINK_DETACH, LinkDetach { link: fd(link) }).map(drop)
}

/// Pins a link.
pub(crate) fn pin(link: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    call(BPF_OBJ_PIN, Object { path: path.as_ptr() as u64, fd: fd(link), flags: 0 }).map(drop)
}

/// Opens a pinned object.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let fd = call(BPF_OBJ_GET, Object { path: path.as_ptr() as u64, fd: 0, flags: 0 })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a link attaches, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// Id of the program.
    pub program: u32,
    /// Id of the cgroup, or inode of the network namespace; 0 when that is gone.
    pub target: u64,
}

/// Asks the kernel about a link.
pub(crate) fn info(link: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = LinkInfo { kind: 0, id: 0, program: 0, pad: 0, target: [0; 4], more: [0; 16] };
    let size = u32::try_from(size_of::<LinkInfo>()).expect("a small struct");
    call(BPF_OBJ_GET_INFO_BY_FD, GetInfo { fd: fd(link), size, info: std::ptr::from_mut(&mut info) as u64 })?;
    // A cgroup's id has 64 bits, a namespace's inode 32 with the attach type behind it.
    let wide = u64::from(info.target[1]) << 32;
    let target = u64::from(info.target[0]) | if info.kind == LINK_CGROUP { wide } else { 0 };
    Ok(Info { program: info.program, target })
}

/// Ids of the programs that are attached to `target` itself.
pub(crate) fn attached(target: BorrowedFd<'_>, attach: Attach) -> io::Result<Vec<u32>> {
    query(target, attach).map(|(ids, _)| ids)
}

/// Whether what is attached to `target` itself lets nobody beside it.
pub(crate) fn is_exclusive(target: BorrowedFd<'_>, attach: Attach) -> io::Result<bool> {
    query(target, attach).map(|(ids, flags)| !ids.is_empty() && flags & ALLOW_MULTI == 0)
}

/// The programs of a hook, and the flags by which they were attached.
fn query(target: BorrowedFd<'_>, attach: Attach) -> io::Result<(Vec<u32>, u32)> {
    let mut ids = [0_u32; MOST];
    let mut attr = ProgramQuery {
        target: fd(target),
        attach: attach as u32,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(MOST).expect("a small number"),
        pad: 0,
        more: [0; 3],
    };
    call_mut(BPF_PROG_QUERY, &mut attr)?;
    Ok((ids[..(attr.count as usize).min(MOST)].to_vec(), attr.attach_flags))
}

/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct LinkDetach {
    link: u32,
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    size: u32,
    info: u64,
}

#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    target: [u32; 4],
    more: [u64; 16],
}

#[repr(C)]
struct ProgramQuery {
    target: u32,
    attach: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    more: [u64; 3],
}

fn call<T>(command: libc::c_long, mut attr: T) -> io::Result<i32> {
    call_mut(command, &mut attr)
}

fn call_mut<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is a repr(C) prefix of `union bpf_attr` with its size; the kernel takes what is beyond
    // it as zero. Pointers inside it outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("bpf(2) returns an int"))
}

fn fd(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative")
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
/// `BPF_LINK_TYPE_CGROUP`.
const LINK_CGROUP: u32 = 3;
/// The kernel allows 64 programs on a cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST: usize = 64;
