//! The agent: objects to the data path, the data path to whoever asks.

use std::{
    collections::BTreeSet, convert::Infallible, fs, os::unix::fs::DirBuilderExt, path::Path, sync::Arc,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use weft_datapath::{Enforcer, last_good};
use weft_identity::KeySets;
use weft_keeper::Keeper;
use weft_kubernetes::{Options, Refresh, Source};
use weft_model::Snapshot;
use weft_runtime::{Shutdown, Tasks};
use weft_telemetry::{
    access_log::Lines,
    admin,
    api::{
        Attached, Attachment, AuthzAnswer, AuthzQuery, BpfTable, CertificatesView, ConnectionView,
        ExplainQuery, Explanation, Failure, ProxyUpgraded, Sandboxes, Status, Table,
    },
    flows::FlowLog,
    logging,
    metrics::Metrics,
    observer::Observer,
    views,
};

use crate::{
    cni::{node::Plugin, pods::RuntimePods},
    core_dump,
    explain::{authenticate, explain},
    identities::{self, Issued},
    jwks,
    leaving::Leaving,
    node_proxy::{self, gone},
    passage::{Certified, Showing, Stage, Word},
    probes::Probes,
    programmed,
    removal::{self, Removal},
    settings::{AgentArgs, Issuing, ServiceScope},
    source::{self, Opened, Place, Told},
    stand_by,
};

/// Runs until a signal asks it to end, or a part of it fails.
pub(crate) async fn run(args: AgentArgs) -> Result<()> {
    logging::start(&args.log, args.log_format.into())?;
    let mut shutdown = Shutdown::catch()?;
    let node = args.node()?;
    let issuing = args.issuing().map_err(|why| anyhow!(why))?;
    let (place, tasks, asked) = (Place::of(&args), Tasks::new(), admin::Probes::new());
    if let Some(path) = &args.probe_socket {
        tasks.spawn("probe socket", asked.serve(path, tasks.stop_signal())?);
    }
    identities::check_trust_domain(args.trust_domain.as_deref(), &last_good(&args.state_dir, &node))?;
    // First of all, so that a second agent of this run directory touches nothing.
    let taken = stand_by::tenancy(&args, &node, &place, &asked, &mut shutdown).await?;
    let Some(tenancy) = taken else { return Ok(()) };
    let removal = Removal::of(&args, &node, &tasks).await?;
    let (socket, health) = stand_by::listen(&args).await?;
    make_state_dir(&args.state_dir)?;
    let last_good = last_good(&args.state_dir, &node);
    // Whose certificates there are for, and a proxy that shows them.
    let mutual_tls = issuing != Issuing::None && args.has_proxy();
    // Agents tell each other whose pods can be spoken to by mutual TLS; of a directory, the labels are all that is told.
    let tells = mutual_tls && args.manifests.is_none();
    let options = options(&args, &node, &last_good, mutual_tls);
    let probes = Probes::of(&args, &place);
    let Opened { mut source, snapshots, told } = source::open(&args, &place, probes.found(), options).await?;
    let (observer, lines) = Observer::new();
    let observer = Arc::new(observer);
    let enforcer = Enforcer::open(args.datapath(node.clone(), &place), observer.live().clone())?;
    let (stage, snapshots) = Stage::follow(snapshots, enforcer.sealed(), &tasks);
    let (leaving, snapshots) = Leaving::follow(snapshots, &tasks);
    let keeper = node_proxy::open(&args, &enforcer)?;

    let stop = tasks.stop_signal();
    let keys = jwks::start(args.jwks(&node), snapshots.clone(), &tasks);
    source.follow_jwks(keys.held());
    if issuing != Issuing::None {
        core_dump::leave_memory_out();
    }
    let issued = Issued::start(issuing, &args, &node, &snapshots, &tasks).await?;
    let plugin = Plugin::start(&args, &last_good, &tasks)?;
    tasks.spawn("probes", probes.follow(enforcer.clone(), stop.clone()));
    let runtime_pods = RuntimePods {
        announcer: source.announcer(),
        enforcer: enforcer.clone(),
        snapshots: snapshots.clone(),
        stage: stage.clone(),
        proven: tells,
    };
    let word = Word::start(tells, &args.connection(), &args.namespace, &stage, &enforcer, &tasks).await?;
    let (identities, handed) = identities::hand_over(issued.as_ref(), &tasks);
    let (taken_in, hears) = watch::channel(BTreeSet::new());
    let proofs = keeper.as_ref().filter(|_| issued.is_some()).map(Keeper::shows);
    let showing = proofs.map(|shows| Showing { pods: enforcer.pods(), taken_in: hears, handed, shows });
    let shown = showing.map(|showing| showing.start(stage.clone(), &tasks));
    report(issued.as_ref(), &enforcer, &snapshots, &tasks);
    let location = told.location().to_owned();
    let agent = Arc::new(NodeAgent {
        enforcer: enforcer.clone(),
        keeper: keeper.clone(),
        refresh: source.refresh_handle(),
        snapshots: snapshots.clone(),
        observer: Arc::clone(&observer),
        issued: issued.clone(),
        keys,
        scope: args.service_scope,
        node: node.clone(),
        told,
        runtime_pods,
        plugin,
        stage,
        certified: Certified::of(shown),
    });
    let known = match keeper {
        Some(keeper) => {
            node_proxy::start(&keeper, &enforcer, snapshots.clone(), identities, observer, taken_in, &tasks)?
        }
        // Nothing waits for a proxy that there is not to be.
        None => watch::channel(u64::MAX).1,
    };
    enforcer.start(&tasks, snapshots, known);
    follow(source, &tasks);
    write_access_log(lines, &tasks);
    tasks.spawn("api", admin::serve_api(Arc::clone(&agent) as _, socket, stop.clone()));
    tasks.spawn("health", admin::serve_health(Arc::clone(&agent) as _, health, stop));
    asked.ready_when(readiness(agent));
    tracing::info!(node, source = location, run_dir = %args.run_dir.display(), "agent started");

    let signal = asked_to_end(&mut shutdown, &tasks).await?;
    if removal.is_due().await {
        tracing::info!(signal, "agent ends, and takes everything out of the kernel");
        let in_force = async |version| enforcer.until_enforced(version).await;
        leaving.leave(args.withdraw_over, in_force, Word::take_back(word)).await;
        tasks.drain(DRAIN).await;
        return tokio::task::block_in_place(|| removal::take_out(tenancy, &args.run_dir, args.proxy_drain));
    }
    tracing::info!(signal, "agent ends; the kernel goes on enforcing");
    tasks.drain(DRAIN).await;
    Ok(())
}

/// The signal that asks the agent to end; an error where a part of it fails.
async fn asked_to_end(shutdown: &mut Shutdown, tasks: &Tasks) -> Result<&'static str> {
    tokio::select! {
        signal = shutdown.asked() => Ok(signal),
        failed = tasks.failed() => {
            tasks.drain(DRAIN).await;
            bail!("{failed}; the kernel goes on enforcing what it had");
        }
    }
}

