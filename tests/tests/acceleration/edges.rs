//! A reader that epoll tells of edges, and that takes a short read for the last, as tokio's sockets do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::{runtime, time};

use crate::stage::{FAST, PLAIN, Stage, pass, pattern, service};

#[test]
fn what_comes_behind_a_message_that_waits_is_found_by_the_edge_that_told_of_both() {
    let Some(stage) = Stage::open() else { return };
    for to in [PLAIN, FAST] {
        let (mut client, mut server) = stage.connect(to);
        assert_eq!(pass(&mut client, &mut server, b"go"), b"go");
        client.write_all(&pattern(0, SMALL)).unwrap();
        // Beyond what is worth redirecting. Both are there before the reader looks.
        client.write_all(&pattern(SMALL, LARGE)).unwrap();
        assert!(read_by_edges(server, SMALL + LARGE) == pattern(0, SMALL + LARGE));
    }
    assert_eq!(stage.latches(), [1, 0, 0], "a reader that has not taken everything keeps its direction");
}

#[test]
fn so_is_what_comes_after_the_switch_was_thrown() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    assert_eq!(pass(&mut client, &mut server, b"go"), b"go");
    client.write_all(&pattern(0, SMALL)).unwrap();
    stage.world.apply("fast.yaml", &service("fast", "10.96.0.1", false));
    stage.node.wait();
    client.write_all(&pattern(SMALL, SMALL)).unwrap();
    assert!(read_by_edges(server, 2 * SMALL) == pattern(0, 2 * SMALL));
}

#[test]
fn whenever_a_direction_goes_native_its_reader_is_told_of_it() {
    let Some(stage) = Stage::open() else { return };
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for run in 0..RUNS {
        let (mut client, mut server) = stage.connect(FAST);
        assert_eq!(pass(&mut client, &mut server, b"go"), b"go");
        server.set_nonblocking(true).unwrap();
        let reader = runtime.spawn(async move {
            let mut server = tokio::net::TcpStream::from_std(server).unwrap();
            let got = by_edges(&mut server, SMALL + LARGE).await;
            server.write_all(b"thanks").await.unwrap();
            got
        });
        client.write_all(&pattern(0, SMALL)).unwrap();
        // The second write meets the reader before, in and behind its read of the first, and nothing comes after it.
        let wait = Duration::from_nanos(400) * u32::try_from(run % 250).unwrap();
        let began = Instant::now();
        while began.elapsed() < wait {
            std::hint::spin_loop();
        }
        client.write_all(&pattern(SMALL, LARGE)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.read_exact(&mut [0; 6]).unwrap_or_else(|error| panic!("run {run}: {error}"));
        assert!(runtime.block_on(reader).unwrap() == pattern(0, SMALL + LARGE), "run {run}");
    }
    let [redirected, _, left] = stage.latches();
    assert!(left > 0 && left < redirected, "{left} of {redirected} directions went native");
}

#[test]
fn a_writer_that_never_lets_its_reader_rest_stays_within_the_budget_and_loses_nothing() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    assert_eq!(pass(&mut client, &mut server, b"go"), b"go");
    let writer = thread::spawn(move || {
        for at in (0..STREAM).step_by(LARGE) {
            client.write_all(&pattern(at, LARGE.min(STREAM - at))).unwrap();
        }
        client
    });
    let got = read_by_edges(server, STREAM);
    assert!(got == pattern(0, STREAM));
    drop(writer.join().unwrap());
}

/// Reads so many bytes on a runtime of its own.
fn read_by_edges(server: TcpStream, len: usize) -> Vec<u8> {
    server.set_nonblocking(true).unwrap();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { by_edges(&mut tokio::net::TcpStream::from_std(server).unwrap(), len).await })
}

/// Reads so many bytes, each time more than there can be.
async fn by_edges(server: &mut tokio::net::TcpStream, len: usize) -> Vec<u8> {
    let (mut piece, mut all) = (vec![0; 1 << 20], Vec::new());
    while all.len() < len {
        let read = time::timeout(LIMIT, server.read(&mut piece)).await;
        let read = read.unwrap_or_else(|_| panic!("nobody tells of what comes after {} bytes", all.len()));
        all.extend_from_slice(&piece[..read.unwrap()]);
    }
    all
}

const SMALL: usize = 1000;
/// More than is worth redirecting.
const LARGE: usize = 60_000;
const STREAM: usize = 64 << 20;
const RUNS: usize = 2000;
const LIMIT: Duration = Duration::from_secs(20);
