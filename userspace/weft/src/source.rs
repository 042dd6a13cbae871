//! Where the agent has its objects from: a directory, or an API server; and what that makes of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use weft_datapath::cgroup_mount;
use weft_kubernetes::{ClusterSource, Error, Health, ManifestSource, Options, Source};
use weft_model::Snapshot;
use weft_telemetry::api::{Degradation, SourceView};

use crate::settings::AgentArgs;

/// The part of this machine that is the agent's node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whose sockets are in reach; `None` is the whole machine.
    pub(crate) cgroup: Option<PathBuf>,
    /// Whose connections are probes.
    pub(crate) probes: Option<PathBuf>,
}

/// A source that is open, and what it publishes.
pub(crate) struct Opened {
    pub(crate) source: Box<dyn Source>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) told: Told,
}

/// How the source is, for status.
pub(crate) struct Told {
    location: String,
    health: Option<watch::Receiver<Arc<Health>>>,
    /// Whether the kubelet is found whose probes should pass, if there should be one.
    kubelet: watch::Receiver<bool>,
}

impl Place {
    /// As the arguments say, and where they do not, as a kubelet has made it.
    pub(crate) fn of(args: &AgentArgs) -> Self {
        let mut place = Self { cgroup: args.cgroup.clone(), probes: args.probe_cgroup.clone() };
        if args.manifests.is_none()
            && let Some(mount) = cgroup_mount()
        {
            let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            place = place.on_a_node(&mount, &own, Path::new("/proc"));
        }
        place
    }

    fn on_a_node(self, mount: &Path, own_cgroup: &str, proc: &Path) -> Self {
        let above = weft_kubernetes::subtree(own_cgroup).map(|path| path.trim_start_matches('/'));
        // The mount's root is the node's, whatever may be above it: kind's nodes are containers.
        let below = |path: &str| if path.is_empty() { mount.to_owned() } else { mount.join(path) };
        let cgroup = self.cgroup.or_else(|| above.map(below));
        let node = cgroup.as_deref().unwrap_or(mount);
        let probes = self.probes.or_else(|| weft_kubernetes::kubelet_cgroup(proc, mount, node));
        Self { cgroup, probes }
    }
}

/// Opens what the arguments name.
pub(crate) async fn open(
    args: &AgentArgs,
    place: &Place,
    kubelet: watch::Receiver<bool>,
    options: Options,
) -> Result<Opened, Error> {
    if let Some(directory) = &args.manifests {
        let (source, snapshots) = ManifestSource::open(directory, options)?;
        let told = Told { location: directory.display().to_string(), health: None, kubelet };
        return Ok(Opened { source: Box::new(source), snapshots, told });
    }
    let connection = args.connection();
    let groups = place.cgroup.clone().or_else(cgroup_mount).unwrap_or_default();
    let (source, snapshots) = ClusterSource::open(&connection, groups, options).await?;
    let health = source.health();
    let location = health.borrow().server.clone();
    let told = Told { location, health: Some(health), kubelet };
    Ok(Opened { source: Box::new(source), snapshots, told })
}

impl Told {
    /// Where the source is.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// What `weft status` shows of it.
    pub(crate) fn view(&self) -> SourceView {
        let location = self.location.clone();
        match &self.health {
            None => SourceView {
                location,
                synced: true,
                unlisted: Vec::new(),
                as_of: None,
                age_seconds: None,
                failure: None,
            },
            Some(health) => view(location, &health.borrow(), SystemTime::now()),
        }
    }

    /// What it lacks.
    pub(crate) fn degradations(&self, node: &str) -> Vec<Degradation> {
        let Some(health) = &self.health else { return Vec::new() };
        let mut lacks = degradations(&health.borrow(), node);
        if !*self.kubelet.borrow() {
            lacks.push(Degradation {
                feature: "the kubelet's probes".to_owned(),
                reason: "no kubelet of this node is found that has a control group of its own".to_owned(),
                remedy: "name its group with --probe-cgroup, or policies may refuse its probes".to_owned(),
            });
        }
        lacks
    }
}

