//! Edges on the proxy's legs: who takes a short read for the last misses nothing that the same edge has told of.

use std::io::Read as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime;
use weft_tests::Suspended;

use crate::legs::{LIMIT, Legs, ROUNDS, block, head, message, send, take};

#[test]
fn a_client_that_is_told_of_edges_misses_nothing_of_short_and_long_answers_in_turns() {
    let Some(legs) = Legs::open() else { return };
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for run in (0..ROUNDS).step_by(4) {
        let (client, mut server) = legs.exchange("GET", 0);
        let reader = runtime.spawn(async move {
            let mut client = tokio::net::TcpStream::from_std(client.into_inner()).unwrap();
            for size in ANSWERS {
                // Each read asks for more than there can be: tokio takes a short one for the last.
                let (mut piece, mut got) = (vec![0; 1 << 20], Vec::new());
                while !got.ends_with(&block(run, size)) {
                    let read = tokio::time::timeout(LIMIT, client.read(&mut piece)).await;
                    let read = read.unwrap_or_else(|_| panic!("run {run}: {} of {size} bytes", got.len()));
                    got.extend_from_slice(&piece[..read.unwrap()]);
                }
                client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
            }
            client
        });
        for size in ANSWERS {
            let answer = message("HTTP/1.1 200 OK", &block(run, size));
            for piece in answer.chunks(1000 + 997 * run) {
                send(&mut server, piece);
            }
            head(&mut server, "GET /");
        }
        // The last question gets its answer, too: it is not asked again elsewhere.
        let _client = runtime.block_on(reader).unwrap();
        send(&mut server, &message("HTTP/1.1 200 OK\r\nConnection: close", b""));
    }
}

#[test]
fn what_comes_behind_a_message_that_waits_is_read_although_one_edge_told_of_both() {
    let Some(legs) = Legs::open() else { return };
    for raw in [false, true] {
        let (mut client, mut server) =
            if raw { legs.relayed() } else { legs.exchange("POST", 2 * PIECE + 10) };
        // It finds a small write, which is redirected, and one that is too large for that, at once.
        let suspended = Suspended::new(legs.shop.node.proxy_pid());
        let body = block(0, 2 * PIECE + 10);
        let answer = message("HTTP/1.1 200 OK", &body[..PIECE + 10]);
        for (end, bytes) in [(&mut client, &body), (&mut server, &answer)] {
            let small = bytes.len() - PIECE;
            send(end, &bytes[..small.min(10)]);
            send(end, &bytes[small.min(10)..]);
        }
        drop(suspended);
        let mut got = vec![0; body.len()];
        server.read_exact(&mut got).unwrap();
        assert!(got == body, "raw: {raw}");
        got.resize(if raw { answer.len() } else { PIECE + 10 }, 0);
        if raw {
            client.read_exact(&mut got).unwrap();
            assert!(got == answer);
        } else {
            assert!(take(&mut client, "200 OK") == answer[answer.len() - PIECE - 10..]);
        }
    }
}

#[test]
fn a_long_request_behind_a_short_one_is_found_by_the_edge_that_told_of_both() {
    let Some(legs) = Legs::open() else { return };
    let (mut client, mut server) = legs.exchange("GET", 0);
    let answer = |client: &mut _, server: &mut _| {
        send(server, &message("HTTP/1.1 200 OK", b"short"));
        assert_eq!(take(client, "200 OK"), b"short");
    };
    answer(&mut client, &mut server);
    let suspended = Suspended::new(legs.shop.node.proxy_pid());
    send(&mut client, b"GET /short HTTP/1.1\r\nHost: test\r\n\r\n");
    // Too large for a redirect.
    send(&mut client, &message("POST /long HTTP/1.1\r\nHost: test", &block(0, PIECE)));
    drop(suspended);
    // The proxy reads the first, which is short, and waits for its answer.
    head(&mut server, "GET /short");
    answer(&mut client, &mut server);
    assert!(take(&mut server, "POST /long") == block(0, PIECE));
    answer(&mut client, &mut server);
}

/// Bodies of answers: of short ones, and of others.
const ANSWERS: [usize; 5] = [10, 60_000, 1_000, 2 << 20, 5_000];
const PIECE: usize = 60_000;
