//! The cluster's network: a bridge on the host, a pair of interfaces for each node, plain routes to its pods.
//!
//! ```text
//! host ── weft-cluster 172.30.0.1 (control plane) ──┬── node-1 eth0 172.30.0.2, pods 10.244.1.0/24 on cni0
//!                                                  └── node-2 eth0 172.30.0.3, pods 10.244.2.0/24 on cni0
//! ```
//! Nodes reach each other over the bridge, so the host forwards nothing, and its own settings stay as they are. Nodes and pods
//! have IPv6 addresses, too, which are nothing to the host: `fd00:172:30::2`, `fd00:10:244:1::/64` and so on.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::node::Node;
use super::process::Process;
use crate::shell;

/// Makes the bridge, unless it is there. Refuses a host that uses the cluster's addresses for something else.
pub(super) fn provide() -> Result<()> {
    for address in [API_SERVER, API_VIP, Ipv4Addr::new(10, 244, 0, 1)] {
        let routes = shell::capture(ip(["route", "show", "to", "match"]).arg(address.to_string()))?;
        if let Some(route) = foreign_route(&routes) {
            bail!(
                "the cluster's address {address} is in use on this host (`{route}`): take that network down first"
            );
        }
    }
    if !exists(BRIDGE)? {
        shell::capture(&mut ip(["link", "add", BRIDGE, "type", "bridge"]))?;
    }
    shell::capture(ip(["address", "replace", "dev", BRIDGE]).arg(format!("{API_SERVER}/24")))?;
    shell::capture(&mut ip(["link", "set", BRIDGE, "up"])).map(drop)
}

/// Connects a node, whose namespaces `init` holds, with the bridge and with the pods of `all` nodes.
pub(super) fn connect(node: &Node, init: &Process, all: &[Node]) -> Result<()> {
    let link = node.link();
    if !exists(&link)? {
        let mut add = ip(["link", "add", &link, "type", "veth", "peer", "name", "eth0"]);
        shell::capture(add.args(["netns", &init.pid.to_string()]))?;
    }
    shell::capture(&mut ip(["link", "set", &link, "master", BRIDGE, "up"]))?;
    let mut commands = vec![
        "link set lo up".to_owned(),
        format!("address replace {}/24 dev eth0", node.address()),
        // No other has it, so nobody has to wait for an answer.
        format!("address replace {}/64 dev eth0 nodad", node.address_v6()),
        "link set eth0 up".to_owned(),
        format!("route replace default via {API_SERVER}"),
    ];
    let others = all.iter().filter(|other| other.number() != node.number());
    commands.extend(others.flat_map(|other| [route_to_pods(other), route_to_pods_v6(other)]));
    for command in commands {
        shell::capture(init.enter("ip").args(command.split(' ')))?;
    }
    let forwards = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    shell::capture(init.enter("sysctl").arg("-qw").args(forwards))?;
    // From the host as well: the API server calls webhooks by their pods' addresses.
    shell::capture(ip([]).args(route_to_pods(node).split(' '))).map(drop)
}

/// Removes what `provide` and `connect` made on the host; routes go with the bridge, nodes' interfaces with the nodes.
pub(super) fn remove(nodes: &[Node]) -> Result<()> {
    nodes.iter().try_for_each(disconnect)?;
    delete(BRIDGE)
}

/// Takes a node off the bridge.
pub(super) fn disconnect(node: &Node) -> Result<()> {
    delete(&node.link())
}

/// The kernel may delete a pair meanwhile, as the namespace of one end is gone.
fn delete(link: &str) -> Result<()> {
    if !exists(link)? {
        return Ok(());
    }
    match shell::capture(&mut ip(["link", "delete", link])) {
        Err(error) if exists(link)? => Err(error),
        _ => Ok(()),
    }
}

fn route_to_pods(node: &Node) -> String {
    format!("route replace {} via {}", node.pods(), node.address())
}

fn route_to_pods_v6(node: &Node) -> String {
    format!("-6 route replace {} via {}", node.pods_v6(), node.address_v6())
}

/// The first route that is neither the default nor the cluster's.
fn foreign_route(routes: &str) -> Option<&str> {
    let ours = format!(" dev {BRIDGE} ");
    routes.lines().find(|route| !route.starts_with("default") && !format!("{route} ").contains(&ours))
}

fn exists(link: &str) -> Result<bool> {
    let links = shell::capture(&mut ip(["-o", "link", "show"])).context("list this host's links")?;
    Ok(has_link(&links, link))
}

/// Of lines as `7: eth0@if2: <...`.
fn has_link(links: &str, name: &str) -> bool {
    let names = links.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    names.into_iter().any(|link| link == name)
}

fn ip<const N: usize>(args: [&str; N]) -> Command {
    let mut ip = Command::new("ip");
    ip.args(args);
    ip
}

/// The control plane's address, on the bridge.
pub(super) const API_SERVER: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The first of the Services' addresses, which is the API server's.
pub(super) const API_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub(super) const DNS_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(super) const SERVICES: &str = "10.96.0.0/16,fd00:10:96::/112";
pub(super) const PODS: &str = "10.244.0.0/16,fd00:10:244::/48";
const BRIDGE: &str = "weft-cluster";

#[cfg(test)]
mod tests {
    use super::{foreign_route, has_link};

    #[test]
    fn only_a_route_of_others_is_foreign() {
        let ours = "default via 192.0.2.1 dev eth0 \n172.30.0.0/24 dev weft-cluster proto kernel scope link src 172.30.0.1 \n";
        assert_eq!(foreign_route(ours), None);
        let theirs = "default via 192.0.2.1 dev eth0 \n172.16.0.0/12 dev docker0 scope link \n";
        assert_eq!(foreign_route(theirs), Some("172.16.0.0/12 dev docker0 scope link "));
        assert_eq!(
            foreign_route("10.244.0.0/16 via 172.30.0.9 dev weft-cluster2"),
            Some("10.244.0.0/16 via 172.30.0.9 dev weft-cluster2")
        );
    }

    #[test]
    fn a_link_is_found_by_its_whole_name() {
        let links = "1: lo: <LOOPBACK,UP>\n7: weft-node-1@if2: <BROADCAST>\n8: weft-cluster: <BROADCAST>\n";
        assert!(has_link(links, "weft-node-1") && has_link(links, "weft-cluster"));
        assert!(!has_link(links, "weft-node-12") && !has_link(links, "weft"));
    }
}
