//! What the node's proxy needs of the kernel's side: pods' listeners, and that its own connections are known.

use std::{os::fd::BorrowedFd, sync::Arc};

use weft_abi::{BePort, Config};
use weft_model::{Service, Snapshot, Workload};

use super::{Error, State, local};
use crate::{apply::Listening, netns::Held, proxy::LocalPod};

impl State {
    /// The enrolled pods whose namespaces are held; `None` until that is known.
    pub(crate) fn local_pods(&self) -> Option<Vec<LocalPod>> {
        self.snapshot.as_ref().map(|snapshot| self.pods_of(snapshot))
    }

    /// Those of `snapshot`.
    pub(super) fn pods_of(&self, snapshot: &Snapshot) -> Vec<LocalPod> {
        let placed = local(snapshot).filter_map(|pod| Some((pod, self.namespaces.get(&pod.name)?)));
        let placed = placed.filter(|(pod, _)| !self.refused_pods.contains_key(&pod.name));
        let pod = |(pod, held): (&Workload, &Held)| LocalPod {
            name: pod.name.clone(),
            netns_cookie: held.cookie,
            path: held.path.clone(),
            netns: Arc::clone(&held.netns),
            ips: pod.ips.clone(),
            service_account: pod.service_account.clone(),
        };
        placed.map(pod).collect()
    }

    /// Where the connections of a pod come to the node's proxy; port 0 for nowhere.
    pub(crate) fn listen(&mut self, netns: u64, port: u16) -> Result<(), Error> {
        let listening = Listening { outbound: BePort::new(port), ..self.pods.listening(netns) };
        self.pods.listen(&mut self.maps, netns, listening)?;
        match self.snapshot.clone() {
            Some(snapshot) => self.accelerate(&snapshot),
            None => Ok(()),
        }
    }

    /// Where connections that others make to a pod come to the node's proxy.
    pub(crate) fn take_in(
        &mut self,
        netns: u64,
        listener: Option<(u16, BorrowedFd<'_>)>,
    ) -> Result<(), Error> {
        // Nothing may be handed to a listener that is not there, or no longer.
        let inbound = BePort::new(listener.map_or(0, |(port, _)| port));
        let listening = Listening { inbound, ..self.pods.listening(netns) };
        if listener.is_some() {
            self.maps.hand_over(netns, listener.map(|(_, socket)| socket))?;
        }
        self.pods.listen(&mut self.maps, netns, listening)?;
        if listener.is_none() {
            self.maps.hand_over(netns, None)?;
        }
        Ok(())
    }

    /// Whether a Service asks for the node's proxy, which there is not to be.
    pub(crate) fn stays_in_the_kernel(&self) -> bool {
        let asks = |service: &Arc<Service>| service.ports.iter().any(|port| port.routing.is_some());
        !self.services.may_proxy()
            && self.snapshot.iter().flat_map(|snapshot| snapshot.services.values()).any(asks)
    }

    /// By which cgroup the node's proxy is known.
    pub(crate) fn proxy_is(&mut self, cgroup: u64) -> Result<(), Error> {
        let config = Config { proxy_cgroup: cgroup, ..self.config };
        self.maps.configure(&config)?;
        self.config = config;
        Ok(())
    }
}
