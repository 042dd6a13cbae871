//! The manifests directory as a source of snapshots.
//!
//! Read are `*.yaml`, `*.yml` and `*.json` in the directory and in its direct sub-directories; names
//! that begin with `.` or `#` are skipped, so editors' temporary files and a volume's hidden links
//! are. inotify tells of changes; a slow scan by modification time, size and inode catches what it
//! cannot see (a link's target, a network file system).

mod directory;
mod memory;
mod store;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot, watch as latest},
    time::{MissedTickBehavior, interval},
};
use weft_model::{JwksHeld, Snapshot};

use self::{store::Store, watch::Wake};
use crate::{
    Error,
    source::{self, Options, Refresh, Source, blocking},
};

pub(crate) use self::directory::files;

/// A watched directory of manifests.
#[derive(Debug)]
pub struct ManifestSource {
    store: Store,
    wake: Wake,
    publish: latest::Sender<Arc<Snapshot>>,
    requests: mpsc::Receiver<oneshot::Sender<u64>>,
    refresh: Refresh,
    jwks: latest::Receiver<Arc<JwksHeld>>,
}

impl ManifestSource {
    /// Reads `directory` for the first time; the receiver holds the snapshot of it at once.
    ///
    /// Broken manifests are no error: they are in [`Snapshot::problems`].
    pub fn open(
        directory: impl Into<PathBuf>,
        options: Options,
    ) -> Result<(Self, latest::Receiver<Arc<Snapshot>>), Error> {
        let directory: PathBuf = directory.into();
        let mut store = Store::new(directory.clone(), options)?;
        // Watching comes before reading: what changes meanwhile is noticed, and read again.
        let wake = Wake::new(&directory)?;
        let snapshot = store.rescan();
        let (publish, latest) = latest::channel(snapshot);
        let (refresh, requests) = Refresh::channel(&latest);
        // Nobody sends any, unless `follow_jwks` says who.
        let jwks = latest::channel(Arc::default()).1;
        Ok((Self { store, wake, publish, requests, refresh, jwks }, latest))
    }

    async fn follow(self, mut shutdown: BoxFuture<'static, ()>) {
        let Self { mut store, mut wake, publish, mut requests, refresh, mut jwks } = self;
        // Our own handle would keep the channel open for ever.
        drop(refresh);
        let mut slow = interval(SLOW_RESCAN);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                () = &mut shutdown => return,
                Some(request) = requests.recv() => waiting.push(request),
                () = wake.changed() => wake.settle().await,
                Ok(()) = jwks.changed() => store.hold(Arc::clone(&jwks.borrow_and_update())),
                _ = slow.tick() => {}
            }
            wake.cover();
            let scan = blocking(move || {
                let snapshot = store.rescan();
                (store, snapshot)
            });
            let Some((same, snapshot)) = scan.await else { return };
            store = same;
            let version = snapshot.version;
            source::publish(&publish, snapshot);
            // Nobody waits for the disk but who asked whether all is done.
            let Some(same) = blocking(move || {
                store.keep();
                store
            })
            .await
            else {
                return;
            };
            store = same;
            for request in waiting {
                // Whoever has stopped waiting needs no answer.
                let _ = request.send(version);
            }
        }
    }
}

impl Source for ManifestSource {
    fn refresh_handle(&self) -> Refresh {
        self.refresh.clone()
    }

    fn follow_jwks(&mut self, jwks: latest::Receiver<Arc<JwksHeld>>) {
        self.jwks = jwks;
        self.jwks.mark_changed();
    }

    fn run(self: Box<Self>, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(self.follow(shutdown))
    }
}

/// The name that a file of `directory` is shown by.
fn shown(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// How long a change that inotify does not tell of may go unnoticed.
const SLOW_RESCAN: Duration = Duration::from_secs(2);
