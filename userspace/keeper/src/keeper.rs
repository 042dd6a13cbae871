//! The handle by which the agent starts the keeper and asks it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use weft_runtime::Tasks;
use weft_telemetry::api::{Failure, Peers, ProxyStatus, ProxyUpgraded};
use weft_transport::handover::SOCKET;
use weft_transport::seqpacket::Listener;

use crate::group::Group;
use crate::living::living;
use crate::run::Run;
use crate::upgrade::Request;
use crate::{Error, Inputs, Settings};

/// The keeper of one agent. Clones share it.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

/// What handle and task have in common.
pub(crate) struct Shared {
    pub settings: Settings,
    pub group: Group,
    pub status: Mutex<ProxyStatus>,
    pub peers: Mutex<Peers>,
    pub decides_by: watch::Sender<Option<u64>>,
    pub shows: watch::Sender<Option<u64>>,
    adopts: bool,
    requests: mpsc::Sender<Request>,
    /// Taken by [`Keeper::start`].
    ends: Mutex<Option<(Listener, mpsc::Receiver<Request>)>>,
}

impl Keeper {
    /// Makes the proxy's cgroup and the socket where proxies connect, on a tokio runtime. Living ones connect
    /// from then on and wait for [`Keeper::start`].
    ///
    /// The caller is the only agent of its run directory.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let group = Group::make(&settings.cgroup, &settings.run_dir)?;
        let adopts = !living(&settings.run_dir, &group, &BTreeSet::new()).is_empty();
        let listener = Listener::bind(settings.run_dir.join(SOCKET))?;
        // One is under way, and one may wait to be told so.
        let (requests, asked) = mpsc::channel(1);
        let ends = Mutex::new(Some((listener, asked)));
        let (status, peers, decides_by, shows) = Default::default();
        let shared = Shared { settings, group, status, peers, decides_by, shows, adopts, requests, ends };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The proxy's cgroup, by which the programs tell its connections from the pods'. To be in force before a
    /// pod's port is.
    pub fn cgroup(&self) -> &Path {
        self.shared.group.path()
    }

    /// Whether an earlier agent has left a proxy: it needs the configuration, whether or not that routes anything.
    pub fn adopts(&self) -> bool {
        self.shared.adopts
    }

    /// Starts to follow `inputs`, on a tokio runtime of several threads. Only the first call does anything.
    /// Proxies live on when the tasks end.
    pub fn start(&self, tasks: &Tasks, inputs: Inputs) {
        let ends = self.shared.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((listener, requests)) = ends {
            let run = Run::new(Arc::clone(&self.shared), tasks.clone(), inputs);
            tasks.spawn("keeper", run.follow(listener, requests, tasks.stop_signal()));
        }
    }

    /// The version of the configuration by which the proxy in force decides; `None` while there is no such proxy,
    /// or it decides by what an earlier agent has told it.
    pub fn decides_by(&self) -> watch::Receiver<Option<u64>> {
        self.shared.decides_by.subscribe()
    }

    /// The version of the identities that the proxy in force shows; `None` while there is no such proxy, or it shows those
    /// of an earlier agent.
    pub fn shows(&self) -> watch::Receiver<Option<u64>> {
        self.shared.shows.subscribe()
    }

    /// How the proxy is.
    pub fn status(&self) -> ProxyStatus {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose addresses the apps of pods see; not of pods whose connections do not come to the proxy.
    pub fn peers(&self) -> Peers {
        self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the next generation, fills it, and lets the one before finish what it carries. Returns when the
    /// new one alone accepts connections. When it cannot, the one before stays in force.
    pub async fn upgrade(&self) -> Result<ProxyUpgraded, Failure> {
        let (reply, answer) = oneshot::channel();
        let asked = self.shared.requests.send(Request { reply }).await.is_ok();
        let ended = || Failure::new("the agent ends", "ask the next one");
        if asked { answer.await.unwrap_or_else(|_| Err(ended())) } else { Err(ended()) }
    }
}
