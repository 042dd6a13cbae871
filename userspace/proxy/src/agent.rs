//! The proxy's side of the agent: takes what the agent lends, hands it back to the next agent, renews the lease, tells
//! what ended.
//!
//! The agent may go and come back: the proxy goes on as before and connects again. See
//! [`weft_transport::handover`] for what is said, in which order.

mod layouts;
mod paths;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval};
use weft_identity::{Held, SvidError, WireError};
use weft_model::Snapshot;
use weft_runtime::Backoff;
use weft_transport::{
    Attested, Netns, Origin, Origins,
    handover::{
        self, FromAgent, Hello, MOST_UNHEARD, Nack, NackReason, Pod, ProxyEnd, Report, Role, Unheard,
    },
    memfd::{self, Sealed},
};
use zeroize::Zeroizing;

use crate::{Error, Handle, Lease, PodSockets, observe::Reader, proxy::Draining, tell::Teller};
use layouts::Layouts;
use paths::Paths;

/// What is behind the agent's maps, as the binary opens them.
pub type Maps = (Arc<dyn Origins>, Arc<dyn Lease>);

/// Origins and lease of a proxy that no agent has lent any: nobody was dialled, nothing is renewed.
#[derive(Debug)]
pub struct Unlent;

/// Why a message of the agent's cannot be taken.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error("cannot open the maps that were sent: {0}")]
    Maps(#[source] io::Error),
    #[error("the bytes that were sent cannot be read: {0}")]
    Memory(#[from] memfd::Error),
    #[error("the snapshot cannot be understood: {0}; agent and proxy are of different versions")]
    Snapshot(#[from] serde_json::Error),
    #[error("the certificates cannot be understood: {0}")]
    Identities(#[from] WireError),
    #[error("a certificate cannot be used, the one before stays in force: {0}")]
    Svid(#[from] SvidError),
    #[error("cannot duplicate the pod's descriptors: {0}; are there any left?")]
    Descriptors(#[source] io::Error),
    #[error(transparent)]
    Proxy(#[from] Error),
    #[error(transparent)]
    Transport(#[from] weft_transport::Error),
}

/// Serves the agent that listens at `path`, and the one after it, until a drain that was asked for is over. What comes
/// out of `reader` is told to whichever agent there is.
///
/// `open` makes of the two descriptors that the agent sends (of the map of origins, of the lease's) what the proxy uses:
/// it must not know eBPF itself. When `stop` is ready, the proxy drains within the time that it says, whoever the agent
/// is.
pub async fn serve_agent(
    handle: &Handle,
    reader: Reader,
    path: &Path,
    hello: Hello,
    open: impl Fn(OwnedFd, OwnedFd) -> io::Result<Maps>,
    stop: impl Future<Output = Duration>,
) {
    let mut lent = Lent {
        handle,
        open,
        held: BTreeMap::new(),
        paths: Paths::default(),
        waiting: Vec::new(),
        layouts: Layouts::default(),
        has_maps: false,
        has_snapshot: false,
        draining: FuturesUnordered::new(),
        stop: Box::pin(stop),
        teller: Teller::of(hello.generation, reader),
    };
    tokio::select! {
        () = lent.serve(path, hello) => {}
        () = renew(handle) => {}
    }
}

/// Renews the lease each second, also while there is no agent.
async fn renew(handle: &Handle) {
    let mut seconds = interval(RENEWAL);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        renew_now(handle);
    }
}

fn renew_now(handle: &Handle) {
    if let Err(error) = handle.renew_lease() {
        tracing::error!(%error, "cannot renew the lease; in five seconds nobody is sent here any more");
    }
}

/// What the agent has lent.
struct Lent<'a, F> {
    handle: &'a Handle,
    open: F,
    /// By the cookie of its namespace.
    held: BTreeMap<u64, Pod>,
    paths: Paths,
    /// Pods that came before maps and a snapshot, and the messages to be acknowledged for them.
    waiting: Vec<(u64, u64)>,
    layouts: Layouts,
    has_maps: bool,
    has_snapshot: bool,
    draining: FuturesUnordered<Draining>,
    /// Ready once the proxy is to end without being told by an agent.
    stop: Pin<Box<dyn Future<Output = Duration> + 'a>>,
    teller: Teller,
}

impl<F: Fn(OwnedFd, OwnedFd) -> io::Result<Maps>> Lent<'_, F> {
    /// Until it has drained.
    async fn serve(&mut self, path: &Path, mut hello: Hello) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            hello.draining = !self.draining.is_empty();
            let Some(connected) = self.alone(ProxyEnd::connect(path, &hello)).await else { return };
            match connected {
                // It was told to stop meanwhile, and says so.
                Ok(_) if hello.draining == self.draining.is_empty() => continue,
                Ok(agent) => {
                    backoff.reset();
                    match self.talk(&agent).await {
                        Ok(Talked::Drained) => return,
                        Ok(Talked::Left) => {
                            self.teller.left();
                            continue;
                        }
                        Ok(Talked::AgentGone) => tracing::info!("the agent is gone; going on as before"),
                        Err(error) => tracing::warn!(%error, "the agent is left and called again"),
                    }
                }
                Err(error) => tracing::debug!(%error, "no agent yet"),
            }
            self.teller.left();
            // Acknowledgements are owed to nobody any more; the next agent sends what it wants.
            self.waiting.iter_mut().for_each(|(of, _)| *of = NOBODY);
            if self.alone(backoff.wait()).await.is_none() {
                return;
            }
        }
    }

    /// Waits for `work` while there is no agent, and looks after the namespaces meanwhile. `None` once it has drained.
    async fn alone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                Some(()) = self.draining.next() => return None,
                within = &mut self.stop => self.stop(within).await.ok()?,
                _ = look.tick() => self.let_go_of_what_is_gone().await,
            }
        }
    }

    async fn let_go_of_what_is_gone(&mut self) {
        for cookie in self.paths.gone(&self.held) {
            if let Some(pod) = self.held.get(&cookie) {
                tracing::info!(pod = %pod.name, "the namespace of a pod is gone, and no agent is there");
            }
            if let Err(error) = self.pod_gone(cookie).await {
                tracing::error!(cookie, %error, "a pod whose namespace is gone is still held");
            }
        }
    }

    async fn talk(&mut self, agent: &ProxyEnd) -> Result<Talked, handover::Error> {
        agent.hand_back(self.held.values()).await?;
        self.layouts.meet();
        self.teller.met(self.handle);
        let mut reports = interval(REPORTS);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = agent.receive() => match message? {
                    None => return Ok(Talked::AgentGone),
                    Some((of, message)) => self.take(agent, of, message).await?,
                },
                told = self.teller.step(self.handle, agent) => told?,
                _ = reports.tick() => agent.report(self.report()).await?,
                within = &mut self.stop => {
                    if self.stop(within).await.is_err() {
                        return Ok(Talked::Drained);
                    }
                    self.teller.finish(self.handle, agent).await;
                    return Ok(Talked::Left);
                }
                Some(()) = self.draining.next() => {
                    agent.report(self.report()).await?;
                    self.teller.finish(self.handle, agent).await;
                    return Ok(Talked::Drained);
                }
            }
        }
    }

    async fn take(&mut self, agent: &ProxyEnd, of: u64, message: FromAgent) -> Result<(), handover::Error> {
        let taken = match message {
            FromAgent::Pod(pod) => match self.pod(of, pod).await {
                // It is acknowledged when its connections are accepted.
                Ok(InForce::Later) => return Ok(()),
                taken => taken.map(drop),
            },
            FromAgent::PodGone { cookie } => self.pod_gone(cookie).await,
            FromAgent::Snapshot { bytes, .. } => self.snapshot(&bytes),
            FromAgent::Maps { origins, lease } => self.maps(origins, lease),
            FromAgent::OlderMaps { pairs } => self.older_maps(pairs),
            FromAgent::Identities { bytes, .. } => self.identities(&bytes),
            FromAgent::Drain { within } => self.drain(within).await,
            FromAgent::Ack { of } => {
                self.teller.taken(of);
                return Ok(());
            }
            FromAgent::Nack(nack) => {
                self.teller.refused(&nack);
                tracing::warn!(error = nack.error, "the agent cannot take a message of this proxy");
                return Ok(());
            }
            FromAgent::Unfit(nack) => return agent.nack(nack).await,
        };
        match taken {
            Ok(()) => agent.ack(of).await?,
            Err(error) => {
                let error = error.to_string();
                agent.nack(Nack { of, reason: NackReason::Failed, error }).await?;
            }
        }
        self.paths.look_for(&self.held);
        self.accept_waiting(agent).await
    }

    /// Accepts the connections of those pods that came too early.
    async fn accept_waiting(&mut self, agent: &ProxyEnd) -> Result<(), handover::Error> {
        if !(self.has_maps && self.has_snapshot) {
            return Ok(());
        }
        for (of, cookie) in std::mem::take(&mut self.waiting) {
            let Some(pod) = self.held.get(&cookie) else { continue };
            let added = add(self.handle, pod).await;
            match added {
                _ if of == NOBODY => {}
                Ok(()) => agent.ack(of).await?,
                Err(error) => {
                    let error = error.to_string();
                    agent.nack(Nack { of, reason: NackReason::Failed, error }).await?;
                }
            }
        }
        Ok(())
    }

    async fn pod(&mut self, of: u64, pod: Pod) -> Result<InForce, Untaken> {
        let cookie = pod.cookie;
        self.waiting.retain(|(_, waiting)| *waiting != cookie);
        if self.has_maps && self.has_snapshot {
            add(self.handle, &pod).await?;
            self.held.insert(cookie, pod);
            return Ok(InForce::Now);
        }
        self.held.insert(cookie, pod);
        self.waiting.push((of, cookie));
        Ok(InForce::Later)
    }

    async fn pod_gone(&mut self, cookie: u64) -> Result<(), Untaken> {
        self.held.remove(&cookie);
        self.waiting.retain(|(_, waiting)| *waiting != cookie);
        Ok(self.handle.remove_pod(cookie).await?)
    }

    fn snapshot(&mut self, bytes: &Sealed) -> Result<(), Untaken> {
        let snapshot: Snapshot = serde_json::from_slice(&bytes.read()?)?;
        match self.handle.apply(&snapshot) {
            // Everything else of it is in force, which is more than nothing.
            Err(error @ Error::Routes { .. }) => tracing::error!(%error, version = snapshot.version),
            applied => applied?,
        }
        self.has_snapshot = true;
        self.paths.learn(&snapshot);
        Ok(())
    }

    fn maps(&mut self, origins: OwnedFd, lease: OwnedFd) -> Result<(), Untaken> {
        self.layouts.own((self.open)(origins, lease).map_err(Untaken::Maps)?);
        self.use_maps();
        self.has_maps = true;
        Ok(())
    }

    fn older_maps(&mut self, pairs: Vec<[OwnedFd; 2]>) -> Result<(), Untaken> {
        let open = |[origins, lease]: [OwnedFd; 2]| (self.open)(origins, lease).map_err(Untaken::Maps);
        let older = pairs.into_iter().map(open).collect::<Result<_, _>>()?;
        self.layouts.older(older);
        self.use_maps();
        Ok(())
    }

    fn use_maps(&self) {
        if let Some((origins, lease)) = self.layouts.together() {
            self.handle.use_maps(origins, lease);
            // A second without it would be a second of refused connections.
            renew_now(self.handle);
        }
    }

    /// Finishes without having been told by the agent. It connects again as one that drains, so that the agent starts
    /// another one at once.
    async fn stop(&mut self, within: Duration) -> Result<(), Untaken> {
        self.stop = Box::pin(std::future::pending());
        self.drain(within)
            .await
            .inspect_err(|error| tracing::error!(%error, "the proxy ends without a drain"))
    }

    fn identities(&self, bytes: &Sealed) -> Result<(), Untaken> {
        let mut keys = Zeroizing::new(vec![0; bytes.len()]);
        bytes.read_into(&mut keys)?;
        Ok(self.handle.use_identities(Held::from_wire(&keys)?)?)
    }

    async fn drain(&mut self, within: Duration) -> Result<(), Untaken> {
        let draining = self.handle.begin_drain(within).await?;
        self.draining.push(draining);
        Ok(())
    }

    fn report(&self) -> Report {
        let (status, unheard) = (self.handle.report(), self.handle.unheard().into_iter().take(MOST_UNHEARD));
        Report {
            connections: status.pods.iter().map(|(_, usage)| u64::from(usage.connections)).sum(),
            pods: status.pods.len() as u64,
            snapshot: status.snapshot,
            draining: status.draining,
            certificates: status.certificates as u64,
            unheard: unheard.map(|(cookie, port)| Unheard { cookie, port }).collect(),
        }
    }
}

