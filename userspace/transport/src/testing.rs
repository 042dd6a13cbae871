//! Stand-ins for tests of the crates above.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::{Attested, Error, Origin, Origins};

/// Origins that a test wrote down itself, where no connect hook runs. Without a bound: a test's are few.
#[derive(Debug, Default)]
pub struct WrittenOrigins {
    records: Mutex<HashMap<(u64, SocketAddr), Origin>>,
    attested: Mutex<HashMap<(u64, SocketAddr, u16), Attested>>,
}

impl WrittenOrigins {
    /// Attests the client of a connection to `port` of the pod, as `sk_lookup` would.
    pub fn attest(&self, netns_cookie: u64, peer: SocketAddr, port: u16, attested: Attested) {
        let mut all = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((netns_cookie, peer, port), attested);
    }

    /// Writes down a connection as the hook would; replaces what was there.
    pub fn write(&self, netns_cookie: u64, peer: SocketAddr, origin: Origin) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).insert((netns_cookie, peer), origin);
    }
}

impl Origins for WrittenOrigins {
    fn take(&self, netns_cookie: u64, peer: SocketAddr) -> Result<Option<Origin>, Error> {
        Ok(self.records.lock().unwrap_or_else(PoisonError::into_inner).remove(&(netns_cookie, peer)))
    }

    fn attested(&self, netns_cookie: u64, peer: SocketAddr, port: u16) -> Result<Option<Attested>, Error> {
        let mut all = self.attested.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(all.remove(&(netns_cookie, peer, port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_once_and_only_for_its_own_namespace() {
        let origins = WrittenOrigins::default();
        let peer = SocketAddr::from(([10, 0, 0, 1], 40000));
        let dialled = SocketAddr::from(([10, 96, 0, 1], 80));
        let origin = Origin { dialled, frontend: 7, chosen: None };
        origins.write(1, peer, origin);
        assert_eq!(origins.take(2, peer).unwrap(), None);
        assert_eq!(origins.take(1, peer).unwrap(), Some(origin));
        assert_eq!(origins.take(1, peer).unwrap(), None);
    }
}
