//! The certificates of the node's pods: from the Snapshot to the issuer, and from there to the proxy.

mod controllers;
mod view;

use std::{collections::BTreeSet, convert::Infallible, path::Path, sync::Arc, time::SystemTime};

use tokio::sync::watch;
use weft_identity::{
    Certificates, Clock, Held, Issuer, TrustDomains, Wanted,
    ca::{DirectoryIssuer, Keeping},
    controller::{ControllerIssuer, Controllers, SECRET},
};
use weft_keeper::Identities;
use weft_model::{ServiceAccount, Snapshot};
use weft_runtime::{Stop, Tasks};
use weft_telemetry::api::CertificatesView;
use weft_transport::memfd::{self, Sealed};

use crate::settings::{AgentArgs, Issuing};

/// The certificates of the node's pods, and the authority that issues them. Clones share them.
#[derive(Clone)]
pub(crate) struct Issued {
    certificates: Certificates,
    /// Where the authority is that issues them.
    keeping: Keeping,
    controllers: Option<Controllers>,
}

impl Issued {
    /// Has certificates issued for the pods of the Snapshots from now on; `None` where nobody issues any.
    pub(crate) async fn start(
        issuing: Issuing,
        args: &AgentArgs,
        node: &str,
        snapshots: &watch::Receiver<Arc<Snapshot>>,
        tasks: &Tasks,
    ) -> Result<Option<Self>, weft_kubernetes::Error> {
        let clock = Clock::system();
        let (issuer, keeping, controllers): (Arc<dyn Issuer>, _, _) = match issuing {
            Issuing::None => return Ok(None),
            Issuing::Directory(dir) => {
                (Arc::new(DirectoryIssuer::new(&dir, clock.clone())), Keeping::Directory(dir), None)
            }
            Issuing::Controllers(connection) => {
                let controllers = controllers::find(&connection, args, node, snapshots, tasks).await?;
                let secret = format!("{}/{SECRET}", args.namespace);
                let issuer = Arc::new(ControllerIssuer::new(controllers.clone()));
                (issuer, Keeping::Secret(secret.into()), Some(controllers))
            }
        };
        let certificates = Certificates::new(wanted(&snapshots.borrow()));
        tasks.spawn("certificates", certificates.clone().run(issuer, clock, tasks.stop_signal()));
        tasks.spawn("identities", follow_pods(certificates.clone(), snapshots.clone(), tasks.stop_signal()));
        Ok(Some(Self { certificates, keeping, controllers }))
    }

    /// The mesh's controllers, where it is they who issue.
    pub(crate) fn controllers(&self) -> Option<&Controllers> {
        self.controllers.as_ref()
    }

    /// What `weft get certificates` shows.
    pub(crate) fn view(&self) -> CertificatesView {
        view::view(&self.certificates.status(), &self.keeping, SystemTime::now())
    }
}

/// An error where this node's mesh is of another trust domain than `told`: its pods would be strangers to those of the other
/// nodes. As the first of a rollout its agent is never ready, and the one that runs goes on.
pub(crate) fn check_trust_domain(told: Option<&str>, last_good: &Path) -> anyhow::Result<()> {
    let Some(told) = told else { return Ok(()) };
    match weft_kubernetes::kept_trust_domain(last_good) {
        Some(kept) if *kept != *told => anyhow::bail!(
            "this node is in a mesh of trust domain {kept}, and --trust-domain says {told}: install with --trust-domain \
             {kept}; to make another mesh, remove this one first (weft uninstall, or on this node weft cleanup)"
        ),
        _ => Ok(()),
    }
}

/// The ServiceAccounts of a version of [`Identities`] that have a certificate there.
pub(crate) type Handed = (u64, BTreeSet<ServiceAccount>);

