//! Who the node's pods are to others: for each ServiceAccount its end of mutual TLS.
//!
//! The agent issues and renews; what it says last is in force here, and stays so while there is no agent. A renewal
//! changes what an [`Endpoint`] shows, not which one it is: whoever holds it has what is in force, and a connection
//! keeps what it was opened with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use weft_identity::{Clock, Endpoint, Held, Svid, SvidError, Trust};
use weft_model::ServiceAccount;

/// The identities of the node's pods. Written by one task, read by all workers.
#[derive(Debug)]
pub(crate) struct Identities {
    current: ArcSwap<Current>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct Current {
    trust: Option<Arc<Trust>>,
    endpoints: BTreeMap<ServiceAccount, Arc<Endpoint>>,
}

impl Identities {
    /// None yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { current: ArcSwap::default(), clock }
    }

    /// The end of mutual TLS of the pods of `account`; `None` before their first certificate. It refuses handshakes
    /// itself once its certificate has ended.
    pub(crate) fn endpoint_of(&self, account: &ServiceAccount) -> Option<Arc<Endpoint>> {
        self.current.load().endpoints.get(account).map(Arc::clone)
    }

    /// How many have a certificate that is valid.
    pub(crate) fn valid(&self) -> usize {
        let now = self.clock.now();
        self.current.load().endpoints.values().filter(|endpoint| endpoint.svid().not_after() >= now).count()
    }

    /// Shows and trusts what the agent says from now on. An account that it wants and has no certificate for keeps
    /// the one that is here: that agent was restarted, and its issuer is away. Those that it does not want are gone.
    ///
    /// # Errors
    /// The first certificate that cannot be used; what was there before it stays, and all others are in force.
    pub(crate) fn take(&self, held: Held) -> Result<(), SvidError> {
        let before = self.current.load_full();
        let Held { trust, svids, missing } = held;
        let (trust, same_trust) = match (trust, &before.trust) {
            (Some(new), Some(old)) if new != *old => (new, false),
            (_, Some(old)) => (Arc::clone(old), true),
            (Some(new), None) => (new, false),
            // Nobody to trust, now or before, so there is no certificate either.
            (None, None) => return Ok(()),
        };
        let mut endpoints = BTreeMap::new();
        let mut failure = None;
        for (account, svid) in before.kept(&missing).chain(svids) {
            let known = before.endpoints.get(&account);
            // Most are as they were: one renewal is no work for all.
            let endpoint = match known.filter(|known| same_trust && known.svid() == svid) {
                Some(known) => Ok(Arc::clone(known)),
                None => self.endpoint(known, svid, &trust),
            };
            match endpoint {
                Ok(endpoint) => {
                    endpoints.insert(account, endpoint);
                }
                Err(error) => {
                    endpoints.extend(known.map(|known| (account, Arc::clone(known))));
                    failure.get_or_insert(error);
                }
            }
        }
        self.current.store(Arc::new(Current { trust: Some(trust), endpoints }));
        failure.map_or(Ok(()), Err)
    }

    fn endpoint(
        &self,
        known: Option<&Arc<Endpoint>>,
        svid: Arc<Svid>,
        trust: &Arc<Trust>,
    ) -> Result<Arc<Endpoint>, SvidError> {
        match known {
            Some(endpoint) => {
                endpoint.replace(svid, Arc::clone(trust))?;
                Ok(Arc::clone(endpoint))
            }
            None => Ok(Arc::new(Endpoint::new(svid, Arc::clone(trust), self.clock.clone())?)),
        }
    }
}

impl Current {
    fn kept(&self, missing: &BTreeSet<ServiceAccount>) -> impl Iterator<Item = (ServiceAccount, Arc<Svid>)> {
        let here = self.endpoints.iter().filter(|(account, _)| missing.contains(*account));
        here.map(|(account, endpoint)| (account.clone(), endpoint.svid()))
    }
}

#[cfg(test)]
mod tests;
