//! Programs of somebody else on the hooks that the mesh uses: written in instructions, loaded by bpf(2).
#![expect(unsafe_code, reason = "bpf(2) takes a union of structs by pointer")]

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use crate::Pod;

/// A foreign program that is attached. Dropped, it is detached.
#[must_use = "a foreign program is detached when it is dropped"]
pub struct Foreign {
    program: OwnedFd,
    hold: Hold,
}

/// How it is attached.
enum Hold {
    /// Its link keeps it there, and the map that it uses lives with it. What is attached to a map stays
    /// only while somebody has the map open.
    Link { _link: OwnedFd, _map: Option<OwnedFd> },
    /// On a cgroup's hook, until it is taken off.
    Cgroup { cgroup: File, hook: u32 },
}

/// Whether a program lets others on its hook.
#[derive(Clone, Copy)]
pub enum Sharing {
    /// Nobody, neither before nor after.
    Exclusive,
    /// Everybody who shares too.
    Multi,
    /// The same, and it runs before all that have no such wish, also those of groups below (6.15).
    Early,
}

impl Foreign {
    /// An `sk_lookup` program in `pod` that lets everything pass.
    pub fn passing_lookup(pod: &Pod) -> io::Result<Self> {
        Self::lookup(pod, &[mov(R0, SK_PASS), EXIT])
    }

    /// An `sk_lookup` program in `pod` that gives everything to `listener`.
    pub fn assigning_lookup(pod: &Pod, listener: &TcpListener) -> io::Result<Self> {
        Self::assigning(pod, listener, 0)
    }

    /// As [`Foreign::assigning_lookup`], whatever a program before it has chosen.
    pub fn replacing_lookup(pod: &Pod, listener: &TcpListener) -> io::Result<Self> {
        Self::assigning(pod, listener, SK_LOOKUP_REPLACE)
    }

    fn assigning(pod: &Pod, listener: &TcpListener, flags: i32) -> io::Result<Self> {
        let map = listener_map(listener)?;
        let [map_low, map_high] = load_map(R1, map.as_fd());
        Self::lookup(
            pod,
            &[
                copy(R6, R1),
                store_word(R10, -4, 0),
                map_low,
                map_high,
                copy(R2, R10),
                add(R2, -4),
                call(MAP_LOOKUP_ELEM),
                skip_if_zero(R0, 7),
                copy(R7, R0),
                copy(R1, R6),
                copy(R2, R7),
                mov(R3, flags),
                call(SK_ASSIGN),
                copy(R1, R7),
                call(SK_RELEASE),
                // Without a socket the jump leads here.
                mov(R0, SK_PASS),
                EXIT,
            ],
        )
    }

    /// A program on connect4 of a cgroup that lets everything pass.
    pub fn connect4(cgroup: &Path, sharing: Sharing) -> io::Result<Self> {
        Self::on_connect4(cgroup, sharing, &[mov(R0, 1), EXIT])
    }

    /// A `sock_ops` program on a cgroup that does nothing.
    pub fn sock_ops(cgroup: &Path, sharing: Sharing) -> io::Result<Self> {
        Self::on_cgroup(cgroup, sharing, load(PROG_SOCK_OPS, 0, &[mov(R0, 1), EXIT])?, ATTACH_SOCK_OPS)
    }

    /// A program on connect4 of a cgroup that takes back what others refused before it.
    ///
    /// # Kernel
    /// `bpf_set_retval` is 5.18.
    pub fn forgiving_connect4(cgroup: &Path, sharing: Sharing) -> io::Result<Self> {
        Self::on_connect4(cgroup, sharing, &[mov(R1, 0), call(SET_RETVAL), mov(R0, 1), EXIT])
    }

    /// A program on connect4 of a cgroup that sends every connection to another port.
    pub fn redirecting_connect4(cgroup: &Path, sharing: Sharing, port: u16) -> io::Result<Self> {
        let port = mov(R2, i32::from(port.to_be()));
        // `user_port` of `struct bpf_sock_addr`.
        Self::on_connect4(cgroup, sharing, &[port, keep_word(R1, 24, R2), mov(R0, 1), EXIT])
    }

