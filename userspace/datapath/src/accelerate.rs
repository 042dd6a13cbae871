//! Same-node acceleration: whether this kernel may, the programs for it, and the switch.
//!
//! Nothing of it is loaded before a Service asks for it. Then the kernel's version is looked at, a
//! self-test runs the real programs in a network namespace of its own, and only then sockets may pair.
//!
//! The switch is a flag in `weft_cfg`, because sockets keep the program they joined with: without the
//! flag no socket joins, and each that has joined sends natively from its next message on.

mod bench;
mod selftest;
mod scratch;

use std::{fs, io, mem, path::PathBuf};

use aya::{
    Btf, Ebpf,
    maps::{Array, Map, MapData, SockHash},
    programs::{FExit, ProgramError, SkMsg, links::FdLink, loaded_programs},
};
use weft_abi::{
    Config, PairEnd, config_flags,
    names::{map, program},
};

use crate::{
    link,
    load::{self, Loaded},
    pins::Pins,
};

/// Version of a kernel: major, minor, patch.
pub(crate) type Version = (u32, u32, u32);

/// Why connections within this node are not accelerated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// The operator said so.
    #[error("switched off by the agent's settings")]
    Disabled,
    /// The kernel has known errors.
    #[error(
        "kernel {}.{}.{} is older than 6.18.14, whose fixes of sockmap are needed to keep data in order and bounded",
        .0.0, .0.1, .0.2
    )]
    OldKernel(Version),
    /// The kernel did not do what the programs rely on.
    #[error("the self-test failed: {0}")]
    SelfTest(#[from] selftest::Failure),
    /// The programs could not be loaded.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// The programs could not be attached.
    #[error("{program} cannot be attached: {source}")]
    Attach {
        /// The program.
        program: &'static str,
        /// Why.
        source: ProgramError,
    },
    /// The link cannot be pinned.
    #[error("the link of {program} cannot be pinned at {path}: {source}", program = program::TAKEN)]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Unfit {
    /// What an operator can do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Disabled => "start the agent with --acceleration auto",
            Self::OldKernel(_) => "run kernel 6.18.14 or later, or remove the annotation weft.dev/accelerate",
            _ => "connections go through TCP and work; please report this with the kernel's version",
        }
    }
}

/// Makes acceleration possible: looks at the kernel, tests it, loads and attaches the programs.
pub(crate) fn start(loaded: &mut Loaded, kernel: Version) -> Result<(), Unfit> {
    may_run(kernel)?;
    selftest::run()?;
    attach_programs(&mut loaded.ebpf)?;
    mem::forget(attach_sk_msg(&mut loaded.ebpf)?);
    attach_taken(loaded)
}

/// Whether `kernel` has the fixes that are needed.
fn may_run(kernel: Version) -> Result<(), Unfit> {
    if kernel < OLDEST { Err(Unfit::OldKernel(kernel)) } else { Ok(()) }
}

/// Throws the switch of maps that are about to lose their pins: sockets in them live on, and go native.
pub(crate) fn stop(pins: &Pins) -> io::Result<()> {
    let Ok(data) = MapData::from_pin(pins.maps().join(map::CONFIG)) else { return Ok(()) };
    let Ok(mut config) = Array::<_, Config>::try_from(Map::Array(data)) else { return Ok(()) };
    let was = config.get(&0, 0).map_err(io::Error::other)?;
    let off = Config { flags: was.flags & !config_flags::ACCELERATE, ..was };
    config.set(0, off, 0).map_err(io::Error::other)
}

/// Loads the two programs.
fn attach_programs(ebpf: &mut Ebpf) -> Result<(), Unfit> {
    let refused = |program| move |source| load::Error::Program { program, source };
    let sk_msg: &mut SkMsg = named(ebpf, program::SK_MSG)?;
    sk_msg.load().map_err(refused(program::SK_MSG))?;
    let taken: &mut FExit = named(ebpf, program::TAKEN)?;
    let btf = Btf::from_sys_fs().map_err(|error| refused(program::TAKEN)(error.into()))?;
    taken.load(READ, &btf).map_err(refused(program::TAKEN))?;
    Ok(())
}

/// Attaches `sk_msg` to the map of paired sockets. Dropped, the link detaches it; forgotten, it stays as
/// long as the map is pinned.
fn attach_sk_msg(ebpf: &mut Ebpf) -> Result<aya::programs::sk_msg::SkMsgLink, Unfit> {
    let name = program::SK_MSG;
    let refused = |source| Unfit::Attach { program: name, source };
    let map = ebpf.map(map::PAIR_SOCKETS).ok_or(load::Error::Missing(map::PAIR_SOCKETS))?;
    let sockets = SockHash::<_, PairEnd>::try_from(map).map_err(|error| refused(error.into()))?;
    let fd = sockets.fd().try_clone().map_err(|error| refused(error.into()))?;
    let sk_msg: &mut SkMsg = named(ebpf, name)?;
    let link = sk_msg.attach(&fd).map_err(refused)?;
    sk_msg.take_link(link).map_err(refused)
}

/// Attaches `fexit`, or leaves an earlier agent's in place where it is the same: between two of them
/// reads would go uncounted, beside each other they would count twice.
fn attach_taken(loaded: &mut Loaded) -> Result<(), Unfit> {
    let path = loaded.pins.links().join(program::TAKEN);
    let unpinned = |source| Unfit::Pin { path: path.clone(), source };
    let taken: &mut FExit = named(&mut loaded.ebpf, program::TAKEN)?;
    let refused = |source| Unfit::Attach { program: program::TAKEN, source };
    let tag = taken.info().map_err(refused)?.tag();
    match link::open(&path).and_then(|link| link::info(std::os::fd::AsFd::as_fd(&link))) {
        Ok(old) if tag_of(old.program) == Some(tag) => return Ok(()),
        Ok(_) => fs::remove_file(&path).map_err(unpinned)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unpinned(error)),
    }
    let id = taken.attach().map_err(refused)?;
    let link = FdLink::from(taken.take_link(id).map_err(refused)?);
    link.pin(&path).map_err(|error| unpinned(io::Error::other(error)))?;
    Ok(())
}

fn tag_of(program: u32) -> Option<u64> {
    loaded_programs().filter_map(Result::ok).find(|info| info.id() == program).map(|info| info.tag())
}

fn named<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Unfit>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    Ok(program.ok_or(load::Error::Missing(name))?)
}

/// The first release with all fixes that the latch relies on (`Documentation` of them: ARCHITECTURE.md).
const OLDEST: Version = (6, 18, 14);
/// The kernel's function by which a socket in a sockmap is read.
const READ: &str = "tcp_bpf_recvmsg";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_the_fixes_is_refused_by_name() {
        for old in [(5, 15, 0), (6, 1, 140), (6, 12, 99), (6, 18, 13)] {
            let error = may_run(old).unwrap_err();
            let version = format!("{}.{}.{}", old.0, old.1, old.2);
            assert!(error.to_string().contains(&version) && error.remedy().contains("6.18.14"), "{error}");
        }
        for fixed in [(6, 18, 14), (6, 19, 0), (7, 0, 1)] {
            assert!(may_run(fixed).is_ok(), "{fixed:?}");
        }
    }
}
