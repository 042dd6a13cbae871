//! An API server as a source of snapshots.
//!
//! ```text
//! API server ─► server, follow   one watch for each kind, lists as a stream   /proc, cgroups
//!      │            watches                                                        │
//!      ├─ definitions, lookups   which kinds there are, in which version      node::Sandboxes
//!      ▼                                                                           ▼
//! trim ─────────────────────► store: catalog, lists, pods of this node ◄── where namespaces are
//!                                ├─► snapshots
//!                                └─► kept: the last one, for an agent that begins without a server
//! ```
//!
//! Objects are parsed as plain JSON: in a typed watch one unknown word in one object stops all of its kind.

mod asked;
mod connect;
mod definitions;
mod follow;
mod health;
mod installation;
mod kept;
mod lend;
mod lookups;
mod membership;
mod neighbours;
mod resource;
mod running;
mod server;
mod store;
mod trim;
mod trouble;
mod watches;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch as latest};
use weft_model::{JwksHeld, Snapshot};

pub(crate) use self::{asked::answered, resource::path_of, trouble::Trouble};
pub use self::{
    asked::{
        AgentPod, AskError, Cluster, PodFacts, Process, Replica, Replicas, Said, TokenAnswer, TokenUser,
        Values, ValuesKind,
    },
    connect::Connection,
    health::{Failing, Health},
    installation::{Fate, Installation},
    kept::kept_trust_domain,
    lend::lend,
    membership::{Unknown, ask_membership, kept_membership, members_file},
    neighbours::{Neighbour, cluster_neighbours},
};
use self::{
    kept::Kept, lookups::Lookups, resource::CORE, resource::Resource, running::Running, store::Store,
    watches::Watches,
};
use crate::{
    Announcer, Error,
    announce::Call,
    node::Sandboxes,
    object::Kind,
    source::{Asked, Options, Refresh, Source},
    status::Judgement,
};

/// The objects of a cluster.
#[derive(Debug)]
pub struct ClusterSource {
    store: Store,
    watches: Watches,
    lookups: Lookups,
    sandboxes: Sandboxes,
    server: String,
    options: Options,
    publish: latest::Sender<Arc<Snapshot>>,
    health: latest::Sender<Arc<Health>>,
    requests: mpsc::Receiver<Asked>,
    refresh: Refresh,
    calls: mpsc::Receiver<Call>,
    announcer: Announcer,
    jwks: latest::Receiver<Arc<JwksHeld>>,
    judgement: Option<latest::Sender<Arc<Judgement>>>,
}

impl ClusterSource {
    /// Looks at what an earlier agent has kept, and asks the API server nothing yet: the receiver holds what was in force
    /// last, or a snapshot of version 0, which stands for nothing, until all is listed.
    ///
    /// Pods of this node have their control groups below `groups`.
    pub async fn open(
        connection: &Connection,
        groups: PathBuf,
        options: Options,
    ) -> Result<(Self, latest::Receiver<Arc<Snapshot>>), Error> {
        let (client, server) = connection.client().await?;
        let Options { node, last_good, mutual_tls, system, trust_domain } = &options;
        let kept = last_good.as_deref().and_then(|folder| Kept::read(folder, node, *mutual_tls));
        let store = Store::new(Arc::clone(node), *mutual_tls, kept).with_word_of(system.clone());
        let mut store = store.installed_for(trust_domain.clone());
        let mut sandboxes = Sandboxes::new(groups, Path::new("/proc").to_owned());
        if let Some(folder) = last_good {
            sandboxes.recall(folder.join("announced.json"));
        }
        let networks = sandboxes.scan(&store.sandboxes());
        store.place(networks);
        let mut watches = Watches::new(client.clone());
        watches.start(None, Resource::definitions());
        for kind in CORE {
            watches.start(Some(kind), Resource::core(kind));
        }
        let (publish, latest) = latest::channel(store.snapshot().unwrap_or_default());
        let (refresh, requests) = Refresh::channel(&latest);
        let (announcer, calls) = Announcer::channel();
        let source = Self {
            store,
            watches,
            lookups: Lookups::new(client),
            sandboxes,
            health: latest::channel(Arc::new(Health { server: server.clone(), ..Health::default() })).0,
            server,
            options,
            publish,
            requests,
            refresh,
            calls,
            announcer,
            // Nobody sends any, unless `follow_jwks` says who.
            jwks: latest::channel(Arc::default()).1,
            judgement: None,
        };
        Ok((source, latest))
    }

    /// From now on it is judged, too, what is to be said of objects in their status; of XMesh, too, which no node needs.
    pub fn judge(&mut self) -> latest::Receiver<Arc<Judgement>> {
        self.store.judge();
        self.lookups.want(Kind::XMesh);
        let (told, latest) = latest::channel(Arc::default());
        self.judgement = Some(told);
        latest
    }

    /// From now on there are snapshots without the kinds that the API server refuses to tell of, unless these say who is in
    /// the mesh, and no judgement until it tells of them. For who enforces nothing: a policy that nobody has told of is none.
    pub fn do_without(&mut self) {
        self.store.do_without();
    }

    /// How it is doing, from now on.
    pub fn health(&self) -> latest::Receiver<Arc<Health>> {
        self.health.subscribe()
    }
}

impl Source for ClusterSource {
    fn refresh_handle(&self) -> Refresh {
        self.refresh.clone()
    }

    fn announcer(&self) -> Option<Announcer> {
        Some(self.announcer.clone())
    }

    fn follow_jwks(&mut self, jwks: latest::Receiver<Arc<JwksHeld>>) {
        self.jwks = jwks;
        self.jwks.mark_changed();
    }

    fn run(self: Box<Self>, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        Box::pin(Running::of(*self).follow(shutdown))
    }
}
