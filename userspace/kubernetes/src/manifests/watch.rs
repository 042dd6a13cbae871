//! inotify on the directory and its direct sub-directories.
//!
//! Two watches of the same: [`Wake`] waits for something to do, [`Ledger`] is asked, without
//! waiting, what happened to files while they were read.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::time::timeout;

use super::directory::{self, LONGEST_WRITE};
use crate::Error;

/// Tells that something changed.
#[derive(Debug)]
pub(super) struct Wake {
    events: Events,
    covered: Covered,
}

/// Opening a source needs no runtime: it is asked for at the first wait.
#[derive(Debug)]
enum Events {
    Queued(Inotify),
    Streaming(EventStream<Vec<u8>>),
    Failed,
}

/// Knows which files are half written, or were touched while they were read.
#[derive(Debug)]
pub(super) struct Ledger {
    inotify: Inotify,
    covered: Covered,
    /// Files written to and not closed yet. Reading one now would take its missing half for a removal.
    writing: HashMap<PathBuf, Instant>,
    /// Files closed or moved here, and not read since.
    complete: HashSet<PathBuf>,
}

/// The directories that an inotify instance watches.
#[derive(Debug)]
struct Covered {
    root: PathBuf,
    watches: Watches,
    directories: HashMap<WatchDescriptor, PathBuf>,
}

impl Wake {
    pub(super) fn new(root: &Path) -> Result<Self, Error> {
        let (inotify, covered) = watch(root)?;
        Ok(Self { events: Events::Queued(inotify), covered })
    }

    /// Watches directories that are new, or new under their old name.
    pub(super) fn cover(&mut self) {
        self.covered.cover();
    }

    /// Waits until a file was written and closed, moved or removed.
    pub(super) async fn changed(&mut self) {
        loop {
            match self.event().await {
                Ok(mask) if mask.contains(EventMask::MODIFY) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "inotify failed: changes are seen by the slow scan only");
                    self.events = Events::Failed;
                }
            }
        }
    }

    /// Waits until a burst of changes is over, but not for ever.
    pub(super) async fn settle(&mut self) {
        let deadline = Instant::now() + LONGEST_BURST;
        while Instant::now() < deadline && timeout(QUIET, self.changed()).await.is_ok() {}
    }

    async fn event(&mut self) -> io::Result<EventMask> {
        if let Events::Queued(_) = self.events
            && let Events::Queued(inotify) = std::mem::replace(&mut self.events, Events::Failed)
        {
            self.events = Events::Streaming(inotify.into_event_stream(vec![0; BUFFER])?);
        }
        match &mut self.events {
            Events::Streaming(stream) => {
                let event = stream.next().await.unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()))?;
                Ok(event.mask)
            }
            _ => std::future::pending().await,
        }
    }
}

impl Ledger {
    pub(super) fn new(root: &Path) -> Result<Self, Error> {
        let (inotify, covered) = watch(root)?;
        Ok(Self { inotify, covered, writing: HashMap::new(), complete: HashSet::new() })
    }

    /// The files touched since the last call, without waiting.
    pub(super) fn touched(&mut self) -> HashSet<PathBuf> {
        self.covered.cover();
        let mut touched = HashSet::new();
        let mut buffer = [0; BUFFER];
        while let Ok(events) = self.inotify.read_events(&mut buffer) {
            for event in events {
                let directory = self.covered.directories.get(&event.wd);
                let Some((directory, name)) = directory.zip(event.name) else { continue };
                let path = directory.join(name);
                if event.mask.contains(EventMask::MODIFY) {
                    self.writing.insert(path.clone(), Instant::now());
                    self.complete.remove(&path);
                } else {
                    self.writing.remove(&path);
                }
                if event.mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
                    self.complete.insert(path.clone());
                }
                touched.insert(path);
            }
        }
        self.writing.retain(|_, since| since.elapsed() < LONGEST_WRITE);
        touched
    }

    /// Whether `path` is only half written, as far as [`Self::touched`] has seen.
    pub(super) fn is_being_written(&self, path: &Path) -> bool {
        self.writing.contains_key(path)
    }

    /// Whether the last that [`Self::touched`] saw of `path` is its completion, and nobody read it since.
    pub(super) fn is_complete(&self, path: &Path) -> bool {
        self.complete.contains(path)
    }

    /// Notes that `path` was read as it is now.
    pub(super) fn was_read(&mut self, path: &Path) {
        self.complete.remove(path);
    }
}

impl Covered {
    fn cover(&mut self) {
        for directory in directory::directories(&self.root) {
            // One that is gone again, or one watch too many: the slow scan still sees its files.
            if let Ok(descriptor) = self.watches.add(&directory, mask()) {
                self.directories.insert(descriptor, directory);
            }
        }
    }
}

fn watch(root: &Path) -> Result<(Inotify, Covered), Error> {
    let failed = |source| Error::Watch { directory: root.to_owned(), source };
    let inotify = Inotify::init().map_err(failed)?;
    let mut watches = inotify.watches();
    watches.add(root, mask()).map_err(failed)?;
    let mut covered = Covered { root: root.to_owned(), watches, directories: HashMap::new() };
    covered.cover();
    Ok((inotify, covered))
}

fn mask() -> WatchMask {
    WatchMask::MODIFY
        | WatchMask::CLOSE_WRITE
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
}

const BUFFER: usize = 16 * 1024;
/// A change is read once nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(2);
/// A directory that never rests is read all the same.
const LONGEST_BURST: Duration = Duration::from_millis(50);
