//! The mesh's controllers, as this node's agent finds them, and whom it trusts to be one.
//!
//! ```text
//! Snapshot: Service weft-controller ──► its ready endpoints ──► Controllers
//! ConfigMap weft-trust-bundle ──► roots, kept in the state directory ──► Controllers
//! ```

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use weft_identity::controller::{BUNDLE, BUNDLE_KEY, Controllers, Roots, SERVICE, SERVICE_PORT, host};
use weft_kubernetes::{Cluster, Connection, ValuesKind};
use weft_model::{ObjectName, Snapshot};
use weft_runtime::{Backoff, Stop, Tasks};

use crate::{endpoints::endpoints, settings::AgentArgs};

/// Whom to trust, or why that is not known yet.
type Known = Result<Arc<Roots>, Arc<str>>;

/// Finds the controllers of the mesh from now on.
pub(crate) async fn find(
    connection: &Connection,
    args: &AgentArgs,
    node: &str,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    tasks: &Tasks,
) -> Result<Controllers, weft_kubernetes::Error> {
    let namespace: Arc<str> = args.namespace.as_str().into();
    let cluster = Cluster::connect(connection).await?;
    let (addresses, found) = watch::channel(controllers(&snapshots.borrow(), &namespace));
    let followed = follow(addresses, Arc::clone(&namespace), snapshots.clone(), tasks.stop_signal());
    tasks.spawn("controllers", followed);
    let trust = Bundle {
        cluster,
        name: ObjectName::new(Arc::clone(&namespace), BUNDLE),
        kept: weft_datapath::last_good(&args.state_dir, node).join(BUNDLE_KEY),
    };
    let (roots, trusted) = watch::channel(trust.kept());
    tasks.spawn("trusted roots", trust.follow(roots, tasks.stop_signal()));
    Ok(Controllers::new(host(&namespace), args.ca_token.clone(), found, trusted))
}

async fn follow(
    addresses: watch::Sender<Arc<[SocketAddr]>>,
    namespace: Arc<str>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Stop,
) -> Result<(), Infallible> {
    loop {
        let now = controllers(&snapshots.borrow_and_update(), &namespace);
        addresses.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn controllers(snapshot: &Snapshot, namespace: &Arc<str>) -> Arc<[SocketAddr]> {
    let service = ObjectName::new(Arc::clone(namespace), SERVICE);
    endpoints(snapshot, &service, |port| &*port.name == SERVICE_PORT).into()
}

/// The roots, where the API server has them and where they are kept.
struct Bundle {
    cluster: Cluster,
    name: ObjectName,
    kept: PathBuf,
}

impl Bundle {
    /// What an earlier agent has kept.
    fn kept(&self) -> Known {
        let nothing = || format!("ConfigMap {} has not been read yet", self.name).into();
        Roots::kept(&self.kept).map(Arc::new).ok_or_else(nothing)
    }

    /// Reads them again and again: whoever rotates roots leaves time for that.
    async fn follow(self, roots: watch::Sender<Known>, stop: Stop) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(Duration::from_millis(500), EVERY);
        loop {
            let wait = match self.read().await {
                Ok(new) => {
                    backoff.reset();
                    self.take(new, &roots);
                    EVERY
                }
                Err(why) => {
                    tracing::debug!(%why, "the trusted roots are not read");
                    // Those that are known stay.
                    roots
                        .send_if_modified(|known| known.as_mut().err().map(|before| *before = why).is_some());
                    backoff.step()
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn read(&self) -> Result<Roots, Arc<str>> {
        let values = self.cluster.values(ValuesKind::ConfigMap, &self.name).await;
        let values = values.map_err(|error| Arc::from(error.to_string()))?;
        let values = values.ok_or_else(|| {
            Arc::from(format!("ConfigMap {} is not there; a controller makes it: does one run?", self.name))
        })?;
        let pem = values.data.get(BUNDLE_KEY).map(|pem| String::from_utf8_lossy(pem)).unwrap_or_default();
        Roots::parse(&pem).map_err(|error| format!("ConfigMap {}: {BUNDLE_KEY}: {error}", self.name).into())
    }

    fn take(&self, new: Roots, roots: &watch::Sender<Known>) {
        if roots.borrow().as_ref().is_ok_and(|known| **known == new) {
            return;
        }
        if let Err(error) = new.keep(&self.kept) {
            tracing::warn!(
                %error,
                "the trusted roots cannot be kept: an agent that begins while the API server is away gets no certificates"
            );
        }
        roots.send_modify(|known| *known = Ok(Arc::new(new)));
    }
}

/// How often they are read.
const EVERY: Duration = Duration::from_secs(30);
