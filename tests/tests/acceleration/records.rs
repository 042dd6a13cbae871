//! Case 47: what is counted is what was sent.

use std::io::{Read as _, Write as _};
use std::thread;

use weft_tests::soon;

use crate::stage::{FAST, Stage, pattern};

const CHUNK: usize = 16 << 10;
const ALL: usize = 100 << 20;

#[test]
fn an_echo_of_a_hundred_mebibytes_is_recorded_to_the_byte() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    let echo = thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        while server.read_exact(&mut chunk).is_ok() {
            server.write_all(&chunk).unwrap();
        }
    });
    let sent = pattern(0, CHUNK);
    let mut got = vec![0; CHUNK];
    for _ in 0..ALL / CHUNK {
        client.write_all(&sent).unwrap();
        client.read_exact(&mut got).unwrap();
        assert!(got == sent);
    }
    let live = stage.node.weft_json(&["get", "connections"]);
    let live = live.as_array().unwrap().iter().find(|row| row["path"] == "accelerated").unwrap();
    assert_eq!(live["bytesSent"], ALL);
    drop(client);
    echo.join().unwrap();
    let mut closed = None;
    soon(|| {
        closed = stage.node.flows(&[]).into_iter().find(|flow| flow["kind"] == "closed");
        closed.is_some()
    });
    let closed = closed.unwrap();
    assert_eq!(closed["path"], "accelerated");
    assert_eq!((&closed["bytesSent"], &closed["bytesReceived"]), (&ALL.into(), &ALL.into()));
    assert_eq!(stage.latches(), [2, 0, 0]);
    assert_eq!((stage.count("bytes_redirected"), stage.count("bytes_native")), (2 * ALL as u64, 0));
}

#[test]
fn bytes_of_both_ways_add_up_when_a_connection_uses_both() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    for size in [10, 1000, 100_000, 5] {
        client.write_all(&pattern(0, size)).unwrap();
        server.read_exact(&mut vec![0; size]).unwrap();
    }
    server.write_all(&pattern(0, 200_000)).unwrap();
    client.read_exact(&mut vec![0; 200_000]).unwrap();
    drop((client, server));
    let mut closed = None;
    soon(|| {
        closed = stage.node.flows(&[]).into_iter().find(|flow| flow["kind"] == "closed");
        closed.is_some()
    });
    let closed = closed.unwrap();
    assert_eq!((&closed["bytesSent"], &closed["bytesReceived"]), (&101_015.into(), &200_000.into()));
    assert_eq!(stage.latches(), [1, 1, 1]);
    // The server's socket may close a moment later.
    soon(|| stage.count("bytes_native") == 300_005);
    assert_eq!(stage.count("bytes_redirected"), 1010);
}