    /// A `sock_ops` program on a cgroup that puts each new connection into a sockmap with an `sk_msg`
    /// program. There is room for one.
    pub fn sockmap(cgroup: &Path) -> io::Result<Self> {
        let map = sockmap()?;
        let verdict = load(PROG_SK_MSG, 0, &[mov(R0, SK_PASS), EXIT])?;
        let (first, second) = (fd(map.as_fd()), fd(verdict.as_fd()));
        bpf(PROG_ATTACH, Attach { first, second, hook: ATTACH_SK_MSG, flags: 0 })?;
        let [map_low, map_high] = load_map(R2, map.as_fd());
        let program = load(
            PROG_SOCK_OPS,
            0,
            &[
                // `op`, the context's first field.
                load_word(R2, R1, 0),
                skip_if(R2, ACTIVE_ESTABLISHED, 1),
                skip_unless(R2, PASSIVE_ESTABLISHED, 7),
                store_word(R10, -4, 0),
                map_low,
                map_high,
                copy(R3, R10),
                add(R3, -4),
                mov(R4, 0),
                call(SOCK_MAP_UPDATE),
                mov(R0, 1),
                EXIT,
            ],
        )?;
        let cgroup = File::open(cgroup)?;
        let (first, second) = (fd(program.as_fd()), fd(cgroup.as_fd()));
        let link = owned(bpf(LINK_CREATE, Attach { first, second, hook: ATTACH_SOCK_OPS, flags: 0 })?);
        Ok(Self { program, hold: Hold::Link { _link: link, _map: Some(map) } })
    }

    /// The kernel's id of the program.
    pub fn id(&self) -> io::Result<u32> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("prog_id:"));
        id.and_then(|id| id.trim().parse().ok()).ok_or_else(|| io::Error::other("no prog_id in fdinfo"))
    }

    fn lookup(pod: &Pod, instructions: &[u64]) -> io::Result<Self> {
        let program = load(PROG_SK_LOOKUP, ATTACH_SK_LOOKUP, instructions)?;
        let netns = pod.netns();
        let (first, second) = (fd(program.as_fd()), fd(netns.as_fd()));
        let link = owned(bpf(LINK_CREATE, Attach { first, second, hook: ATTACH_SK_LOOKUP, flags: 0 })?);
        Ok(Self { program, hold: Hold::Link { _link: link, _map: None } })
    }

    fn on_connect4(cgroup: &Path, sharing: Sharing, instructions: &[u64]) -> io::Result<Self> {
        let program = load(PROG_CGROUP_SOCK_ADDR, ATTACH_CONNECT4, instructions)?;
        Self::on_cgroup(cgroup, sharing, program, ATTACH_CONNECT4)
    }

    fn on_cgroup(cgroup: &Path, sharing: Sharing, program: OwnedFd, hook: u32) -> io::Result<Self> {
        let cgroup = File::open(cgroup)?;
        let flags = match sharing {
            Sharing::Exclusive => 0,
            Sharing::Multi => ALLOW_MULTI,
            Sharing::Early => ALLOW_MULTI | PREORDER,
        };
        let (first, second) = (fd(cgroup.as_fd()), fd(program.as_fd()));
        bpf(PROG_ATTACH, Attach { first, second, hook, flags })?;
        Ok(Self { program, hold: Hold::Cgroup { cgroup, hook } })
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Hold::Cgroup { cgroup, hook } = &self.hold {
            let (first, second) = (fd(cgroup.as_fd()), fd(self.program.as_fd()));
            let detached = bpf(PROG_DETACH, Attach { first, second, hook: *hook, flags: 0 });
            if let Err(error) = detached {
                eprintln!("a foreign program stays on {}: {error}", cgroup.as_raw_fd());
            }
        }
    }
}

