//! Case 41: a reader that does not read holds up its writer, as under TCP, at most 2 MiB later.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::stage::{FAST, PLAIN, Stage, pattern};

/// More than any buffer holds. The design's writer has 1 GiB to write, which blocks no differently.
const ALL: usize = 48 << 20;
const MOST: usize = 2 << 20;

#[test]
fn a_writer_blocks_at_most_two_mebibytes_later_than_under_tcp_and_every_byte_arrives() {
    let Some(stage) = Stage::open() else { return };
    for size in [100, 1000, 8192, 32 << 10] {
        let (plain, _plain) = fill(stage.connect(PLAIN), size);
        let before = stage.count("bytes_redirected");
        let (held, (client, server)) = fill(stage.connect(FAST), size);
        let redirected = stage.count("bytes_redirected") - before;
        assert!(redirected > 0, "writes of {size}: nothing was redirected");
        assert!(redirected <= 1 << 20, "writes of {size}: {redirected} bytes redirected");
        assert!(held <= plain + MOST, "writes of {size}: {held} bytes held, {plain} by TCP");
        drain(client, server, held, size);
    }
}

#[test]
fn a_reader_that_is_only_slow_gets_every_byte_in_order() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    let writer = thread::spawn(move || {
        let data = pattern(0, ALL / 8);
        for (number, piece) in data.chunks(5000).enumerate() {
            // Of all sizes, so that it leaves the redirect at some point.
            client.write_all(&piece[..piece.len().min(1 + number * 7)]).unwrap();
            client.write_all(&piece[piece.len().min(1 + number * 7)..]).unwrap();
        }
    });
    let expected = pattern(0, ALL / 8);
    let mut got = Vec::new();
    let mut piece = vec![0; 3000];
    loop {
        let len = server.read(&mut piece).unwrap();
        if len == 0 {
            break;
        }
        got.extend_from_slice(&piece[..len]);
        if got.len() % 16 == 0 {
            thread::yield_now();
        }
    }
    writer.join().unwrap();
    assert!(got == expected, "{} of {} bytes, or others", got.len(), expected.len());
}

/// Writes until the connection takes nothing for a while. Returns how much it took.
fn fill((mut client, server): (TcpStream, TcpStream), size: usize) -> (usize, (TcpStream, TcpStream)) {
    client.set_nonblocking(true).unwrap();
    let data = pattern(0, size * 256);
    let (mut held, mut last) = (0, Instant::now());
    while last.elapsed() < Duration::from_millis(300) {
        let at = held % data.len();
        match client.write(&data[at..(at + size).min(data.len())]) {
            Ok(len) => (held, last) = (held + len, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        assert!(held < ALL, "the writer never blocks");
    }
    client.set_nonblocking(false).unwrap();
    (held, (client, server))
}

/// Lets the writer go on to the end, and reads everything.
fn drain(mut client: TcpStream, mut server: TcpStream, held: usize, size: usize) {
    let period = size * 256;
    let writer = thread::spawn(move || {
        let data = pattern(0, period);
        let mut at = held;
        while at < held + (4 << 20) {
            let end = (at % period + size).min(period);
            client.write_all(&data[at % period..end]).unwrap();
            at += end - at % period;
        }
        at
    });
    let data = pattern(0, period);
    let began = Instant::now();
    let (mut at, mut piece) = (0, vec![0; 64 << 10]);
    loop {
        let len = server.read(&mut piece).unwrap();
        if len == 0 {
            break;
        }
        for byte in &piece[..len] {
            assert_eq!(*byte, data[at % period], "byte {at}, writes of {size}");
            at += 1;
        }
    }
    assert_eq!(at, writer.join().unwrap());
    assert!(began.elapsed() < Duration::from_secs(3), "resumed after {:?}", began.elapsed());
}
