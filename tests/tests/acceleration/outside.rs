//! Case 45, and whoever else may not be accelerated.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weft_tests::SocketRequest;
use weft_tests::foreign::Foreign;

use crate::stage::{FAST, PLAIN, Stage, pass};

#[test]
fn a_service_without_the_annotation_and_a_pods_own_address_stay_native() {
    let Some(stage) = Stage::open() else { return };
    for to in [PLAIN, stage.api.addr(8080)] {
        let (mut client, mut server) = stage.connect(to);
        assert_eq!(pass(&mut client, &mut server, b"hello"), b"hello");
        assert_eq!(pass(&mut server, &mut client, b"you"), b"you");
    }
    assert_eq!(stage.latches(), [0, 0, 0]);
    assert_eq!(stage.count("bytes_native") + stage.count("bytes_redirected"), 0);
}

#[test]
fn a_client_on_another_node_and_one_outside_the_mesh_stay_native() {
    let Some(stage) = Stage::open() else { return };
    let other = stage.world.node("b");
    let far = other.pod("shop/far").start();
    let _other_agent = other.agent();
    stage.node.wait();
    let outsider = stage.node.pod("shop/outsider").outsider().start();
    for (pod, to) in [(&far, FAST), (&outsider, stage.api.addr(8080))] {
        let mut client = pod.tcp_connect(to).unwrap();
        let (mut server, _) = stage.listener.accept().unwrap();
        assert_eq!(pass(&mut client, &mut server, b"hello"), b"hello");
    }
    assert_eq!(stage.latches(), [0, 0, 0]);
}

#[test]
fn a_pod_that_dials_itself_stays_native() {
    let Some(stage) = Stage::open() else { return };
    let mut client = stage.api.tcp_connect(FAST).unwrap();
    let (mut server, _) = stage.listener.accept().unwrap();
    assert_eq!(pass(&mut client, &mut server, b"hello"), b"hello");
    assert_eq!(stage.latches(), [0, 0, 0]);
}

#[test]
fn a_socket_with_another_protocol_on_it_stays_native_and_is_counted() {
    let Some(stage) = Stage::open() else { return };
    // MPTCP is an upper layer protocol, as kTLS is.
    let mut client = TcpStream::from(stage.web.open(&SocketRequest::mptcp(FAST)).unwrap());
    let (mut server, _) = stage.listener.accept().unwrap();
    assert_eq!(pass(&mut client, &mut server, b"hello"), b"hello");
    assert_eq!(pass(&mut server, &mut client, b"you"), b"you");
    assert_eq!(stage.latches()[0], 0);
    assert_eq!(stage.count("pair_busy"), 1);
}

#[test]
fn a_socket_in_the_map_of_another_tool_stays_native_and_is_counted() {
    let Some(stage) = Stage::open() else { return };
    // The client's, then the server's. A program of the pod's own group runs before ours.
    for (number, pod) in (1..).zip([&stage.web, &stage.api]) {
        let foreign = Foreign::sockmap(pod.cgroup()).unwrap();
        let (mut client, mut server) = stage.connect(FAST);
        assert_eq!(pass(&mut client, &mut server, b"hello"), b"hello");
        assert_eq!(pass(&mut server, &mut client, b"you"), b"you");
        assert_eq!(stage.count("pair_busy"), number);
        drop(foreign);
    }
    // A server that finds no pair of its client's does not ask; one that is refused does not begin.
    assert_eq!(stage.count("bytes_redirected"), 0);
    let (mut client, mut server) = stage.connect(FAST);
    assert_eq!(pass(&mut client, &mut server, b"hello"), b"hello");
    assert_eq!(stage.count("bytes_redirected"), 5, "without the other tool it joins");
}

#[test]
fn a_socket_that_dials_a_second_time_meets_its_new_server_only() {
    let Some(stage) = Stage::open() else { return };
    let (client, mut first) = stage.connect(FAST);
    let mut client = client;
    assert_eq!(pass(&mut client, &mut first, b"first"), b"first");
    first.write_all(b"never read").unwrap();
    crate::deviations::disconnect(&client);
    rustix::net::connect(&client, &FAST).unwrap();
    let (mut second, _) = stage.listener.accept().unwrap();
    assert_eq!(pass(&mut client, &mut second, b"second"), b"second");
    assert_eq!(stage.latches(), [3, 0, 0]);
    // Whatever the first server still says, nobody hears it.
    let _ = first.write_all(b"ghost");
    assert_eq!(pass(&mut second, &mut client, b"answer"), b"answer");
    client.set_nonblocking(true).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
