//! On whose account the kernel keeps what it notes of sockets.

use std::net::TcpStream;

use weft_tests::{Agent, Node, private, top_of_memory};

use crate::market::{API, Market};

#[test]
fn connections_of_pods_do_not_count_against_the_agents_memory_limit() {
    let mut group = None;
    let start = |node: &Node| wait(node, &group.insert(node.memory_group()).entered());
    let Some(market) = Market::open_with(start) else { return };
    let group = group.expect("the agent has been started in it");
    // What the agent needs for the first of all is there.
    let _first = market.web.tcp_connect(API).unwrap();
    let before = group.kernel_bytes();
    let connections: Result<Vec<TcpStream>, _> =
        (0..CONNECTIONS).map(|_| market.web.tcp_connect(API)).collect();
    let connections = connections.unwrap();
    let more = group.kernel_bytes().saturating_sub(before);
    drop(connections);
    // Two objects of 192 bytes for each client's socket, in whole pages, would be more than that: 64 KiB where it was measured.
    assert!(more < CONNECTIONS * 128, "{more} bytes more with {CONNECTIONS} connections");
    market.assert_enforced();
}

#[test]
fn an_agent_that_is_not_let_out_of_its_limit_says_so_and_works() {
    let closed = private("mount --bind /proc/version \"$0\"", &top_of_memory());
    let Some(market) = Market::open_with(|node| wait(node, &closed)) else { return };
    market.assert_enforced();
    let said = "connections of the node's pods count against this agent's memory limit";
    assert!(market.agent.log().contains(said), "{}", market.agent.log());
}

fn wait(node: &Node, wrapper: &[String]) -> Agent {
    let agent = node.wrap_agent(wrapper);
    node.wait();
    agent
}

/// As many as a process has descriptors for everywhere.
const CONNECTIONS: u64 = 400;
