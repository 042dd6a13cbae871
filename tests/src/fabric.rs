//! The network between the pods: one bridge, in a namespace of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::command::{ip_batch, ip_netns_add};

/// A bridge that every pod of a world hangs on, so that all reach each other whatever their node.
pub(crate) struct Fabric {
    netns: String,
}

impl Fabric {
    pub(crate) fn new(world: &str) -> Self {
        let netns = format!("{world}-fabric");
        ip_netns_add(&netns);
        ip_batch(
            &netns,
            &format!(
                "link set lo up\n\
                 link add br0 mtu {MTU} type bridge mcast_snooping 0\n\
                 addr add {GATEWAY}/16 dev br0\n\
                 addr add {GATEWAY6}/64 dev br0 nodad\n\
                 link set br0 up\n"
            ),
        );
        Self { netns }
    }

    /// The namespace of the bridge. It stands for the host network of every node.
    pub(crate) fn netns(&self) -> &str {
        &self.netns
    }

    /// Gives the namespace `netns` an `eth0` that hangs on the bridge by port number `port`.
    ///
    /// Its link-local address is there at once. One that the kernel makes waits for duplicate address detection, and
    /// so long nobody there can ask for a neighbour on behalf of an address that is not the pod's: forged packets
    /// would not leave it.
    pub(crate) fn attach(&self, netns: &str, port: u32, ip: Ipv4Addr, ip6: Ipv6Addr) {
        let Self { netns: fabric } = self;
        let link_local = Ipv6Addr::from(LINK_LOCAL.to_bits() + u128::from(port) + 1);
        ip_batch(
            netns,
            &format!(
                "link set lo up\n\
                 link add eth0 mtu {MTU} type veth peer name p{port} mtu {MTU} netns {fabric}\n\
                 link set eth0 addrgenmode none\n\
                 addr add {ip}/16 dev eth0\n\
                 addr add {ip6}/64 dev eth0 nodad\n\
                 addr add {link_local}/64 dev eth0 nodad\n\
                 link set eth0 up\n\
                 route add default via {GATEWAY}\n\
                 route add ::/0 via {GATEWAY6}\n"
            ),
        );
        ip_batch(fabric, &format!("link set p{port} master br0 up\n"));
    }
}

/// Address of the bridge, and of every node's host processes.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0xffff, 0xfffe);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const MTU: u32 = 1500;
