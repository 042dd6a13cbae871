//! Loads the programs into the kernel, on maps that are pinned for the next agent.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{MapError, MapInfo},
    programs::{Program, ProgramError},
};
use weft_abi::{
    SCHEMA,
    names::{map, program},
};

use crate::{
    btf::Btf,
    host, kernel_log,
    link::Attach,
    object::object,
    pins::{Node, Pins},
    settings::Settings,
    uncharged,
};

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The build has no eBPF object.
    #[error(
        "this weft was built without its eBPF programs (WEFT_EBPF=stub); build it with `cargo xtask build`"
    )]
    Stub,
    /// The kernel is too old.
    #[error("kernel {0}.{1} is too old: weft needs 5.15 (bpf_get_netns_cookie in sock_ops)")]
    OldKernel(u32, u32),
    /// The object cannot be read.
    #[error("the eBPF object of this build cannot be read: {0}")]
    Object(#[from] aya_obj::ParseError),
    /// The folders for pins cannot be made.
    #[error("cannot make the folders for pins at {path}: {source}; is the BPF filesystem writable?")]
    Pins {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the maps or the object.
    #[error("the kernel refused the eBPF maps: {0}; `weft check` shows what is missing")]
    Maps(#[from] EbpfError),
    /// The kernel refused a program.
    #[error("the kernel refused program {program}: {source}; please report this with the kernel's version")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the verifier said.
        source: ProgramError,
    },
    /// The object lacks a program.
    #[error("program {0} is not in the eBPF object; the build is broken")]
    Missing(&'static str),
}

/// Programs in the kernel, not attached yet.
pub(crate) struct Loaded {
    /// Maps and programs.
    pub ebpf: Ebpf,
    /// Where the maps are pinned.
    pub pins: Pins,
    /// Versions whose pins are to go once this one is attached.
    pub retired: Vec<Pins>,
}

/// Maximum entries by map name, where they differ from [`weft_abi::limits`].
pub type MapSizes = BTreeMap<String, u32>;

/// Where each program of the cgroup is attached.
pub(crate) const ON_CGROUP: &[(&str, Attach)] = &[
    (program::RECVMSG4, Attach::Recvmsg4),
    (program::RECVMSG6, Attach::Recvmsg6),
    (program::PEERNAME4, Attach::Peername4),
    (program::PEERNAME6, Attach::Peername6),
    (program::RELEASE, Attach::Release),
    (program::SOCK_OPS, Attach::SockOps),
    // What translates comes last: by then the way back is there.
    (program::SENDMSG4, Attach::Sendmsg4),
    (program::SENDMSG6, Attach::Sendmsg6),
    (program::CONNECT4, Attach::Connect4),
    (program::CONNECT6, Attach::Connect6),
];

/// Loads the programs of an agent.
pub(crate) fn for_agent(settings: &Settings) -> Result<Loaded, Error> {
    load(&Node::new(&settings.node), &settings.map_sizes, &settings.storage_maker)
}

/// Loads the programs for `node`, on the maps of an earlier agent where those have today's layout.
/// The socket storage is left to `storage_maker`, see [`uncharged`].
pub(crate) fn load(node: &Node, sizes: &MapSizes, storage_maker: &[OsString]) -> Result<Loaded, Error> {
    let object = object().ok_or(Error::Stub)?;
    let (major, minor, _) = host::kernel();
    if (major, minor) < (5, 15) {
        return Err(Error::OldKernel(major, minor));
    }
    let (pins, retired) = choose(node, &wanted_maps(object, sizes)?);
    pins.make().map_err(|source| Error::Pins { path: pins.maps(), source })?;
    uncharged::have_made(storage_maker, &pins);
    let paths: Vec<_> = map::ALL.iter().map(|name| (*name, pins.maps().join(name))).collect();
    let mut ebpf = load_object(object, &paths, sizes, (major, minor) >= (5, 18))?;
    for name in ON_CGROUP.iter().map(|(name, _)| *name).chain([program::SK_LOOKUP, program::BACKSTOP]) {
        load_program(ebpf.program_mut(name).ok_or(Error::Missing(name))?)
            .map_err(|source| Error::Program { program: name, source })?;
    }
    Ok(Loaded { ebpf, pins, retired })
}

impl Loaded {
    /// The descriptor of a loaded program.
    pub(crate) fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, Error> {
        let program = self.ebpf.program(name).ok_or(Error::Missing(name))?;
        Ok(program.fd().map_err(|source| Error::Program { program: name, source })?.as_fd())
    }

    /// The kernel's id of a loaded program.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.ebpf.program(name)?.info().ok().map(|info| info.id())
    }

    /// How many instructions the verifier followed to accept it. `None` before kernel 5.16.
    pub(crate) fn verified(&self, name: &str) -> Option<u32> {
        self.ebpf.program(name)?.info().ok()?.verified_instruction_count()
    }
}

/// Type, key size, value size and maximum entries of a map.
type Shape = (u32, u32, u32, u32);

fn wanted_maps(object: &[u8], sizes: &MapSizes) -> Result<BTreeMap<String, Shape>, Error> {
    let object = aya_obj::Object::parse(object)?;
    let own = object.maps.iter().filter(|(name, _)| name.starts_with("weft_"));
    let shape = |name: &str, map: &aya_obj::Map| {
        let max = sizes.get(name).copied().unwrap_or(map.max_entries());
        (map.map_type(), map.key_size(), map.value_size(), max)
    };
    Ok(own.map(|(name, map)| (name.clone(), shape(name, map))).collect())
}

/// The version to use: ours, unless somebody left other maps under its name; then the next that is free.
fn choose(node: &Node, wanted: &BTreeMap<String, Shape>) -> (Pins, Vec<Pins>) {
    let there = node.versions();
    let fits = |pins: &&Pins| pins.version >= SCHEMA && same_maps(pins, wanted);
    let chosen = if let Some(pins) = there.iter().find(fits) {
        pins.clone()
    } else {
        let newest = there.last().map_or(SCHEMA, |newest| SCHEMA.max(newest.version + 1));
        node.version(newest)
    };
    let retired = there.into_iter().filter(|pins| *pins != chosen).collect();
    (chosen, retired)
}

fn same_maps(pins: &Pins, wanted: &BTreeMap<String, Shape>) -> bool {
    wanted.iter().all(|(name, shape)| match read_shape(&pins.maps().join(name)) {
        Ok(found) => found == *shape,
        // A map that an interrupted start did not pin yet is made now.
        Err(MapError::SyscallError(error)) => error.io_error.kind() == io::ErrorKind::NotFound,
        Err(_) => false,
    })
}

fn read_shape(path: &Path) -> Result<Shape, MapError> {
    let info = MapInfo::from_pin(path)?;
    Ok((info.map_type()? as u32, info.key_size(), info.value_size(), info.max_entries()))
}

/// Maps and programs of their own, as small as they can be and pinned nowhere but at `paths`, where there may be some already; no
/// program is loaded yet.
pub(crate) fn load_scratch(paths: &[(&str, PathBuf)]) -> Result<Ebpf, Error> {
    let object = object().ok_or(Error::Stub)?;
    let maps = wanted_maps(object, &MapSizes::new())?;
    let fixed = [map::CONFIG, map::SOCKETS, map::EVENTS, map::STATS];
    let sizes = maps.into_keys().filter(|name| !fixed.contains(&name.as_str())).map(|name| (name, SCRATCH));
    load_object(object, paths, &sizes.collect(), true)
}

fn load_object(
    object: &[u8],
    paths: &[(&str, PathBuf)],
    sizes: &MapSizes,
    has_retval: bool,
) -> Result<Ebpf, Error> {
    let btf = Btf::running();
    let place = |(_, name, field): &(_, &str, &str)| btf.as_ref()?.offset(name, field);
    // All or none: an offset of 0 would be read as a field.
    let places: Option<Vec<u64>> = OFFSETS.iter().map(place).collect();
    let places = places.unwrap_or_else(|| vec![0; OFFSETS.len()]);
    let offsets = OFFSETS.iter().map(|(global, ..)| *global).zip(places);
    let facts =
        [("WEFT_HAS_RETVAL", u64::from(has_retval)), ("WEFT_HAS_MPTCP", u64::from(has_mptcp(btf.as_ref())))];
    let globals: Vec<_> = offsets.chain(facts).collect();
    // What nobody would see is not even part of the programs.
    let log_level = kernel_log::level();
    let mut loader = EbpfLoader::new();
    for (name, value) in &globals {
        loader.override_global(name, value, true);
    }
    loader.override_global("AYA_LOG_LEVEL", &log_level, true);
    for (name, path) in paths {
        loader.map_pin_path(name, path.as_path());
    }
    for (name, max) in sizes {
        loader.map_max_entries(name, *max);
    }
    Ok(loader.load(object)?)
}

/// Whether the kernel can lead from a subflow to its MPTCP socket: `bpf_skc_to_mptcp_sock` is 5.19, and
/// there is no such socket without `CONFIG_MPTCP`.
fn has_mptcp(btf: Option<&Btf>) -> bool {
    host::kernel() >= (5, 19, 0) && btf.is_some_and(|btf| btf.size("mptcp_sock").is_some())
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Enough entries for a self-test.
const SCRATCH: u32 = 64;

/// Globals of the programs with the struct and the field whose offset they hold.
const OFFSETS: &[(&str, &str, &str)] = &[
    ("WEFT_BYTES_SENT_AT", "tcp_sock", "bytes_sent"),
    ("WEFT_BYTES_RETRANS_AT", "tcp_sock", "bytes_retrans"),
    ("WEFT_WRITE_SEQ_AT", "tcp_sock", "write_seq"),
    ("WEFT_SND_NXT_AT", "tcp_sock", "snd_nxt"),
    ("WEFT_ULP_AT", "inet_connection_sock", "icsk_ulp_ops"),
    ("WEFT_SK_BACKLOG_AT", "sock", "sk_backlog"),
    ("WEFT_SK_SOCKET_AT", "sock", "sk_socket"),
    ("WEFT_SOCKET_FILE_AT", "socket", "file"),
    ("WEFT_FILE_FLAGS_AT", "file", "f_flags"),
    // `sk_flags` is a macro for this field of the struct that a `sock` begins with.
    ("WEFT_SK_FLAGS_AT", "sock_common", "skc_flags"),
];
