//! Pods that serve by their names, and what the tests of balancing ask about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weft_tests::{Node, Pod, Server};

/// Pod `shop/<name>` that serves 8080 over TCP and 5353 over UDP: each answer is its name.
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) pod: Pod,
    _servers: [Server; 2],
}

impl Backend {
    /// A pod with label `app: <app>`.
    pub(crate) fn start(node: &Node, app: &str, name: &str) -> Self {
        let pod = node.pod(&format!("shop/{name}")).label("app", app).start();
        let servers = [pod.serve_name(HTTP, name), pod.serve_udp_name(DNS, name)];
        Self { name: name.into(), pod, _servers: servers }
    }

    /// Pods `<app>-1` to `<app>-<n>`.
    pub(crate) fn several(node: &Node, app: &str, n: usize) -> Vec<Self> {
        (1..=n).map(|i| Self::start(node, app, &format!("{app}-{i}"))).collect()
    }
}

/// An address that is written in a test.
#[track_caller]
pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Which backends answer `n` connections of `client`, each of which must be answered.
#[track_caller]
pub(crate) fn answers(client: &Pod, to: SocketAddr, n: usize) -> BTreeSet<String> {
    counts(client, to, n).into_keys().collect()
}

/// How often each backend answers `n` connections of `client`, each of which must be answered.
#[track_caller]
pub(crate) fn counts(client: &Pod, to: SocketAddr, n: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..n {
        let name = client.ask(to).unwrap_or_else(|error| panic!("{to}: {error}"));
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// A set of names.
pub(crate) fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(String::from).into()
}

/// A counter of the programs on `node`.
#[track_caller]
pub(crate) fn counter(node: &Node, name: &str) -> u64 {
    let status = node.weft_json(&["status"]);
    status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status:#}"))
}

/// What the TCP server of a backend listens on.
pub(crate) const HTTP: u16 = 8080;
/// What its UDP server is bound to.
pub(crate) const DNS: u16 = 5353;