/// How a conversation ended.
enum Talked {
    AgentGone,
    /// The proxy has something else to say of itself.
    Left,
    Drained,
}

/// When a pod's connections are accepted.
enum InForce {
    Now,
    Later,
}

/// The agent's descriptors stay with [`Lent::held`]: they are handed back.
async fn add(handle: &Handle, pod: &Pod) -> Result<(), Untaken> {
    let netns = pod.netns.as_fd().try_clone_to_owned().map_err(Untaken::Descriptors)?;
    let of = |role: &Role| {
        let listeners = pod.listeners.iter().filter(|listening| listening.role == *role);
        listeners.map(|listening| listening.socket.try_clone()).collect::<io::Result<_>>()
    };
    let sockets = PodSockets {
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        cookie: pod.cookie,
        netns: Netns::from_fd(netns)?,
        listeners: of(&Role::Outbound).map_err(Untaken::Descriptors)?,
        inbound: of(&Role::Inbound).map_err(Untaken::Descriptors)?,
        transparent: pod.transparent,
    };
    Ok(handle.add_pod(sockets).await?)
}

impl Origins for Unlent {
    fn take(&self, _: u64, _: std::net::SocketAddr) -> Result<Option<Origin>, weft_transport::Error> {
        Ok(None)
    }

    fn attested(
        &self,
        _: u64,
        _: std::net::SocketAddr,
        _: u16,
    ) -> Result<Option<Attested>, weft_transport::Error> {
        Ok(None)
    }
}

impl Lease for Unlent {
    fn renew(&self) -> Result<(), weft_transport::Error> {
        Ok(())
    }
}

/// No message has this id: they are counted from 1.
const NOBODY: u64 = 0;
const RENEWAL: Duration = Duration::from_secs(1);
const REPORTS: Duration = Duration::from_secs(5);
/// Between two looks at the namespaces while there is no agent: a proxy lets go of one within a second.
const LOOK: Duration = Duration::from_millis(200);
