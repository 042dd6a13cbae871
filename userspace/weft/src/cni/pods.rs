//! The agent's part of the plugin: a pod that the container runtime has made a network for is enrolled before it starts.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use weft_datapath::Enforcer;
use weft_kubernetes::{Announced, Announcer};
use weft_model::{ObjectName, Snapshot};
use weft_telemetry::api::{Attached, Attachment, Failure};

use crate::passage::Stage;

/// What the runtime's pods need to start.
pub(crate) struct RuntimePods {
    /// `None` where objects say where pods are.
    pub(crate) announcer: Option<Announcer>,
    pub(crate) enforcer: Enforcer,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) stage: Stage,
    /// Whether pods have certificates, and others are told of that.
    pub(crate) proven: bool,
}

impl RuntimePods {
    /// Enrols the pod, where it is to be, and waits until all of it is in the kernel.
    pub(crate) async fn attach(&self, attachment: &Attachment) -> Result<Attached, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let network = Announced {
            uid: attachment.uid.as_str().into(),
            sandbox: attachment.sandbox.as_str().into(),
            netns: reach(attachment)?,
            ips: attachment.ips.clone(),
        };
        let name = ObjectName::new(attachment.namespace.as_str(), attachment.pod.as_str());
        // Until it is in force: from then on it is known.
        let _starting = self.stage.starts(name);
        let announced = self.announcer()?.announce(network);
        let Ok(known) = timeout_at(deadline, announced).await else { return Ok(Attached::Unknown) };
        let known =
            known.ok_or_else(|| Failure::new("the agent ends", "another one begins, or is to be started"))?;
        if !known.enrolled {
            return Ok(Attached::NotEnrolled);
        }
        let in_kernel = async {
            let version = self.stage.given(known.version).await;
            self.enforcer.until_applied(version).await;
            version
        };
        let applied = timeout_at(deadline, in_kernel).await;
        let Some(version) = applied.ok().filter(|_| self.enforcer.protects(&known.pod, attachment.inode))
        else {
            return Err(self.unprotected(&known.pod));
        };
        // The proxy has its listeners by then, and the pod has a certificate, as all others know before they can know its
        // address. What cannot be had is the connections' affair.
        let served = async {
            self.enforcer.until_enforced(version).await;
            if self.proven {
                self.stage.until_shown(&known.pod).await;
            }
        };
        let told = async {
            if self.proven {
                self.stage.until_told(&known.pod).await;
            }
        };
        let _ = join(timeout(SERVED, served), timeout(SERVED, told)).await;
        Ok(Attached::Enrolled)
    }

    /// Whether the pod is as [`RuntimePods::attach`] has left it.
    pub(crate) fn attached(&self, attachment: &Attachment) -> Result<Attached, Failure> {
        let name = ObjectName::new(attachment.namespace.as_str(), attachment.pod.as_str());
        let snapshot = Arc::clone(&self.snapshots.borrow());
        match snapshot.workloads.get(&name) {
            None => Ok(Attached::Unknown),
            Some(pod) if !pod.enrolled => Ok(Attached::NotEnrolled),
            Some(_) if self.enforcer.protects(&name, attachment.inode) => Ok(Attached::Enrolled),
            Some(_) => Err(self.unprotected(&name)),
        }
    }

    /// These sandboxes go.
    pub(crate) async fn detach(&self, sandboxes: Vec<String>) -> Result<(), Failure> {
        for sandbox in sandboxes {
            self.announcer()?.withdraw(sandbox.into()).await;
        }
        Ok(())
    }

    /// There are no sandboxes but these.
    pub(crate) async fn keep(&self, sandboxes: Vec<String>) -> Result<(), Failure> {
        self.announcer()?.keep(sandboxes.into_iter().map(Into::into).collect()).await;
        Ok(())
    }

    fn announcer(&self) -> Result<&Announcer, Failure> {
        self.announcer.as_ref().ok_or_else(|| {
            let message = "the agent reads a directory, whose objects say where pods are";
            Failure::new(
                message,
                "weft-cni is for agents that read an API server: take it out of the CNI configuration",
            )
        })
    }

    /// Why the pod is not protected, as far as that is known.
    fn unprotected(&self, pod: &ObjectName) -> Failure {
        if let Err(failure) = self.enforcer.enforced() {
            return failure;
        }
        let status = self.enforcer.status(&self.snapshots.borrow());
        let name = pod.to_string();
        let found = status.pods.into_iter().find(|status| status.name == name);
        let why = found
            .and_then(|status| status.detail)
            .unwrap_or_else(|| "it is not in the kernel yet".to_owned());
        Failure::new(format!("Pod {pod} is not protected: {why}"), "see: weft status")
    }
}

/// The path by which the agent sees the namespace: the runtime's own, where both have the same mounts, or by way of a process
/// that sees it.
fn reach(attachment: &Attachment) -> Result<PathBuf, Failure> {
    let Attachment { netns, inode, runtime, .. } = attachment;
    let root = Path::new("/proc").join(runtime.to_string()).join("root");
    let through = netns.strip_prefix("/").map_or_else(|_| root.clone(), |path| root.join(path));
    let leads_there = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == *inode);
    [netns.clone(), through].into_iter().find(leads_there).ok_or_else(|| {
        let message =
            format!("the agent does not see the network namespace {} of the runtime", netns.display());
        Failure::new(
            message,
            "its pod needs hostPID, or /run/netns of the node with mountPropagation HostToContainer",
        )
    })
}

/// How long a pod may take to be in the kernel: less than the plugin waits for the answer.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How long the rest may take then.
const SERVED: Duration = Duration::from_millis(1400);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(netns: &Path, inode: u64, runtime: u32) -> Attachment {
        Attachment {
            namespace: "shop".into(),
            pod: "web".into(),
            uid: "u".into(),
            sandbox: "s".into(),
            netns: netns.to_owned(),
            inode,
            runtime,
            ips: Vec::new(),
        }
    }

    #[test]
    fn a_namespace_is_reached_where_the_agent_sees_it_and_is_never_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni-1");
        fs::write(&path, "").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let own = std::process::id();
        assert_eq!(reach(&at(&path, inode, 0)), Ok(path.clone()));
        // What lies at the path here is another one, or nothing: the runtime sees the right one.
        let through =
            Path::new("/proc").join(own.to_string()).join("root").join(path.strip_prefix("/").unwrap());
        let hidden = Path::new("/proc/self/root").join(path.strip_prefix("/").unwrap());
        assert_eq!(reach(&at(&hidden, inode, own)), Ok(hidden.clone()));
        assert!(through.exists());
        let failure = reach(&at(&path, inode + 1, own)).unwrap_err();
        assert!(failure.remedy.contains("hostPID"), "{failure}");
    }
}
