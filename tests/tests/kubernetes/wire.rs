//! What the nodes of the test cluster send each other, which are network namespaces of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use weft_tests::wire::{Stream, Wire};
use weft_transport::Netns;

use crate::cluster;
use crate::stage::Stage;

/// All that comes to a node and leaves it, from now on. Nothing of a cluster that is another's, whose nodes are elsewhere.
pub(crate) struct NodeWire {
    wire: Option<Wire>,
}

impl NodeWire {
    #[track_caller]
    pub(crate) fn of(node: &str) -> Self {
        let ours = cluster::is_of_this_machine();
        Self { wire: ours.then(|| Wire::within(&network_of(node))) }
    }

    /// There were new connections between pods of the stage on different nodes, and all of them were TLS 1.3 from their first
    /// byte to their last.
    #[track_caller]
    pub(crate) fn assert_sealed(&self, stage: &Stage) {
        let Some(wire) = &self.wire else { return };
        let nodes = nodes_of_pods(stage);
        let between = |stream: &Stream| {
            let ends = [stream.from.ip(), stream.to.ip()].map(|ip| nodes.get(&ip));
            matches!(ends, [Some(one), Some(other)] if one != other)
        };
        let mut all = Vec::new();
        for _ in 0..TRIES {
            all = wire.streams().into_iter().filter(between).collect();
            if all.len() >= BOTH_WAYS && all.iter().all(Stream::is_tls13) {
                return;
            }
            // Of one that begins right now a part of its first record may be all there is.
            thread::sleep(Duration::from_millis(500));
        }
        let count = all.len();
        let open = all.iter().filter(|stream| !stream.is_tls13()).map(|stream| {
            let begins = &stream.bytes[..stream.bytes.len().min(80)];
            format!("{} to {}: {}", stream.from, stream.to, begins.escape_ascii())
        });
        panic!("of {count} directions these are in clear: {:#?}", open.collect::<Vec<_>>());
    }
}

/// Where the pods of the stage run, by address.
fn nodes_of_pods(stage: &Stage) -> BTreeMap<IpAddr, String> {
    let each = "--output=jsonpath={range .items[*]}{.status.podIP} {.spec.nodeName}\n{end}";
    let said = stage.ok(&["get", "pods", each]);
    let pair = |line: &str| {
        let (ip, node) = line.split_once(' ')?;
        Some((ip.parse().ok()?, node.to_owned()))
    };
    said.lines().filter_map(pair).collect()
}

/// The network namespace of a node, by any process that is in it.
#[track_caller]
fn network_of(node: &str) -> Netns {
    let name = cluster::of_this_machine(&["exec", node, "readlink", "/proc/self/ns/net"]);
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    let paths = processes.map(|process| process.path().join("ns/net"));
    let mut of_node =
        paths.filter(|path| fs::read_link(path).is_ok_and(|link| link.as_os_str() == name.trim()));
    let open = of_node.find_map(|path| Netns::open(path).ok());
    open.unwrap_or_else(|| panic!("no process is in the network {name} of {node}"))
}

/// Connections carry others, so one may be all there is.
const BOTH_WAYS: usize = 2;
const TRIES: u8 = 20;
