//! What the cluster's network forbids stays forbidden: `NetworkPolicy` is the CNI plugin's, and weft leaves it what it goes by.

use std::process;

use weft_tests::eventually;

use crate::agents::{self, PATIENCE};
use crate::cluster;
use crate::stage::{Echo, ROUTED, Stage};

#[test]
fn what_a_network_policy_drops_is_dropped_however_the_mesh_carries_it() {
    let [one, other] = cluster::two_nodes();
    let stage = Stage::open("network-policy");
    stage.start(&[
        Echo { node: Some(&other), ..Echo::new("api") },
        Echo { node: Some(&one), ..Echo::new("web") },
        Echo { node: Some(&one), ..Echo::new("guest") },
    ]);
    stage.service("api", "app: api", "");
    stage.apply(ROUTED);
    agents::enrolled(&stage.namespace, 3);
    agents::enforced("httproutes", &stage.namespace, "api", |_| true);
    // By a route, as the proxy's own HTTP/2, and as bytes.
    let paths = ["http://api/", "grpc://api:7070", "tcp://api:9090"];
    let is_answered = |from: &str, path: &str| stage.ask(from, &[path, "--fresh", "--timeout=3s"]).is_ok();
    for path in paths {
        assert!(is_answered("guest", path), "{path}");
    }
    let dropping = Dropping::on(&other, &stage.address("guest"), &stage.address("api"));
    for path in paths {
        assert!(!is_answered("guest", path), "{path}");
        assert!(is_answered("web", path), "{path}: only guest is forbidden");
    }
    drop(dropping);
    for path in paths {
        eventually(PATIENCE, || is_answered("guest", path));
    }
}

/// What a CNI plugin that knows `NetworkPolicy` does on the server's node: by the pods' addresses and ports, on their way.
struct Dropping {
    node: String,
    table: String,
}

impl Dropping {
    #[track_caller]
    fn on(node: &str, from: &str, to: &str) -> Self {
        let table = format!("weft_test_{}", process::id());
        let rules = format!(
            "table inet {table} {{ chain forward {{ type filter hook forward priority -10; \
             ip saddr {from} ip daddr {to} tcp dport {{ 8080, 7070, 9090 }} drop; }}; }}"
        );
        cluster::of_this_machine(&["exec", node, "nft", &rules]);
        Self { node: node.to_owned(), table }
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        cluster::of_this_machine(&["exec", &self.node, "nft", &format!("delete table inet {}", self.table)]);
    }
}