/// How the source reads: see [`Options`].
fn options(args: &AgentArgs, node: &str, last_good: &Path, mutual_tls: bool) -> Options {
    let system = (mutual_tls && args.manifests.is_none()).then(|| args.namespace.as_str().into());
    Options {
        node: node.into(),
        last_good: Some(last_good.to_owned()),
        mutual_tls,
        system,
        trust_domain: args.trust_domain.clone(),
    }
}

fn follow(source: Box<dyn Source>, tasks: &Tasks) {
    let stopped = tasks.stop_signal().cancelled_owned();
    tasks.spawn("source", async {
        source.run(Box::pin(stopped)).await;
        Ok::<_, Infallible>(())
    });
}

/// Ends by itself with the agent; a standard output that takes no more lines is no reason to end it.
fn write_access_log(lines: Lines, tasks: &Tasks) {
    tasks.spawn("access-log", async {
        if let Err(error) = lines.write(tokio::io::stdout()).await {
            tracing::warn!(%error, "the access log ends: standard output takes no more lines");
        }
        Ok::<_, Infallible>(())
    });
}

fn make_state_dir(path: &Path) -> Result<()> {
    let mut state_dir = fs::DirBuilder::new();
    let made = state_dir.recursive(true).mode(0o700).create(path);
    made.map_err(|error| anyhow!("cannot make --state-dir {}: {error}", path.display()))
}

