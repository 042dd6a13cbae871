//! Which pods take less than before: live connections are to be judged again.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use weft_abi::{Addr, PodPortKey, pod_flags};
use weft_model::{ObjectName, Workload};

use super::{Pods, Wanted};

impl Pods {
    /// The pods of this node of which some port is Strict in `wanted` and is not yet. A pod that was not enrolled here
    /// before is not one of them: enrolling cuts nothing.
    ///
    /// Asked of the rows, so that an agent finds what became Strict while there was none.
    pub(crate) fn stricter<'a>(
        &self,
        workloads: impl Iterator<Item = &'a Workload>,
        wanted: &Wanted,
    ) -> BTreeSet<ObjectName> {
        let keys = self.ports.keys().chain(wanted.ports.keys());
        let by_port: HashSet<Addr> =
            keys.filter(|key| self.port_is_stricter(key, wanted)).map(|key| key.addr).collect();
        let is_stricter = |ip: &IpAddr| {
            let addr = Addr::from(*ip);
            by_port.contains(&addr) || self.pod_is_stricter(&addr, wanted)
        };
        let here = workloads.filter(|workload| workload.local && workload.enrolled);
        here.filter(|workload| workload.ips.iter().any(is_stricter)).map(|pod| pod.name.clone()).collect()
    }

    fn pod_is_stricter(&self, addr: &Addr, wanted: &Wanted) -> bool {
        self.flags(addr, wanted).is_some_and(|(before, now)| is_strict(now) && !is_strict(before))
    }

    fn port_is_stricter(&self, key: &PodPortKey, wanted: &Wanted) -> bool {
        let Some((before, now)) = self.flags(&key.addr, wanted) else { return false };
        let before = self.ports.get(key).map_or(before, |own| own.flags);
        let now = wanted.ports.get(key).map_or(now, |own| own.flags);
        is_strict(now) && !is_strict(before)
    }

    /// [`pod_flags`] at this address before and now, where it is the same pod's of this node.
    fn flags(&self, addr: &Addr, wanted: &Wanted) -> Option<(u32, u32)> {
        let (before, now) = (self.ips.get(addr)?, wanted.ips.get(addr)?);
        (before.netns == now.netns && now.netns != 0).then_some((before.flags, now.flags))
    }
}

fn is_strict(flags: u32) -> bool {
    flags & pod_flags::STRICT != 0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_abi::{BePort, PodPort, PodRow};
    use weft_model::ServiceAccount;

    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn rows(netns: u64, flags: u32, ports: &[(u16, u32)]) -> Wanted {
        let key = |port| PodPortKey { addr: IP.into(), port: BePort::new(port), _pad: [0; 6] };
        Wanted {
            ips: [(IP.into(), PodRow { netns, flags, ..PodRow::zeroed() })].into(),
            ports: ports
                .iter()
                .map(|(port, flags)| (key(*port), PodPort { flags: *flags, _pad: 0 }))
                .collect(),
        }
    }

    fn is_stricter(before: Wanted, now: &Wanted) -> bool {
        let name = ObjectName::new("shop", "api");
        let workload = Workload {
            service_account: ServiceAccount::new("shop", "api"),
            owner: Arc::clone(&name.name),
            ips: vec![IP],
            node: None,
            local: true,
            labels: Arc::default(),
            enrolled: true,
            netns: None,
            ports: vec![],
            ready: true,
            passage: weft_model::Passage::Done,
            terminating: false,
            created: 0,
            name,
        };
        let pods = Pods { ips: before.ips, ports: before.ports, ..Pods::default() };
        !pods.stricter([&workload].into_iter(), now).is_empty()
    }

    #[test]
    fn a_pod_or_a_port_that_becomes_strict_is_stricter_and_one_that_is_loosened_or_enrolled_is_not() {
        const BOTH: u32 = pod_flags::TLS;
        const STRICT: u32 = pod_flags::TLS | pod_flags::STRICT;
        assert!(is_stricter(rows(7, BOTH, &[]), &rows(7, STRICT, &[])));
        assert!(is_stricter(rows(7, 0, &[]), &rows(7, STRICT, &[])), "from Disabled");
        assert!(is_stricter(rows(7, BOTH, &[]), &rows(7, BOTH, &[(80, STRICT)])), "one port");
        assert!(
            is_stricter(rows(7, STRICT, &[(80, BOTH)]), &rows(7, STRICT, &[])),
            "a port that loses its own"
        );
        for (before, now) in [
            (rows(7, STRICT, &[]), rows(7, STRICT, &[])),
            (rows(7, STRICT, &[]), rows(7, BOTH, &[])),
            (rows(7, STRICT, &[]), rows(7, STRICT, &[(80, BOTH)])),
            (rows(7, BOTH, &[(80, STRICT)]), rows(7, BOTH, &[])),
            (rows(0, BOTH, &[]), rows(7, STRICT, &[])),
            (Wanted::default(), rows(7, STRICT, &[])),
        ] {
            assert!(!is_stricter(before, &now));
        }
    }
}