fn view(location: String, health: &Health, now: SystemTime) -> SourceView {
    let away = health.away.as_ref();
    // What is kept is no newer than that, whenever the server was heard since.
    let as_of = health.kept.or_else(|| away.filter(|_| health.synced).map(|away| away.since));
    SourceView {
        location,
        synced: health.synced,
        unlisted: health.unlisted.iter().map(|kind| (*kind).to_owned()).collect(),
        as_of: as_of.map(Into::into),
        age_seconds: as_of.map(|at| now.duration_since(at).unwrap_or(Duration::ZERO).as_secs()),
        failure: away.map(|away| away.error.clone()),
    }
}

fn degradations(health: &Health, node: &str) -> Vec<Degradation> {
    let mut lacks = Vec::new();
    if let Some(away) = &health.away {
        lacks.push(Degradation {
            feature: "changes of the configuration".to_owned(),
            reason: format!("the API server {} is not heard: {}", health.server, away.error),
            remedy: away.remedy.clone(),
        });
    }
    for (kind, refused) in &health.refused {
        lacks.push(Degradation {
            feature: format!("objects of kind {kind}"),
            reason: refused.error.clone(),
            remedy: refused.remedy.clone(),
        });
    }
    if health.no_such_node {
        lacks.push(Degradation {
            feature: "pods of this node".to_owned(),
            reason: format!("the cluster has no Node {node}, so no pod runs on it"),
            remedy: "start the agent with --node and the Node's name (in a DaemonSet: spec.nodeName)"
                .to_owned(),
        });
    }
    lacks
}

#[cfg(test)]
mod tests {
    use weft_kubernetes::Failing;

    use super::*;

    fn failing(error: &str, since: SystemTime) -> Failing {
        Failing { since, error: error.into(), remedy: "do".into() }
    }

    #[test]
    fn what_is_in_force_has_an_age_when_the_server_is_not_heard_or_nothing_else_is_known() {
        let now = SystemTime::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let age = |health: &Health| view(String::new(), health, now).age_seconds;
        let good = Health { synced: true, ..Health::default() };
        assert_eq!(age(&good), None);
        let away = Health { away: Some(failing("refused", ago(20))), ..good.clone() };
        assert_eq!(age(&away), Some(20));
        let kept = Health { synced: false, kept: Some(ago(300)), ..away };
        assert_eq!(age(&kept), Some(300));
        let new = Health { synced: false, kept: None, ..kept };
        assert_eq!(age(&new), None, "nothing is in force");
    }

    #[test]
    fn what_the_server_refuses_and_a_node_that_it_does_not_know_are_told() {
        let refused = failing("pods is forbidden", SystemTime::now());
        let health = Health { refused: [("Pod", refused)].into(), no_such_node: true, ..Health::default() };
        let lacks = degradations(&health, "n9");
        assert_eq!(lacks[0].feature, "objects of kind Pod");
        assert!(lacks[1].reason.contains("no Node n9"), "{lacks:?}");
    }

    #[test]
    fn a_node_that_is_a_part_of_a_machine_is_found_by_the_agents_own_group() {
        let mount = Path::new("/sys/fs/cgroup");
        let no_proc = Path::new("/nonexistent");
        let own = "0::/n1/kubepods/besteffort/podx/agent\n";
        let place = Place::default().on_a_node(mount, own, no_proc);
        assert_eq!(place.cgroup.as_deref(), Some(Path::new("/sys/fs/cgroup/n1")));
        let given = Place { cgroup: Some("/sys/fs/cgroup/n2".into()), probes: Some("/x".into()) };
        assert_eq!(given.clone().on_a_node(mount, own, no_proc), given, "what is given counts");
        let whole = Place::default().on_a_node(mount, "0::/kubepods/besteffort/podx/agent\n", no_proc);
        assert_eq!(whole.cgroup.as_deref(), Some(mount), "a machine that is one node");
        let of_no_pod = Place::default().on_a_node(mount, "0::/system.slice/weft.service\n", no_proc);
        assert_eq!(of_no_pod, Place::default());
    }
}
