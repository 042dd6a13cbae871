//! inotify on the node's CNI directories.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask, Watches};
use tokio::time::timeout;

/// Tells that something changed in directories. One that is not there, or is made again, is watched from the next call on.
pub(super) struct Watch {
    directories: Vec<PathBuf>,
    /// `None` where the machine has no more of it: then it is looked for.
    events: Option<(EventStream<[u8; BUFFER]>, Watches)>,
}

impl Watch {
    pub(super) fn of<'p>(directories: impl IntoIterator<Item = &'p PathBuf>) -> Self {
        let events = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            Ok((inotify.into_event_stream([0; BUFFER])?, watches))
        });
        let events = events.inspect_err(|error| {
            tracing::warn!(%error, "changes of the node's CNI directories are seen by the slow look only");
        });
        let mut watch = Self { directories: directories.into_iter().cloned().collect(), events: events.ok() };
        watch.cover();
        watch
    }

    /// Waits for a change, and until a burst of them is over.
    pub(super) async fn changed(&mut self) {
        self.cover();
        let Some((stream, _)) = &mut self.events else { return std::future::pending().await };
        if stream.next().await.is_none() {
            std::future::pending::<()>().await;
        }
        while timeout(QUIET, stream.next()).await.is_ok_and(|event| event.is_some()) {}
    }

    fn cover(&mut self) {
        let Some((_, watches)) = &mut self.events else { return };
        for directory in &self.directories {
            add(watches, directory);
        }
    }
}

fn add(watches: &mut Watches, directory: &Path) {
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVE
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    // One that is not there yet is found by the slow look.
    let _ = watches.add(directory, mask);
}

const BUFFER: usize = 4096;
/// Who writes a file often writes several.
const QUIET: Duration = Duration::from_millis(20);
