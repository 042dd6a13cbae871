//! Case 40 of the data path's tests: every byte in its place, whenever the sockets find each other.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::net::sockopt::set_tcp_nodelay;

use crate::stage::{FAST, Stage, pass, pattern};

const RUNS: usize = 10_000;

#[test]
fn bytes_written_right_after_connecting_arrive_in_order() {
    let Some(stage) = Stage::open() else { return };
    for run in 0..RUNS {
        let mut client = stage.web.tcp_connect(FAST).unwrap();
        talk(run, &mut client, |_| stage.listener.accept().unwrap().0);
    }
    let [redirect, native, left] = stage.latches();
    assert_eq!((redirect + native, left), (2 * RUNS as u64, 0));
    // A client that is faster than its own handshake's last step goes native: a race, not the rule.
    assert!(redirect > native, "{redirect} directions redirected, {native} not");
}

#[test]
fn a_server_that_joins_after_the_first_bytes_gets_them_first() {
    let Some(stage) = Stage::open() else { return };
    // The server's socket is made when data comes in: the first write always finds it missing.
    set_defer_accept(&stage);
    for run in 0..RUNS / 10 {
        let mut client = stage.web.tcp_connect(FAST).unwrap();
        talk(run, &mut client, |_| stage.listener.accept().unwrap().0);
    }
    let [redirect, native, _] = stage.latches();
    let runs = RUNS as u64 / 10;
    // The server's own direction knows that the client is there.
    assert_eq!((redirect, native), (runs, runs));
}

#[test]
fn a_large_write_behind_small_ones_arrives_behind_them() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    assert_eq!(pass(&mut client, &mut server, b"first"), b"first");
    let (small, large) = (pattern(0, 1000), pattern(1000, 300_000));
    client.write_all(&small).unwrap();
    let writer = std::thread::spawn(move || {
        client.write_all(&large).unwrap();
        client.write_all(b"and small again").unwrap();
        client
    });
    let mut got = vec![0; 301_000];
    server.read_exact(&mut got).unwrap();
    assert!(got == pattern(0, 301_000));
    let mut end = [0; 15];
    server.read_exact(&mut end).unwrap();
    assert_eq!(&end, b"and small again");
    let mut client = writer.join().unwrap();
    // The reader has taken everything: the next one is TCP's, and so is what follows it.
    assert!(pass(&mut client, &mut server, &pattern(0, 60_000)) == pattern(0, 60_000));
    assert_eq!(pass(&mut client, &mut server, b"and small"), b"and small");
    assert_eq!(stage.latches(), [1, 0, 1]);
}

#[test]
fn what_was_written_during_the_handshake_stays_in_front() {
    let Some(stage) = Stage::open() else { return };
    for _ in 0..100 {
        let request = weft_tests::SocketRequest::tcp(FAST).non_blocking();
        let mut client = TcpStream::from(stage.web.open(&request).unwrap());
        client.set_nonblocking(false).unwrap();
        set_tcp_nodelay(client.as_fd(), true).unwrap();
        // Waits inside the kernel for the handshake, if that is not over yet.
        client.write_all(b"one ").unwrap();
        client.write_all(b"two ").unwrap();
        let (mut server, _) = stage.listener.accept().unwrap();
        client.write_all(b"three").unwrap();
        let mut got = [0; 13];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"one two three");
    }
}

/// Writes at once, in pieces, reads them at the server, and takes an answer.
fn talk(run: usize, client: &mut TcpStream, accept: impl FnOnce(&TcpStream) -> TcpStream) {
    let sizes = [1 + run % 7, 100 + run % 1000, 20_000 + run % 20_000, 3];
    let mut at = 0;
    for size in sizes.iter().take(1 + run % 4) {
        // A write beyond 32 KiB would leave the redirect, which is another test's.
        client.write_all(&pattern(at, (*size).min(32 << 10))).unwrap();
        at += (*size).min(32 << 10);
    }
    let mut server = accept(client);
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut got = vec![0; at];
    server.read_exact(&mut got).unwrap();
    assert!(got == pattern(0, at), "run {run}");
    assert_eq!(pass(&mut server, client, &run.to_le_bytes()), run.to_le_bytes());
}

fn set_defer_accept(stage: &Stage) {
    crate::deviations::set_option(&stage.listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 5);
}