/// Tells the mesh's controllers, where they issue the node's certificates, what is in force here.
fn report(
    issued: Option<&Issued>,
    enforcer: &Enforcer,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    tasks: &Tasks,
) {
    if let Some(controllers) = issued.and_then(Issued::controllers) {
        let (enforcer, snapshots) = (enforcer.clone(), snapshots.clone());
        let told = programmed::tell(controllers.clone(), enforcer, snapshots, tasks.stop_signal());
        tasks.spawn("reports", told);
    }
}

/// As long as the agent runs, it is ready when it says so: what it holds ends with its tasks.
fn readiness(agent: Arc<NodeAgent>) -> admin::Readiness {
    let running = Arc::downgrade(&agent);
    drop(agent);
    Arc::new(move || match running.upgrade() {
        Some(agent) => admin::Agent::ready(&*agent),
        None => Err(Failure::new("the agent ends", "")),
    })
}

/// What the admin API asks of this process.
struct NodeAgent {
    enforcer: Enforcer,
    keeper: Option<Keeper>,
    refresh: Refresh,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    observer: Arc<Observer>,
    issued: Option<Issued>,
    keys: KeySets,
    scope: ServiceScope,
    node: String,
    told: Told,
    runtime_pods: RuntimePods,
    plugin: Option<Plugin>,
    stage: Stage,
    certified: Certified,
}

impl admin::Agent for NodeAgent {
    fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let proxy = self.keeper.as_ref().map(|keeper| node_proxy::status(keeper, &self.enforcer));
        let mut status = self.enforcer.status(&snapshot);
        status.degradations.extend(gone::degradations(&snapshot, proxy.as_ref()));
        status.degradations.extend(self.told.degradations(&self.node));
        status.degradations.extend(self.plugin.iter().flat_map(Plugin::degradations));
        status.degradations.extend(self.stage.degradations());
        let mut peers = self.keeper.as_ref().map(Keeper::peers).unwrap_or_default();
        for pod in &mut status.pods {
            pod.peers = peers.remove(&pod.name).unwrap_or_default();
        }
        let (certificates, jwks) = (self.certificates(), jwks::view(&self.keys));
        Status { source: Some(self.told.view()), proxy, certificates, jwks, ..status }
    }

    fn ready(&self) -> Result<(), Failure> {
        self.enforcer.enforced()?;
        let shown = self.keeper.as_ref().and_then(node_proxy::certificates);
        self.certified.check(&self.snapshot(), shown)
    }

    fn sync(&self) -> BoxFuture<'_, Result<u64, Failure>> {
        Box::pin(async { Ok(self.stage.given(self.refresh.refresh().await).await) })
    }

    fn upgrade_proxy(&self) -> BoxFuture<'_, Result<ProxyUpgraded, Failure>> {
        Box::pin(async {
            match &self.keeper {
                Some(keeper) => keeper.upgrade().await,
                None => Err(Failure::new("the agent runs without a proxy", "start it with --proxy auto")),
            }
        })
    }

    fn attach(&self, attachment: Attachment) -> BoxFuture<'_, Result<Attached, Failure>> {
        Box::pin(async move { self.runtime_pods.attach(&attachment).await })
    }

    fn attached(&self, attachment: Attachment) -> BoxFuture<'_, Result<Attached, Failure>> {
        Box::pin(async move { self.runtime_pods.attached(&attachment) })
    }

    fn detach(&self, Sandboxes { sandboxes }: Sandboxes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.runtime_pods.detach(sandboxes))
    }

    fn keep_attached(&self, Sandboxes { sandboxes }: Sandboxes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.runtime_pods.keep(sandboxes))
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    fn connections(&self) -> Result<Vec<ConnectionView>, Failure> {
        self.enforcer.connections()
    }

    fn certificates(&self) -> Option<CertificatesView> {
        self.issued.as_ref().map(Issued::view)
    }

    fn bpf(&self, table: BpfTable) -> Result<Table, Failure> {
        Ok(self.enforcer.bpf(table))
    }

    fn explain(&self, query: &ExplainQuery) -> Result<Explanation, Failure> {
        explain(&self.snapshot(), query, self.scope)
    }

    fn authz(&self, query: &AuthzQuery) -> Result<AuthzAnswer, Failure> {
        views::authz(&self.snapshot(), query, &authenticate)
    }

    fn flows(&self) -> &FlowLog {
        self.enforcer.flows()
    }

    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn metrics(&self) -> &Metrics {
        self.enforcer.metrics()
    }
}

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);
