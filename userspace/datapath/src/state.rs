//! The kernel's side of one agent, and how a Snapshot becomes true in it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    sync::Arc,
    thread,
};

use aya::maps::Map;
use tokio::time::Instant;
use weft_abi::{Config, FlowKey, SCHEMA, config_flags, limits, names::stat, pod_flags};
use weft_model::{ObjectName, PolicyTarget, Snapshot, Workload};
use weft_policy::Policies as PolicyIndex;

pub(crate) use self::overruled::Overruled;
use self::succession::Succession;
use crate::{
    accelerate::{self, Trial, Unfit},
    apply::{HANDSHAKE, Place, Pods, Policies, Services, Wanted},
    attach, host,
    load::{self, Loaded},
    maps::{self, Maps},
    netns::Namespaces,
    pins::Pins,
    rows::policy::{PolicyRows, compile},
    settings::{Acceleration, Settings},
    sweep::{self, Hints, Protections},
};

mod overruled;
mod proxy;
mod succession;
mod udp;

/// Why the data path could not be brought to a Snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The programs could not be loaded.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// A map could not be read or written.
    #[error(transparent)]
    Maps(#[from] maps::Error),
    /// A program could not be attached.
    #[error(transparent)]
    Attach(#[from] attach::Error),
    /// The proxy's cgroup is not there.
    #[error("the proxy's cgroup {path} cannot be read: {source}")]
    ProxyCgroup {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The probe cgroup is not there.
    #[error("--probe-cgroup {path} cannot be read: {source}; create it before the agent starts")]
    ProbeCgroup {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Everything that one agent has in the kernel.
pub(crate) struct State {
    /// Programs and pins.
    pub loaded: Loaded,
    /// The maps.
    pub maps: Maps,
    /// Frontends and what is behind them.
    pub services: Services,
    /// Policy rows.
    pub policies: Policies,
    /// Pod rows.
    pub pods: Pods,
    /// Network namespaces.
    pub namespaces: Namespaces,
    /// Policies by enrolled pod of this node.
    pub protections: Protections,
    /// Programs that could not be attached to the cgroup, and pods that could not be enrolled.
    pub unattached: Vec<attach::Error>,
    /// Pods that could not be enrolled, and why.
    pub refused_pods: BTreeMap<ObjectName, String>,
    /// Foreign `sk_lookup` programs by pod.
    pub foreign: BTreeMap<ObjectName, Vec<String>>,
    /// Whether other programs take back what the connect hook refuses.
    pub overruled: Overruled,
    /// Whether connections within this node are accelerated; `None` while neither a Service nor the node's
    /// proxy has any use for it, and while that is found out.
    pub acceleration: Option<Result<(), Unfit>>,
    /// Where programs are attached.
    pub cgroup: PathBuf,
    /// Layouts of maps that are older than this agent's.
    pub succession: Succession,
    trial: Trial,
    config: Config,
    wanted: Acceleration,
    kernel: Option<accelerate::Version>,
    places: BTreeMap<ObjectName, Place>,
    snapshot: Option<Arc<Snapshot>>,
    /// Network namespaces came or went since the last Snapshot that was applied.
    moved: bool,
    /// Whose connections are looked at a second time, and when: by what holds then.
    again: Vec<(Instant, Vec<ObjectName>)>,
}

impl State {
    /// Loads the programs and reads what an earlier agent left. Nothing is attached or changed yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        host::raise_descriptor_limit();
        let cgroup = host::cgroup(settings.cgroup.as_deref())?;
        host::bpffs()?;
        let mut loaded = load::for_agent(settings)?;
        let mut maps = Maps::take(&mut loaded.ebpf)?;
        let mut config = config(settings)?;
        if settings.acceleration != Acceleration::Off {
            // An earlier agent's connections stay accelerated until this one knows what is asked for.
            config.flags |= maps.flags() & accelerate::FLAGS;
        }
        // So do the rows of its pods say what they said.
        config.flags |= maps.flags() & config_flags::READS;
        // A proxy that an earlier agent has started goes on, and its connections stay its own.
        config.proxy_cgroup = maps.proxy_cgroup();
        maps.configure(&config)?;
        let services = Services::adopt(&mut maps, settings.proxy)?;
        let (policies, pods) = (Policies::adopt(&maps), Pods::adopt(&maps));
        Ok(Self {
            succession: Succession::of(&loaded),
            loaded,
            maps,
            services,
            policies,
            pods,
            cgroup,
            namespaces: Namespaces::default(),
            protections: Protections::default(),
            unattached: Vec::new(),
            refused_pods: BTreeMap::new(),
            foreign: BTreeMap::new(),
            overruled: Overruled::default(),
            acceleration: None,
            trial: Trial::default(),
            config,
            wanted: settings.acceleration,
            kernel: settings.kernel,
            places: BTreeMap::new(),
            snapshot: None,
            moved: false,
            again: Vec::new(),
        })
    }

    /// Makes `snapshot` true. An update that does not fit is refused before anything is written. What is the
    /// proxy's from now on waits until that `knows` it.
    pub(crate) fn apply(&mut self, snapshot: &Arc<Snapshot>, knows: bool) -> Result<(), Error> {
        self.moved |= self.namespaces.follow(local(snapshot));
        let judge = self.moved
            || !self.refused_pods.is_empty()
            || self.snapshot.as_ref().is_none_or(|old| policies_may_differ(old, snapshot));
        let mut judged = judge.then(|| self.judge(snapshot));
        let change = self.services.plan(&self.maps, &snapshot.services, &snapshot.locality, knows)?;
        if let Some(judged) = &mut judged {
            self.policies.fits(&self.maps, &judged.rows)?;
            let people = snapshot.workloads.values().map(|workload| &**workload);
            judged.rows_by_ip =
                self.pods.plan(&self.maps, people, &judged.places, &self.namespaces, &snapshot.mtls)?;
        }
        let first = self.snapshot.is_none();
        let before = self.backends_of_udp(change.is_empty());
        if first {
            // Before any pod is protected: whoever dials it is attested from here on.
            self.unattached = attach::to_cgroup(&self.loaded, &self.cgroup)?;
        }
        let tightened = match judged {
            Some(judged) => self.enrol(snapshot, judged)?,
            None => Protections::default(),
        };
        self.services.write(&mut self.maps, change, &snapshot.locality)?;
        self.accelerate(snapshot)?;
        self.snapshot = Some(Arc::clone(snapshot));
        self.moved = false;
        self.drop_retired();
        // What an earlier agent's clients are connected to may have gone while nobody looked.
        if first || self.has_lost_one_of(before) {
            self.cut_stale_udp();
        }
        self.cut_forbidden(&tightened);
        Ok(())
    }

    /// Whether a network namespace came or went since the last Snapshot.
    pub(crate) fn namespaces_moved(&self) -> bool {
        self.namespaces.moved()
    }

    /// Does what is due: removes what was replaced, looks a second time for forbidden connections. Whether
    /// there is more room now.
    pub(crate) fn upkeep(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let ready = self.snapshot.is_some();
        let due: Vec<_> = self.again.extract_if(.., |(at, _)| ready && *at <= now).collect();
        for (_, pods) in due {
            let now = pods.into_iter().filter_map(|pod| self.protections.get_key_value(&pod));
            let judged = now.map(|(pod, protection)| (pod.clone(), Arc::clone(protection))).collect();
            self.cut_forbidden(&judged);
        }
        self.let_go(now);
        let services = self.services.sweep(&mut self.maps, now)?;
        Ok(self.policies.sweep(&mut self.maps, now)? || services)
    }

    /// Tries again what could not be attached. True when pods are waiting for it.
    pub(crate) fn attach_again(&mut self) -> Result<bool, Error> {
        self.moved |= self.namespaces.look_at_addresses();
        if self.snapshot.is_some() && !self.unattached.is_empty() {
            self.unattached = attach::to_cgroup(&self.loaded, &self.cgroup)?;
            self.drop_retired();
        }
        Ok(self.moved || !self.refused_pods.is_empty())
    }

    /// Looks for foreign `sk_lookup` programs, and puts the backstop behind them; and for those that overrule the connect
    /// hook.
    pub(crate) fn look_for_foreigners(&mut self) -> Result<(), Error> {
        self.overruled.look(self.maps.count(stat::OVERRULED), || attach::beside_connect(&self.cgroup));
        let foreign = self.namespaces.iter().filter_map(|(name, held)| {
            let found = attach::foreign_lookups(&held.netns).unwrap_or_else(|error| {
                // Whoever was there may still be.
                tracing::warn!(pod = %name, %error, "foreign sk_lookup programs cannot be looked for");
                self.foreign.get(name).cloned().unwrap_or_default()
            });
            (!found.is_empty()).then(|| (name.clone(), found))
        });
        self.foreign = foreign.collect();
        if self.foreign.is_empty() {
            if let Err(error) = attach::no_backstop(&self.loaded.pins) {
                tracing::warn!(%error, "the backstop could not be detached");
            }
        } else {
            attach::backstop(&self.loaded, &self.cgroup)?;
        }
        Ok(())
    }

    /// What protects each pod of this node, and the rows that say so.
    fn judge(&self, snapshot: &Snapshot) -> Judged {
        let index = PolicyIndex::new(snapshot);
        let mut judged = Judged::default();
        let mut behind = Vec::new();
        for workload in local(snapshot) {
            if let Some(owner) = self.namespaces.owner(&workload.name) {
                behind.push((&workload.name, owner));
                continue;
            }
            let Some(held) = self.namespaces.get(&workload.name) else {
                // It is there and cannot be opened: taking its rows away would take its policies off.
                if let Some(left) =
                    self.namespaces.is_there(&workload.name).then(|| self.pods.left(workload)).flatten()
                {
                    judged.places.insert(workload.name.clone(), left);
                }
                continue;
            };
            let protection = index.protection(workload);
            let rows = compile(&protection);
            let listening = self.pods.listening(held.cookie);
            let place = Place { netns: held.cookie, policy: rows.id, flags: rows.flags, listening };
            judged.places.insert(workload.name.clone(), place);
            judged.protections.insert(workload.name.clone(), Arc::new(protection));
            if rows.id != 0 {
                judged.rows.insert(rows.id, rows);
            }
        }
        // Their addresses may be in the namespace too: no way round the policies of the pod that has it.
        for (name, owner) in behind {
            judged.places.extend(judged.places.get(owner).map(|place| (name.clone(), *place)));
        }
        judged
    }

    /// Writes policies and pods. Returns what protects the pods whose policies are other ones now, or that are Strict
    /// now.
    fn enrol(&mut self, snapshot: &Snapshot, judged: Judged) -> Result<Protections, Error> {
        self.policies.add(&mut self.maps, judged.rows)?;
        let reads = judged.places.values().any(|place| place.flags & pod_flags::BY_REQUEST != 0);
        if reads {
            self.set_flags(config_flags::READS, config_flags::READS)?;
        }
        let used = judged.places.values().map(|place| place.policy).filter(|id| *id != 0).collect();
        let kept: HashSet<u64> = judged.places.values().map(|place| place.netns).collect();
        self.pods.withdraw(&mut self.maps, |netns| kept.contains(&netns))?;
        let mut changed =
            self.pods.changed_policies(snapshot.workloads.values().map(|w| &**w), &judged.places);
        changed.extend(self.pods.stricter(local(snapshot), &judged.rows_by_ip));
        let tightened = judged.protections.iter().filter(|(name, _)| changed.contains(*name));
        let tightened: Protections =
            tightened.map(|(name, protection)| (name.clone(), Arc::clone(protection))).collect();
        // Once the rows are written, nothing else knows that connections are to end: not even a failure of
        // what comes next may lose it.
        if !tightened.is_empty() {
            self.again.push((Instant::now() + AGAIN, tightened.keys().cloned().collect()));
        }
        self.protections = judged.protections;
        self.pods.write_ips(&mut self.maps, judged.rows_by_ip)?;
        self.unlink(&kept);
        if !reads {
            self.set_flags(config_flags::READS, 0)?;
        }
        let retired = self.loaded.retired.iter().flat_map(Pins::linked);
        let before: HashSet<u64> = self.pods.enrolled().chain(retired).collect();
        for workload in local(snapshot) {
            let Some(held) = self.namespaces.get(&workload.name) else { continue };
            self.pods.enrol(&mut self.maps, workload, held.cookie)?;
        }
        self.pods.forget_listeners(&mut self.maps)?;
        for (_, held) in self.namespaces.iter_mut() {
            held.remember_older(socket_states(&self.maps.sockets), before.contains(&held.cookie));
        }
        if !self.loaded.retired.is_empty() {
            // Whoever has dialled before these programs could attest it has arrived by then.
            thread::sleep(HANDSHAKE);
        }
        self.protect(snapshot)?;
        self.policies.retire(&used);
        self.places = judged.places;
        Ok(tightened)
    }

    /// Puts `sk_lookup` into the pods' namespaces: after every pod has its row, or it would refuse those whose
    /// connections are not attested yet.
    fn protect(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.refused_pods.clear();
        for workload in local(snapshot) {
            let Some(held) = self.namespaces.get(&workload.name) else { continue };
            if let Err(error) = attach::to_netns(&self.loaded, &held.netns, held.cookie) {
                tracing::error!(pod = %workload.name, %error, "the pod is not enrolled");
                self.refused_pods.insert(workload.name.clone(), error.to_string());
                let cookie = held.cookie;
                self.pods.withdraw(&mut self.maps, |netns| netns != cookie)?;
                self.pods.is_unseen(&mut self.maps, cookie)?;
            }
        }
        Ok(())
    }

    /// Takes `sk_lookup` out of the namespaces that are no enrolled pod's any more.
    fn unlink(&mut self, kept: &HashSet<u64>) {
        for cookie in self.loaded.pins.linked().into_iter().filter(|cookie| !kept.contains(cookie)) {
            if let Err(error) = attach::from_netns(&self.loaded.pins, cookie) {
                tracing::warn!(cookie, %error, "sk_lookup could not be taken out of a network namespace");
            }
        }
    }

    /// Lets sockets pair while a Service asks for it, or pods' connections come to the node's proxy, where this
    /// kernel can. While none of them goes there, a new connection has nothing to look up.
    fn accelerate(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        let service = accelerate::is_asked_for(snapshot);
        let proxy = self.wanted.is_for_proxy() && self.pods.come_to_proxy();
        let proxied = proxy && (self.services.go_to_proxy() || self.pods.are_dialled_by_proxy());
        let asked = service || proxy;
        if (asked || self.trial.has_ended()) && self.acceleration.is_none() {
            self.acceleration = self.trial.outcome(&mut self.loaded, self.kernel, self.wanted, service);
        }
        let flags = match &self.acceleration {
            Some(Ok(())) if service || proxied => self.wanted.flags(),
            None if service || proxied => self.wanted.flags() & self.config.flags,
            _ => 0,
        };
        self.set_flags(accelerate::FLAGS, flags)
    }

    /// Sets those `of` the switches that are in `on`, and no other of them.
    fn set_flags(&mut self, of: u32, on: u32) -> Result<(), Error> {
        let config = Config { flags: self.config.flags & !of | on, ..self.config };
        if config != self.config {
            self.maps.configure(&config)?;
            self.config = config;
        }
        Ok(())
    }

    /// By which cgroup probes are known: a kubelet that is started anew may have another one.
    pub(crate) fn probes_are(&mut self, id: u64) -> Result<(), Error> {
        let config = Config { probe_cgroup: id, ..self.config };
        if config != self.config {
            self.maps.configure(&config)?;
            self.config = config;
        }
        Ok(())
    }

    /// Whether it is known now if this kernel can accelerate: to be applied.
    pub(crate) fn trial_has_ended(&self) -> bool {
        self.trial.has_ended()
    }

    /// Why connections are not accelerated, where somebody expects it: an old kernel surprises nobody who did not ask.
    pub(crate) fn unaccelerated(&self) -> Option<&Unfit> {
        let unfit = self.acceleration.as_ref()?.as_ref().err()?;
        let asked =
            self.wanted.is_asked_for() || self.snapshot.as_deref().is_some_and(accelerate::is_asked_for);
        (asked || !matches!(unfit, Unfit::OldKernel(_))).then_some(unfit)
    }

    /// Takes off the layouts of earlier agents, once nothing of today's is missing. Until then they do what
    /// they were told last, where nobody else does.
    fn drop_retired(&mut self) {
        let unopened = self.namespaces.waiting().any(|(_, waiting)| waiting.there);
        if !self.unattached.is_empty() || !self.refused_pods.is_empty() || unopened {
            for pins in &self.loaded.retired {
                if let Err(error) = attach::supersede(pins, &self.loaded.pins) {
                    tracing::warn!(version = pins.version, %error, "programs of an earlier layout remain");
                }
            }
            return;
        }
        self.succeed();
    }

    fn cut_forbidden(&mut self, judged: &Protections) {
        let Some(snapshot) = self.snapshot.clone() else { return };
        if judged.is_empty() {
            return;
        }
        let hints = Hints {
            asking: self.maps.udp_connected.entries().into_iter().map(|(socket, _)| socket.cookie).collect(),
            served: self.services.endpoints().collect(),
        };
        let states = socket_states(&self.maps.sockets);
        let attests = |key: &FlowKey| self.maps.attested(key).map(|record| record.identity);
        let ended = sweep::forbidden(&mut self.namespaces, &snapshot, judged, states, &hints, attests);
        if ended > 0 {
            tracing::info!(sockets = ended, "connections ended that policy or mode now forbids");
        }
    }
}

#[derive(Default)]
struct Judged {
    places: BTreeMap<ObjectName, Place>,
    protections: Protections,
    rows: HashMap<u64, PolicyRows>,
    rows_by_ip: Wanted,
}

/// The enrolled pods of this node.
pub(crate) fn local(snapshot: &Snapshot) -> impl Iterator<Item = &Workload> {
    snapshot
        .workloads
        .values()
        .map(|workload| &**workload)
        .filter(|w| w.local && w.enrolled && w.netns.is_some())
}

/// Whether `new` could protect a pod otherwise than `old` did.
fn policies_may_differ(old: &Snapshot, new: &Snapshot) -> bool {
    let by_service = |snapshot: &Snapshot| {
        snapshot.policies.values().any(|policy| matches!(policy.target, PolicyTarget::Services(_)))
    };
    !Arc::ptr_eq(&old.policies, &new.policies)
        || !Arc::ptr_eq(&old.jwt, &new.jwt)
        || !Arc::ptr_eq(&old.mtls, &new.mtls)
        || !Arc::ptr_eq(&old.workloads, &new.workloads)
        || (by_service(new) && !Arc::ptr_eq(&old.services, &new.services))
}

/// The map of socket states, for `sock_diag`.
pub(crate) fn socket_states(map: &Map) -> BorrowedFd<'_> {
    match map {
        Map::SkStorage(data) => data.fd().as_fd(),
        _ => unreachable!("weft_sock is socket storage: the loader compared its type"),
    }
}

fn config(settings: &Settings) -> Result<Config, Error> {
    let probe = settings.probe_cgroup.as_ref().map(|path| {
        host::cgroup_id(path).map_err(|source| Error::ProbeCgroup { path: path.clone(), source })
    });
    Ok(Config {
        schema: SCHEMA,
        flags: if settings.balance_everyone { config_flags::SCOPE_NODE } else { 0 },
        probe_cgroup: probe.transpose()?.unwrap_or(0),
        proxy_cgroup: 0,
        proxy_lease_ns: 5_000_000_000,
        udp_reply_ns: 60_000_000_000,
        attest_grace_ns: 1_000_000_000,
        accelerate_budget: limits::ACCELERATE_BUDGET,
        accelerate_write: limits::ACCELERATE_WRITE,
    })
}

/// A connection that was accepted while the first look was under way is there by now.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(300);
