//! The eBPF maps of more than one layout: those of the agent's own programs, and those of programs that are about to be
//! replaced, or were a moment ago.

use std::{mem, net::SocketAddr, sync::Arc};

use weft_transport::{Attested, Origin, Origins};

use super::Maps;
use crate::Lease;

/// The maps that were lent.
#[derive(Default)]
pub(super) struct Layouts {
    own: Option<Maps>,
    older: Vec<Maps>,
    /// Those that were older before: what is own now may be about to be older.
    until_own: Vec<Maps>,
    /// The agent that is there has said which are older.
    told: bool,
}

impl Layouts {
    /// Another agent is there, which says anew what there is.
    pub(super) fn meet(&mut self) {
        self.told = false;
    }

    /// The maps of the agent's own layout.
    pub(super) fn own(&mut self, maps: Maps) {
        self.own = Some(maps);
        self.until_own.clear();
        if !mem::replace(&mut self.told, true) {
            self.older.clear();
        }
    }

    /// All that are older than those of the agent's own layout.
    pub(super) fn older(&mut self, maps: Vec<Maps>) {
        let before = mem::replace(&mut self.older, maps);
        self.told = true;
        if !self.older.is_empty() {
            self.until_own.extend(before);
        }
    }

    /// All of them as one; `None` before there is an own one.
    pub(super) fn together(&self) -> Option<Maps> {
        let all = Arc::new(All(self.own.iter().chain(&self.older).chain(&self.until_own).cloned().collect()));
        self.own.as_ref().map(|_| (Arc::clone(&all) as _, all as _))
    }
}

/// Looked at in this order. A connection's origin is in the maps of whichever program sent it here.
struct All(Vec<Maps>);

impl Origins for All {
    fn take(&self, netns: u64, peer: SocketAddr) -> Result<Option<Origin>, weft_transport::Error> {
        self.first(|origins| origins.take(netns, peer))
    }

    fn attested(
        &self,
        netns: u64,
        peer: SocketAddr,
        port: u16,
    ) -> Result<Option<Attested>, weft_transport::Error> {
        self.first(|origins| origins.attested(netns, peer, port))
    }
}

impl All {
    fn first<T>(
        &self,
        of: impl Fn(&dyn Origins) -> Result<Option<T>, weft_transport::Error>,
    ) -> Result<Option<T>, weft_transport::Error> {
        for (origins, _) in &self.0 {
            if let Some(found) = of(&**origins)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Lease for All {
    /// In all of them, also where one cannot be written.
    fn renew(&self) -> Result<(), weft_transport::Error> {
        let renewed: Vec<_> = self.0.iter().map(|(_, lease)| lease.renew()).collect();
        renewed.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Maps in which one connection's origin is, by its port, and which say when they are used.
    struct One {
        port: u16,
        renewed: Mutex<usize>,
    }

    impl Origins for One {
        fn take(&self, _: u64, peer: SocketAddr) -> Result<Option<Origin>, weft_transport::Error> {
            let dialled = SocketAddr::from(([10, 0, 0, 1], self.port));
            let origin = Origin { dialled, frontend: 1, chosen: None };
            Ok((peer.port() == self.port).then_some(origin))
        }

        fn attested(&self, _: u64, _: SocketAddr, _: u16) -> Result<Option<Attested>, weft_transport::Error> {
            Ok(None)
        }
    }

    impl Lease for One {
        fn renew(&self) -> Result<(), weft_transport::Error> {
            *self.renewed.lock().unwrap() += 1;
            Ok(())
        }
    }

    fn of(port: u16) -> Maps {
        let one = Arc::new(One { port, renewed: Mutex::default() });
        (Arc::clone(&one) as _, one as _)
    }

    /// Of which ports origins are found.
    fn found(layouts: &Layouts) -> Vec<u16> {
        let Some((origins, lease)) = layouts.together() else { return Vec::new() };
        lease.renew().unwrap();
        let is_found =
            |port: &u16| origins.take(1, SocketAddr::from(([10, 0, 0, 9], *port))).unwrap().is_some();
        (1..=4).filter(is_found).collect()
    }

    #[test]
    fn a_connection_is_found_in_whichever_maps_it_is_while_one_layout_follows_another() {
        let mut layouts = Layouts::default();
        layouts.own(of(1));
        assert_eq!(found(&layouts), [1]);
        // The next agent has another layout.
        layouts.meet();
        layouts.older(vec![of(1)]);
        assert_eq!(found(&layouts), [1]);
        layouts.own(of(2));
        assert_eq!(found(&layouts), [1, 2]);
        layouts.older(Vec::new());
        assert_eq!(found(&layouts), [2], "nobody needs them any more");
    }

    #[test]
    fn an_agent_of_the_layout_before_comes_back_and_finds_what_it_left() {
        let mut layouts = Layouts::default();
        layouts.older(vec![of(1)]);
        layouts.own(of(2));
        layouts.meet();
        layouts.older(vec![of(2)]);
        assert_eq!(
            found(&layouts),
            [1, 2],
            "the programs of the first are at work, and are about to be own again"
        );
        layouts.own(of(1));
        assert_eq!(found(&layouts), [1, 2]);
        // And one that has nothing older.
        layouts.meet();
        layouts.own(of(1));
        assert_eq!(found(&layouts), [1]);
    }

    #[test]
    fn a_new_proxy_has_none_before_it_has_those_of_the_agents_own_layout() {
        let mut layouts = Layouts::default();
        layouts.older(vec![of(1)]);
        assert!(layouts.together().is_none());
        layouts.own(of(2));
        assert_eq!(found(&layouts), [1, 2]);
    }

    #[test]
    fn the_lease_is_renewed_in_all_of_them() {
        let all: Vec<_> = (1..=2).map(|port| Arc::new(One { port, renewed: Mutex::default() })).collect();
        let mut layouts = Layouts::default();
        let maps = |one: &Arc<One>| -> Maps { (Arc::clone(one) as _, Arc::clone(one) as _) };
        layouts.older(vec![maps(&all[0])]);
        layouts.own(maps(&all[1]));
        layouts.together().unwrap().1.renew().unwrap();
        assert!(all.iter().all(|one| *one.renewed.lock().unwrap() == 1));
    }
}