/// What the proxy is to show, without certificates nothing; and of whom that is.
pub(crate) fn hand_over(
    issued: Option<&Issued>,
    tasks: &Tasks,
) -> (watch::Receiver<Option<Identities>>, watch::Receiver<Handed>) {
    let expected = issued.is_some();
    let held = issued.map(|issued| issued.certificates.held());
    let held = held.unwrap_or_else(|| watch::channel(Arc::default()).1);
    let (shown, identities) = watch::channel(None);
    let (told, handed) = watch::channel(Handed::default());
    tasks.spawn("proxy identities", seal(held, expected, shown, told, tasks.stop_signal()));
    (identities, handed)
}

async fn follow_pods(
    certificates: Certificates,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: Stop,
) -> Result<(), Infallible> {
    loop {
        let now = wanted(&snapshots.borrow_and_update());
        certificates.want(|wanted| *wanted = now);
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// One certificate for each ServiceAccount that has an enrolled pod here: a node can show nobody else's.
pub(crate) fn wanted(snapshot: &Snapshot) -> Wanted {
    let aliases = snapshot.trust_domain_aliases.iter().map(|alias| &**alias);
    let domains = TrustDomains::new(&snapshot.trust_domain, aliases);
    let here = snapshot.workloads.values().filter(|workload| workload.local && workload.enrolled);
    Wanted {
        domains: domains.expect("trust domains are checked where MeshConfig is read"),
        ttl: snapshot.certificate_ttl,
        accounts: here.map(|workload| workload.service_account.clone()).collect(),
    }
}

/// Of many changes in quick succession only the last may be seen.
async fn seal(
    mut held: watch::Receiver<Arc<Held>>,
    expected: bool,
    shown: watch::Sender<Option<Identities>>,
    handed: watch::Sender<Handed>,
    stop: Stop,
) -> Result<(), memfd::Error> {
    for version in 1.. {
        let now = Arc::clone(&held.borrow_and_update());
        let bytes = Arc::new(tokio::task::block_in_place(|| Sealed::of(&now.to_wire()))?);
        let complete = now.missing.is_empty() && (now.trust.is_some() || !expected);
        // Before the proxy can have them.
        handed.send_replace((version, now.svids.keys().cloned().collect()));
        shown.send_replace(Some(Identities { version, bytes, complete }));
        tokio::select! {
            // Without certificates there is no change, and the sender is gone.
            Ok(()) = held.changed() => {}
            () = stop.cancelled() => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weft_model::{ObjectName, Workload};

    use super::*;

    #[test]
    fn a_node_wants_certificates_of_the_enrolled_pods_that_run_on_it_and_of_nobody_else() {
        let pod = |name: &str, account: &str, local, enrolled| {
            let name = ObjectName::new("shop", name);
            let workload = Workload {
                service_account: ServiceAccount::new("shop", account),
                local,
                enrolled,
                ..workload(name.clone())
            };
            (name, Arc::new(workload))
        };
        let workloads = [
            pod("web-1", "web", true, true),
            pod("web-2", "web", true, true),
            pod("elsewhere", "api", false, true),
            pod("outside", "batch", true, false),
        ];
        let snapshot = Snapshot {
            trust_domain: "mesh.example".into(),
            trust_domain_aliases: Arc::new(["old.example".into()]),
            workloads: Arc::new(workloads.into()),
            ..Snapshot::default()
        };
        let wanted = wanted(&snapshot);
        assert_eq!(wanted.accounts, [ServiceAccount::new("shop", "web")].into());
        assert_eq!((wanted.domains.own(), wanted.domains.aliases().len()), ("mesh.example", 1));
        assert_eq!(wanted.ttl, Snapshot::CERTIFICATE_TTL);
    }

    fn workload(name: ObjectName) -> Workload {
        Workload {
            owner: Arc::clone(&name.name),
            service_account: ServiceAccount::new("shop", "default"),
            name,
            ips: Vec::new(),
            node: None,
            local: true,
            labels: Arc::default(),
            enrolled: true,
            netns: None,
            ports: Vec::new(),
            ready: true,
            passage: weft_model::Passage::Done,
            terminating: false,
            created: 0,
        }
    }
}
