//! Links the programs to the cgroup and to network namespaces, or puts them into the links of an
//! earlier agent without a gap.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::programs::loaded_programs;
use weft_abi::names::program;
use weft_transport::Netns;

use crate::{
    host,
    link::{self, Attach},
    load::{Loaded, ON_CGROUP},
    pins::Pins,
};

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup or namespace cannot be opened.
    #[error("cannot open {path}: {source}")]
    Target {
        /// What was to be opened.
        path: PathBuf,
        /// Why it could not.
        source: io::Error,
    },
    /// Somebody else holds the hook and lets nobody beside him.
    #[error(
        "{program} cannot be attached to {target}: {holders} holds this hook exclusively; remove it, or attach it \
         with BPF_F_ALLOW_MULTI"
    )]
    Exclusive {
        /// Our program.
        program: &'static str,
        /// Where.
        target: String,
        /// The foreign programs.
        holders: String,
    },
    /// The kernel refused.
    #[error("{program} cannot be attached to {target}: {source}")]
    Refused {
        /// Our program.
        program: &'static str,
        /// Where.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The link cannot be pinned.
    #[error("the link of {program} cannot be pinned at {path}: {source}")]
    Pin {
        /// Our program.
        program: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program is not loaded.
    #[error(transparent)]
    Load(#[from] crate::load::Error),
}

impl Error {
    /// The program that could not be attached.
    pub fn program(&self) -> Option<&'static str> {
        match self {
            Self::Exclusive { program, .. } | Self::Refused { program, .. } | Self::Pin { program, .. } => {
                Some(program)
            }
            Self::Target { .. } | Self::Load(_) => None,
        }
    }
}

/// Attaches every program of the cgroup. The errors are of those that could not be; the others work.
pub(crate) fn to_cgroup(loaded: &Loaded, cgroup: &Path) -> Result<Vec<Error>, Error> {
    let target = |source| Error::Target { path: cgroup.to_owned(), source };
    let fd = OwnedFd::from(fs::File::open(cgroup).map_err(target)?);
    let id = host::cgroup_id(cgroup).map_err(target)?;
    let place = Place { name: cgroup.display().to_string(), fd: fd.as_fd(), id };
    let attach = |(name, attach): &(&'static str, Attach)| one_of_cgroup(loaded, &place, name, *attach).err();
    Ok(ON_CGROUP.iter().filter_map(attach).collect())
}

/// Attaches the backstop.
pub(crate) fn backstop(loaded: &Loaded, cgroup: &Path) -> Result<(), Error> {
    let target = |source| Error::Target { path: cgroup.to_owned(), source };
    let fd = OwnedFd::from(fs::File::open(cgroup).map_err(target)?);
    let id = host::cgroup_id(cgroup).map_err(target)?;
    let place = Place { name: cgroup.display().to_string(), fd: fd.as_fd(), id };
    one_of_cgroup(loaded, &place, program::BACKSTOP, Attach::SkbIngress)
}

/// Detaches the backstop, where it is attached.
pub(crate) fn no_backstop(pins: &Pins) -> io::Result<()> {
    unpin(&pins.links().join(program::BACKSTOP))
}

/// Puts `sk_lookup` into a pod's network namespace.
pub(crate) fn to_netns(loaded: &Loaded, netns: &Netns, cookie: u64) -> Result<(), Error> {
    let name = program::SK_LOOKUP;
    let place =
        Place { name: format!("network namespace {cookie}"), fd: netns.as_fd(), id: netns.id().inode() };
    let file = cookie.to_string();
    attach(loaded.program(name)?, name, &place, Attach::SkLookup, &loaded.pins.netns().join(&file))
}

/// Takes `sk_lookup` out of a pod's network namespace.
pub(crate) fn from_netns(pins: &Pins, cookie: u64) -> io::Result<()> {
    unpin(&pins.netns().join(cookie.to_string()))
}

/// Takes off what decides by the rows of the layout at `old`, which nobody writes any more, where the layout
/// at `new` has the same program attached. What only remembers stays beside it.
///
/// What sends connections elsewhere goes first: whoever still is on the way is remembered by the others.
pub(crate) fn supersede(old: &Pins, new: &Pins) -> io::Result<()> {
    for name in DECIDING.into_iter().filter(|name| new.links().join(name).exists()) {
        take_off(&old.links().join(name))?;
    }
    new.linked().into_iter().try_for_each(|cookie| take_off(&old.netns().join(cookie.to_string())))
}

/// Takes off all that decides by the rows of this layout. What only remembers stays.
pub(crate) fn decide_no_more(old: &Pins) -> io::Result<()> {
    DECIDING.into_iter().try_for_each(|name| take_off(&old.links().join(name)))?;
    old.linked().into_iter().try_for_each(|cookie| take_off(&old.netns().join(cookie.to_string())))
}

/// Whether programs of this layout decide where connections go, or who may come in.
pub(crate) fn decides(pins: &Pins) -> bool {
    DECIDING.into_iter().any(|name| pins.links().join(name).exists()) || !pins.linked().is_empty()
}

/// Detaches at once: a link that nobody holds any more goes some time later.
fn take_off(pin: &Path) -> io::Result<()> {
    if let Ok(link) = link::open(pin)
        && let Err(error) = link::detach(link.as_fd())
    {
        tracing::debug!(pin = %pin.display(), %error, "not detached; it goes with its pin");
    }
    unpin(pin)
}

/// The names of foreign `sk_lookup` programs in a network namespace.
pub(crate) fn foreign_lookups(netns: &Netns) -> io::Result<Vec<String>> {
    let ids = link::attached(netns.as_fd(), Attach::SkLookup)?;
    Ok(names(&ids).into_iter().filter(|name| !name.starts_with("weft_")).collect())
}

/// The foreign programs on the connect hooks of a cgroup and of those above it, as far as they can be seen: they run for
/// its sockets beside ours, and those above it after ours.
pub(crate) fn beside_connect(cgroup: &Path) -> BTreeSet<String> {
    let hooks = [("connect4", Attach::Connect4), ("connect6", Attach::Connect6)];
    let of_group = |path: &Path| {
        let group = fs::File::open(path).ok();
        let on = |(name, hook)| {
            let programs = group.as_ref().and_then(|group| on_hook(group.as_fd(), hook).ok());
            (name, programs.unwrap_or_default())
        };
        let found = hooks.map(on).into_iter().flat_map(|(hook, programs)| {
            let foreign = programs.into_iter().filter(|name| !name.starts_with("weft_"));
            foreign.map(move |name| format!("{name} on {hook} of {}", path.display())).collect::<Vec<_>>()
        });
        found.collect::<Vec<_>>()
    };
    host::cgroups_above(cgroup).flat_map(of_group).collect()
}

/// The names of the programs, ours and others, that a hook of a cgroup has.
pub(crate) fn on_hook(cgroup: BorrowedFd<'_>, attach: Attach) -> io::Result<Vec<String>> {
    link::attached(cgroup, attach).map(|ids| names(&ids))
}

/// Whether what a hook of a cgroup has lets nobody beside it.
pub(crate) fn is_exclusive(cgroup: BorrowedFd<'_>, attach: Attach) -> io::Result<bool> {
    link::is_exclusive(cgroup, attach)
}

/// What sends connections and datagrams elsewhere.
const DECIDING: [&str; 4] = [program::CONNECT4, program::CONNECT6, program::SENDMSG4, program::SENDMSG6];

struct Place<'a> {
    name: String,
    fd: BorrowedFd<'a>,
    id: u64,
}

fn one_of_cgroup(loaded: &Loaded, place: &Place<'_>, name: &'static str, hook: Attach) -> Result<(), Error> {
    attach(loaded.program(name)?, name, place, hook, &loaded.pins.links().join(name))
}

/// Takes over the link that is pinned, else makes one. The links of an older layout stay beside it until
/// that is retired: both see every connection, so that none falls between the maps of the two.
fn attach(
    program: BorrowedFd<'_>,
    name: &'static str,
    place: &Place<'_>,
    hook: Attach,
    pin: &Path,
) -> Result<(), Error> {
    let refused = |source| Error::Refused { program: name, target: place.name.clone(), source };
    let unpinned = |source| Error::Pin { program: name, path: pin.to_owned(), source };
    if take_over(pin, program, place).map_err(refused)? {
        return Ok(());
    }
    let fresh = link::create(program, place.fd, hook).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => Error::Exclusive {
            program: name,
            target: place.name.clone(),
            holders: on_hook(place.fd, hook).unwrap_or_default().join(", "),
        },
        _ => refused(source),
    })?;
    link::pin(fresh.as_fd(), pin).map_err(unpinned)
}

/// Whether the link pinned at `pin` now runs `program`. A link that is not to `place`, or whose target
/// is gone, is unpinned.
fn take_over(pin: &Path, program: BorrowedFd<'_>, place: &Place<'_>) -> io::Result<bool> {
    let link = match link::open(pin) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if link::info(link.as_fd())?.target == place.id {
        match link::update(link.as_fd(), program) {
            Ok(()) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(error) => return Err(error),
        }
    }
    unpin(pin)?;
    Ok(false)
}

fn unpin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn names(ids: &[u32]) -> Vec<String> {
    let known = loaded_programs().filter_map(Result::ok).filter(|program| ids.contains(&program.id()));
    known.map(|program| format!("{} (id {})", program.name_as_str().unwrap_or("?"), program.id())).collect()
}
