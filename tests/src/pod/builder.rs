//! What a new pod shall be.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Pod, PodManifest};
use crate::Node;
use crate::command::ip_netns_add;

/// A pod that is not started yet. Enrolled and ready, with addresses of both families, unless told.
pub struct PodBuilder {
    node: Node,
    ip: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    manifest: PodManifest,
    listed: bool,
}

impl PodBuilder {
    pub(crate) fn new(node: Node, name: &str) -> Self {
        let manifest = PodManifest::new(name, node.name());
        Self { node, ip: None, ip6: None, manifest, listed: true }
    }

    /// The name of its `ServiceAccount`; `default` unless told.
    #[must_use]
    pub fn service_account(mut self, name: &str) -> Self {
        self.manifest.service_account = name.into();
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.manifest.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a named container port, TCP.
    #[must_use]
    pub fn port(mut self, name: &str, port: u16) -> Self {
        self.manifest.ports.push((name.into(), port));
        self
    }

    /// An IPv4 address of 10.77.0.0/16; the first 100 networks are given by hand only.
    #[must_use]
    pub fn ip(mut self, ip: &str) -> Self {
        self.ip = Some(ip.parse().expect("an IPv4 address"));
        self
    }

    /// An IPv6 address of `fd77::/64`; those below `fd77::1:0` are given by hand only.
    #[must_use]
    pub fn ip6(mut self, ip6: &str) -> Self {
        self.ip6 = Some(ip6.parse().expect("an IPv6 address"));
        self
    }

    /// Whether it has the label that enrols it.
    #[must_use]
    pub fn enrolled(mut self, enrolled: bool) -> Self {
        self.manifest.enrol(enrolled);
        self
    }

    /// Whether its condition Ready is true.
    #[must_use]
    pub fn ready(mut self, ready: bool) -> Self {
        self.manifest.ready = ready;
        self
    }

    /// Leaves it without a manifest: a machine of which the mesh knows nothing.
    #[must_use]
    pub fn outsider(mut self) -> Self {
        self.listed = false;
        self
    }

    /// Makes the namespace and the cgroup, then tells every node by a manifest.
    pub fn start(mut self) -> Pod {
        let world = &self.node.world;
        let [.., high, low] = world.next_port().to_be_bytes();
        let number = u16::from_be_bytes([high, low]);
        let ip = self.ip.unwrap_or_else(|| Ipv4Addr::new(10, 77, 100 + high, low));
        let ip6 = self.ip6.unwrap_or_else(|| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, number));
        let group = self.manifest.name.replace('/', "-");
        let netns = world.netns(&group);
        ip_netns_add(&netns);
        world.fabric.attach(&netns, number.into(), ip, ip6);
        self.manifest.ips = vec![ip.into(), ip6.into()];
        let manifest = self.listed.then_some(self.manifest);
        let pod = Pod::place(self.node, netns, &group, ip, ip6, manifest);
        if self.listed {
            let path = pod.netns_path();
            pod.update(|manifest| manifest.netns = path);
        }
        pod
    }
}
