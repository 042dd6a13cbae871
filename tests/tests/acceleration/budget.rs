//! Case 41: a reader that does not read holds up its writer, as under TCP, at most 2 MiB later.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::stage::{FAST, PLAIN, Stage, pattern};

/// More than any buffer holds.
const ALL: usize = 48 << 20;
const MOST: usize = 2 << 20;

#[test]
fn a_writer_blocks_at_most_two_mebibytes_later_than_under_tcp_and_every_byte_arrives() {
    let Some(stage) = Stage::open() else { return };
    let from_server = |(client, server)| (server, client);
    let cases = [100, 1000, 8192, 32 << 10].map(|size| (size, false)).into_iter().chain([(8192, true)]);
    for (size, turned) in cases {
        let connect = |to| if turned { from_server(stage.connect(to)) } else { stage.connect(to) };
        let (plain, _plain) = fill(connect(PLAIN), size);
        let before = stage.count("bytes_redirected");
        let (held, (client, server)) = fill(connect(FAST), size);
        let redirected = stage.count("bytes_redirected") - before;
        assert!(redirected > 0, "writes of {size}: nothing was redirected");
        assert!(redirected <= 1 << 20, "writes of {size}: {redirected} bytes redirected");
        assert!(held <= plain + MOST, "writes of {size}: {held} bytes held, {plain} by TCP");
        drain(client, server, size, held..held + (4 << 20));
    }
}

#[test]
fn a_gibibyte_behind_an_idle_reader_waits_within_the_budget_and_arrives_whole() {
    let Some(stage) = Stage::open() else { return };
    let size = 32 << 10;
    let (plain, _plain) = fill(stage.connect(PLAIN), size);
    let (held, (client, server)) = fill(stage.connect(FAST), size);
    assert!(held <= plain + MOST, "{held} bytes held, {plain} by TCP");
    drain(client, server, size, held..1 << 30);
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

/// Lets the writer, who is at the start of `rest`, go on to its end, and reads everything.
fn drain(mut client: TcpStream, mut server: TcpStream, size: usize, rest: Range<usize>) {
    let data = Arc::new(pattern(0, size * 256));
    let limit = Duration::from_secs(3 + rest.len() as u64 / (50 << 20));
    let (written, mut next, end) = (Arc::clone(&data), rest.start, rest.end);
    let writer = thread::spawn(move || {
        while next < end {
            let from = next % written.len();
            let piece = &written[from..written.len().min(from + size.min(end - next))];
            client.write_all(piece).unwrap();
            next += piece.len();
        }
    });
    let began = Instant::now();
    let (mut at, mut piece) = (0, vec![0; 64 << 10]);
    loop {
        // Up to the end of the pattern, so that what is read is one part of it.
        let from = at % data.len();
        let most = piece.len().min(data.len() - from);
        let len = server.read(&mut piece[..most]).unwrap();
        if len == 0 {
            break;
        }
        assert!(piece[..len] == data[from..from + len], "{len} bytes from {at}, writes of {size}");
        at += len;
    }
    assert_eq!(at, end);
    writer.join().unwrap();
    assert!(began.elapsed() < limit, "resumed after {:?}", began.elapsed());
}
