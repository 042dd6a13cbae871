//! What `weft status` shows.

use std::sync::PoisonError;

use weft_telemetry::api::{Failure, GenerationState, GenerationStatus, ProxyState, ProxyStatus, Time};

use crate::generations::Generation;
use crate::run::Run;

impl Run {
    /// Shows how things stand.
    pub(crate) fn publish(&mut self) {
        let decides_by = self.generations.in_force().and_then(|generation| generation.progress.snapshot);
        self.shared.decides_by.send_if_modified(|known| std::mem::replace(known, decides_by) != decides_by);
        let shows = self.generations.in_force().and_then(|generation| generation.progress.identities);
        self.shared.shows.send_if_modified(|known| std::mem::replace(known, shows) != shows);
        let in_force = self.generations.in_force().is_some();
        let needed = self.snapshot.is_some();
        self.without_since = (needed && !in_force).then(|| self.without_since.unwrap_or_else(Time::now));
        let failure = self.why();
        let state = match (in_force, needed || self.generations.len() > 0, &failure) {
            (true, _, _) => ProxyState::Active,
            (false, false, _) => ProxyState::Idle,
            (false, true, Some(_)) => ProxyState::Failing,
            (false, true, None) => ProxyState::Starting,
        };
        let status = ProxyStatus {
            state,
            without_since: self.without_since,
            snapshot_version: self.snapshot.as_ref().map(|snapshot| snapshot.version),
            identities_version: self.identities.borrow().as_ref().map(|identities| identities.version),
            pods: self.pods.served(),
            restarts: self.restarts,
            // These two are not the keeper's to know.
            lease_age_ms: None,
            records_lost: 0,
            failure,
            generations: self.generations.by_age().into_iter().map(view).collect(),
        };
        let unheard = self.generations.in_force().map(|generation| &*generation.progress.unheard);
        let peers = self.pods.peers(unheard.unwrap_or_default());
        *self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner) = peers;
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn why(&self) -> Option<Failure> {
        if let Some(why) = self.strangers.all_incompatible().values().next() {
            return Some(Failure::new(why, ""));
        }
        self.failure.clone().or_else(|| Some(Failure::new(self.pods.failure()?, "")))
    }
}

fn view(generation: &Generation) -> GenerationStatus {
    let Generation { hello, progress, .. } = generation;
    GenerationStatus {
        generation: hello.generation,
        pid: hello.pid,
        build: hello.build.clone(),
        protocol: generation.version,
        state: match (generation.retired, progress.filled) {
            (true, _) => GenerationState::Draining,
            (false, true) => GenerationState::Active,
            (false, false) => GenerationState::Filling,
        },
        pods: progress.pods,
        snapshot_version: progress.snapshot,
        identities_version: progress.identities,
        certificates: progress.certificates,
        connections: progress.connections,
        since: generation.since,
        detail: progress.trouble.clone(),
    }
}
