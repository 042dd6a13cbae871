//! The mesh's certificate authority, as the API server keeps it.
//!
//! ```text
//! Secret weft-ca ◄── made by whichever replica is first, renewed by whichever finds that it is time
//!   │  read anew when it is older than 5 s: no replica keeps it, and a rotation needs no other word
//!   ├─► what signs workloads' certificates
//!   ├─► what a controller shows to agents
//!   └─► ConfigMap weft-trust-bundle: whom agents trust
//! ```
//!
//! Whatever is written is of the version that was read, so two replicas never both write.

mod brought;
mod bundle;
mod error;
mod keep;
mod own;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use weft_identity::{Clock, ca::SecretIssuer, controller::SECRET};
use weft_kubernetes::Cluster;
use weft_model::{ObjectName, Snapshot};

pub(crate) use self::error::AuthorityError;

/// The authority. Clones share what was read of it.
#[derive(Clone)]
pub(crate) struct Authority {
    cluster: Cluster,
    namespace: Arc<str>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    clock: Clock,
    read: Arc<Mutex<Option<Read>>>,
}

/// What was read, and when.
#[derive(Clone)]
struct Read {
    at: Instant,
    /// The Secret that it is from.
    from: Option<ObjectName>,
    issuer: Arc<SecretIssuer>,
}

impl Authority {
    /// That of the mesh in `namespace`, whose settings are in `snapshots`.
    pub(crate) fn new(
        cluster: Cluster,
        namespace: Arc<str>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        clock: Clock,
    ) -> Self {
        Self { cluster, namespace, snapshots, clock, read: Arc::default() }
    }

    /// What signs, as it is now or was some seconds ago.
    pub(crate) async fn issuer(&self) -> Result<Arc<SecretIssuer>, AuthorityError> {
        let snapshot = self.snapshot()?;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match read {
            Some(read) if read.at.elapsed() < FRESH && read.from == snapshot.brought_authority => {
                Ok(read.issuer)
            }
            _ => self.read_anew(&snapshot).await,
        }
    }

    /// What signs, as it is now.
    async fn read_anew(&self, snapshot: &Snapshot) -> Result<Arc<SecretIssuer>, AuthorityError> {
        let at = Instant::now();
        let issuer = match &snapshot.brought_authority {
            Some(name) => self.brought(name, snapshot).await?,
            None => self.own(snapshot).await?,
        };
        if issuer.trust_domain() != &*snapshot.trust_domain {
            return Err(AuthorityError::TrustDomain {
                authority: issuer.trust_domain().into(),
                mesh: Arc::clone(&snapshot.trust_domain),
                secret: self.secret(snapshot),
            });
        }
        let (issuer, from) = (Arc::new(issuer), snapshot.brought_authority.clone());
        let read = Read { at, from, issuer: Arc::clone(&issuer) };
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        Ok(issuer)
    }

    /// The Secret that the authority is in.
    fn secret(&self, snapshot: &Snapshot) -> ObjectName {
        snapshot.brought_authority.as_ref().map_or_else(|| self.own_secret(), |name| self.in_ours(name))
    }

    /// The Secret of our own authority.
    fn own_secret(&self) -> ObjectName {
        ObjectName::new(Arc::clone(&self.namespace), SECRET)
    }

    fn in_ours(&self, name: &ObjectName) -> ObjectName {
        if name.namespace.is_empty() {
            return ObjectName::new(Arc::clone(&self.namespace), Arc::clone(&name.name));
        }
        name.clone()
    }

    /// The mesh's settings, once they are known: an authority that was made for the wrong trust domain would be of no use.
    fn snapshot(&self) -> Result<Arc<Snapshot>, AuthorityError> {
        let snapshot = Arc::clone(&self.snapshots.borrow());
        if snapshot.version == 0 { Err(AuthorityError::NotListed) } else { Ok(snapshot) }
    }
}

/// How old what was read may be.
const FRESH: Duration = Duration::from_secs(5);
