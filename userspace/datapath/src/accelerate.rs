//! Same-node acceleration: whether this kernel may, the program for it, and the switch.
//!
//! Nothing of it is loaded before a Service asks for it, or connections come to the node's proxy. Then the
//! kernel's version is looked at, a self-test runs the real programs in a network namespace of its own, and
//! only then sockets may pair.
//!
//! The switch is a flag in `weft_cfg`, because sockets keep the program they joined with: without the
//! flag no socket joins, and each that has joined sends natively from its next message on.

mod bench;
mod scratch;
mod selftest;

use std::{
    io, mem,
    thread::{self, JoinHandle},
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, SockHash},
    programs::{SkMsg, sk_msg::SkMsgLink},
};
use weft_abi::{
    Config, PairEnd, config_flags,
    names::{map, program},
};
use weft_model::Snapshot;

use crate::{
    host,
    load::{self, Loaded},
    pins::Pins,
    settings::Acceleration,
};

/// All that is ever switched on.
pub(crate) const FLAGS: u32 =
    config_flags::ACCELERATE | config_flags::ACCELERATE_PROXY | config_flags::ACCELERATE_APPS;

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
    /// The machine has no cgroup to run the self-test in.
    #[error("no self-test without a cgroup: {0}")]
    Cgroup(#[from] host::Error),
    /// The kernel did not do what the programs rely on.
    #[error("the self-test failed: {0}")]
    SelfTest(#[from] selftest::Failure),
    /// A program could not be loaded or attached.
    #[error(transparent)]
    Load(#[from] load::Error),
}

impl Unfit {
    /// What an operator can do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Disabled => "start the agent with --acceleration auto",
            Self::OldKernel(_) => "run kernel 6.18.14 or later, or start the agent with --acceleration off",
            _ => "connections go through TCP and work; please report this with the kernel's version",
        }
    }
}

/// Whether a Service asks for it.
pub(crate) fn is_asked_for(snapshot: &Snapshot) -> bool {
    snapshot.services.values().any(|service| service.accelerate)
}

/// Finding out whether this kernel can accelerate.
#[derive(Default)]
pub(crate) struct Trial {
    test: Option<JoinHandle<Result<(), Unfit>>>,
}

impl Trial {
    /// Whether it can; the program is loaded and attached then. `None` while the self-test runs, beside everything else:
    /// only a Service that asks for it is to find it on, and waits.
    pub(crate) fn outcome(
        &mut self,
        loaded: &mut Loaded,
        kernel: Option<Version>,
        wanted: Acceleration,
        waits: bool,
    ) -> Option<Result<(), Unfit>> {
        let tested = match self.test.take() {
            Some(test) if !waits && !test.is_finished() => {
                self.test = Some(test);
                return None;
            }
            Some(test) => test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None if wanted == Acceleration::Off => Err(Unfit::Disabled),
            None => match may_run(kernel.unwrap_or_else(host::kernel)) {
                Ok(()) if waits => selftest::run(),
                Ok(()) => match thread::Builder::new().name("trial".into()).spawn(selftest::run) {
                    Ok(test) => {
                        self.test = Some(test);
                        return None;
                    }
                    Err(error) => Err(selftest::Failure::from(error).into()),
                },
                Err(old) => Err(old),
            },
        };
        let started = tested.and_then(|()| {
            // Dropped, the link would detach the program; forgotten, it stays as long as the map is pinned.
            mem::forget(attach(&mut loaded.ebpf)?);
            Ok(())
        });
        match &started {
            Ok(()) => tracing::info!("same-node acceleration passed its self-test"),
            Err(error @ Unfit::OldKernel(_)) if !waits && !wanted.is_asked_for() => {
                tracing::info!(%error, "same-node acceleration stays off");
            }
            Err(error) => tracing::warn!(%error, "same-node acceleration stays off"),
        }
        Some(started)
    }

    /// Whether its outcome is known and was not asked for yet.
    pub(crate) fn has_ended(&self) -> bool {
        self.test.as_ref().is_some_and(JoinHandle::is_finished)
    }
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
    let off = Config { flags: was.flags & !FLAGS, ..was };
    config.set(0, off, 0).map_err(io::Error::other)
}

/// Loads `sk_msg` and attaches it to the map of paired sockets. Sockets that are in it keep the program
/// they joined with.
fn attach(ebpf: &mut Ebpf) -> Result<SkMsgLink, Unfit> {
    let refused = |source| load::Error::Program { program: program::SK_MSG, source };
    let map = ebpf.map(map::PAIR_SOCKETS).ok_or(load::Error::Missing(map::PAIR_SOCKETS))?;
    let sockets = SockHash::<_, PairEnd>::try_from(map).map_err(|error| refused(error.into()))?;
    let fd = sockets.fd().try_clone().map_err(|error| refused(error.into()))?;
    let sk_msg = ebpf.program_mut(program::SK_MSG).and_then(|program| program.try_into().ok());
    let sk_msg: &mut SkMsg = sk_msg.ok_or(load::Error::Missing(program::SK_MSG))?;
    sk_msg.load().map_err(refused)?;
    let link = sk_msg.attach(&fd).map_err(refused)?;
    Ok(sk_msg.take_link(link).map_err(refused)?)
}

/// The first release with all fixes that the latch relies on (`Documentation` of them: ARCHITECTURE.md).
const OLDEST: Version = (6, 18, 14);

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
