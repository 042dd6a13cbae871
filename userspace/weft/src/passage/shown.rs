//! Which pods of this node can prove who they are: those whose certificate the proxy shows, and to whose listener the kernel
//! hands others' connections.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use tokio::sync::watch;
use weft_datapath::LocalPod;
use weft_model::ServiceAccount;
use weft_runtime::{Stop, Tasks};

use super::Stage;
use crate::identities::Handed;

/// What has to come together.
pub(crate) struct Showing {
    /// The enrolled pods of this node.
    pub(crate) pods: watch::Receiver<Option<Arc<[LocalPod]>>>,
    /// Cookies of those whose connections the kernel hands over.
    pub(crate) taken_in: watch::Receiver<BTreeSet<u64>>,
    /// Whose certificates the proxy is given.
    pub(crate) handed: watch::Receiver<Handed>,
    /// The version of these that it shows.
    pub(crate) shows: watch::Receiver<Option<u64>>,
}

impl Showing {
    /// Tells `stage` from now on. The ServiceAccounts that the proxy shows, whenever they change.
    pub(crate) fn start(self, stage: Stage, tasks: &Tasks) -> watch::Receiver<BTreeSet<ServiceAccount>> {
        let (told, accounts) = watch::channel(BTreeSet::new());
        tasks.spawn("shown pods", self.follow(stage, told, tasks.stop_signal()));
        accounts
    }

    async fn follow(
        mut self,
        stage: Stage,
        told: watch::Sender<BTreeSet<ServiceAccount>>,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let mut under_way = VecDeque::<Handed>::new();
        let mut shown = BTreeSet::new();
        loop {
            // Of many versions in quick succession only the last may be seen, and the proxy shows no other then.
            let latest = self.handed.borrow_and_update().clone();
            if under_way.back().is_none_or(|(version, _)| *version < latest.0) {
                under_way.push_back(latest);
            }
            let in_force = *self.shows.borrow_and_update();
            // A proxy that is away may come back with less than what it had.
            let at = under_way
                .iter()
                .rposition(|(version, _)| in_force.is_some_and(|in_force| *version <= in_force));
            if let Some(at) = at {
                under_way.drain(..at);
                shown.clone_from(&under_way[0].1);
            }
            let pods = self.pods.borrow_and_update().clone();
            let taken_in = self.taken_in.borrow_and_update().clone();
            let can = |pod: &&LocalPod| {
                taken_in.contains(&pod.netns_cookie) && shown.contains(&pod.service_account)
            };
            stage.can_be_shown(
                pods.iter().flat_map(|pods| pods.iter()).filter(can).map(|pod| pod.name.clone()).collect(),
            );
            told.send_if_modified(|before| {
                let other = *before != shown;
                before.clone_from(&shown);
                other
            });
            tokio::select! {
                Ok(()) = self.pods.changed() => {}
                Ok(()) = self.taken_in.changed() => {}
                Ok(()) = self.handed.changed() => {}
                Ok(()) = self.shows.changed() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}