/// A map whose one socket is `listener`.
fn listener_map(listener: &TcpListener) -> io::Result<OwnedFd> {
    let map = sockmap()?;
    let (key, value) = (0_u32, fd(listener.as_fd()));
    let update = MapUpdate {
        map: fd(map.as_fd()),
        pad: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: std::ptr::from_ref(&value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, update)?;
    Ok(map)
}

/// A map for one socket.
fn sockmap() -> io::Result<OwnedFd> {
    bpf(MAP_CREATE, MapCreate { kind: MAP_SOCKMAP, key: 4, value: 4, entries: 1, flags: 0 }).map(owned)
}

/// Loads a program. It keeps the maps that it names.
fn load(kind: u32, attach: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut log = vec![0_u8; 1 << 16];
    let attr = ProgLoad {
        kind,
        count: u32::try_from(instructions.len()).expect("a few instructions"),
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_size: 1 << 16,
        log: log.as_mut_ptr() as u64,
        kernel: 0,
        flags: 0,
        name: *b"foreign\0\0\0\0\0\0\0\0\0",
        interface: 0,
        attach,
    };
    bpf(PROG_LOAD, attr).map(owned).map_err(|error| {
        let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
        io::Error::new(error.kind(), format!("{error}: {}", String::from_utf8_lossy(&log[..end])))
    })
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` take target (a cgroup, or a map) and program, `BPF_LINK_CREATE` program and target.
#[repr(C)]
struct Attach {
    first: u32,
    second: u32,
    hook: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_long, mut attr: T) -> io::Result<i32> {
    // SAFETY: `attr` is a repr(C) prefix of `union bpf_attr` with its size; the kernel takes what is beyond
    // it as zero. What its pointers lead to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(&mut attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("bpf(2) returns an int"))
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn fd(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative")
}

/// One instruction, as `struct bpf_insn` lies in memory on a little-endian machine.
const fn instruction(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let [code, registers] = [code as u64, (target | source << 4) as u64];
    code | registers << 8 | (offset.cast_unsigned() as u64) << 16 | (immediate.cast_unsigned() as u64) << 32
}

const fn mov(target: u8, value: i32) -> u64 {
    instruction(0xb7, target, 0, 0, value)
}

const fn copy(target: u8, source: u8) -> u64 {
    instruction(0xbf, target, source, 0, 0)
}

const fn add(target: u8, value: i32) -> u64 {
    instruction(0x07, target, 0, 0, value)
}

const fn store_word(target: u8, offset: i16, value: i32) -> u64 {
    instruction(0x62, target, 0, offset, value)
}

const fn keep_word(target: u8, offset: i16, source: u8) -> u64 {
    instruction(0x63, target, source, offset, 0)
}

const fn load_word(target: u8, source: u8, offset: i16) -> u64 {
    instruction(0x61, target, source, offset, 0)
}

/// Skips `count` instructions when `register` is zero.
const fn skip_if_zero(register: u8, count: i16) -> u64 {
    skip_if(register, 0, count)
}

/// Skips `count` instructions when `register` is `value`.
const fn skip_if(register: u8, value: i32, count: i16) -> u64 {
    instruction(0x15, register, 0, count, value)
}

/// Skips `count` instructions when `register` is not `value`.
const fn skip_unless(register: u8, value: i32, count: i16) -> u64 {
    instruction(0x55, register, 0, count, value)
}

const fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// A 64-bit load of a map by its descriptor.
fn load_map(target: u8, map: BorrowedFd<'_>) -> [u64; 2] {
    [instruction(0x18, target, 1, 0, map.as_raw_fd()), 0]
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R6: u8 = 6;
const R7: u8 = 7;
const R10: u8 = 10;
const SK_PASS: i32 = 1;
/// `BPF_SK_LOOKUP_F_REPLACE`.
const SK_LOOKUP_REPLACE: i32 = 1;

// `op` of `struct bpf_sock_ops`.
const ACTIVE_ESTABLISHED: i32 = 4;
const PASSIVE_ESTABLISHED: i32 = 5;

// `enum bpf_func_id`.
const MAP_LOOKUP_ELEM: i32 = 1;
const SOCK_MAP_UPDATE: i32 = 53;
const SK_RELEASE: i32 = 86;
const SK_ASSIGN: i32 = 124;
const SET_RETVAL: i32 = 187;

// `enum bpf_cmd`.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const LINK_CREATE: libc::c_long = 28;

// `enum bpf_map_type`, `bpf_prog_type`, `bpf_attach_type`; flags of BPF_PROG_ATTACH.
const MAP_SOCKMAP: u32 = 15;
const PROG_SOCK_OPS: u32 = 13;
const PROG_SK_MSG: u32 = 16;
const PROG_CGROUP_SOCK_ADDR: u32 = 18;
const PROG_SK_LOOKUP: u32 = 30;
const ATTACH_SOCK_OPS: u32 = 3;
const ATTACH_SK_MSG: u32 = 7;
const ATTACH_CONNECT4: u32 = 10;
const ATTACH_SK_LOOKUP: u32 = 36;
const ALLOW_MULTI: u32 = 2;
const PREORDER: u32 = 64;
