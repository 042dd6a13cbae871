//! Case 43: ends of connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weft_tests::{manifests, soon};

use crate::deviations::set_option;
use crate::stage::{FAST, PLAIN, Stage, pass};

#[test]
fn either_end_may_close_its_direction_first() {
    let Some(stage) = Stage::open() else { return };
    for client_first in [true, false] {
        let (client, server) = stage.connect(FAST);
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"last words").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        second.read_to_string(&mut got).unwrap();
        assert_eq!(got, "last words");
        second.write_all(b"and the answer").unwrap();
        drop(second);
        got.clear();
        first.read_to_string(&mut got).unwrap();
        assert_eq!(got, "and the answer");
    }
    assert_eq!(stage.latches(), [4, 0, 0]);
}

#[test]
fn what_was_sent_before_a_reset_can_be_read_before_it() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    pass(&mut server, &mut client, b"go");
    client.write_all(b"last words").unwrap();
    reset(client);
    let mut got = [0; 10];
    server.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"last words");
    assert_eq!(error_of(&mut server), ErrorKind::ConnectionReset);
}

#[test]
fn closing_with_bytes_unread_looks_like_a_clean_end() {
    let Some(stage) = Stage::open() else { return };
    // Under TCP it is a reset: who depends on that must not have the annotation.
    assert_eq!(close_unread(&stage, PLAIN), Err(ErrorKind::ConnectionReset));
    assert_eq!(close_unread(&stage, FAST), Ok(0));
}

#[test]
fn a_writer_whose_reader_has_gone_is_told_so() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    pass(&mut client, &mut server, b"go");
    drop(server);
    let mut told = None;
    soon(|| {
        told = client.write_all(b"anybody there?").err().map(|error| error.kind());
        told.is_some()
    });
    assert!(matches!(told, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{told:?}");
}

#[test]
fn a_policy_that_forbids_a_connection_ends_both_ends_within_a_second() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    pass(&mut client, &mut server, b"go");
    pass(&mut server, &mut client, b"went");
    let others = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}], action: ALLOW, \
                  rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: nobody}}]}]}";
    let began = Instant::now();
    stage.world.apply("others.yaml", &manifests::authorization_policy("shop/others", others));
    for end in [&mut client, &mut server] {
        let error = error_of(end);
        assert!(matches!(error, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(stage.latches(), [2, 0, 0]);
}

/// What a read fails with; a blocked one may have been woken with EAGAIN, which is a deviation.
fn error_of(end: &mut TcpStream) -> ErrorKind {
    let first = end.read(&mut [0]).unwrap_err().kind();
    if first == ErrorKind::WouldBlock { end.read(&mut [0]).unwrap_err().kind() } else { first }
}

fn close_unread(stage: &Stage, to: SocketAddr) -> Result<usize, ErrorKind> {
    let (mut client, mut server) = stage.connect(to);
    pass(&mut client, &mut server, b"go");
    client.write_all(b"unread").unwrap();
    drop(server);
    client.read(&mut [0]).map_err(|error| error.kind())
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    set_linger(&stream);
    drop(stream);
}

fn set_linger(stream: &TcpStream) {
    use rustix::net::sockopt::set_socket_linger;
    set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
    set_option(stream, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0);
}
