//! Cases 44 and 46: the switch, and an agent that comes and goes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use weft_tests::soon;

use crate::stage::{FAST, Stage, pass, pattern, service};

#[test]
fn without_the_annotation_messages_go_natively_once_those_before_are_read_and_in_order() {
    let Some(stage) = Stage::open() else { return };
    let stream = Stream::start(stage.connect(FAST));
    let (mut quiet, mut reader) = stage.connect(FAST);
    quiet.write_all(b"before ").unwrap();
    stage.world.apply("fast.yaml", &service("fast", "10.96.0.1", false));
    stage.node.wait();
    // Behind what waits unread, TCP would bring it unnoticed by a reader that is told of edges.
    quiet.write_all(b"after ").unwrap();
    let mut got = [0; 13];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"before after ");
    assert_eq!(pass(&mut quiet, &mut reader, b"by TCP"), b"by TCP");
    stream.goes_on();
    assert_eq!(stage.latches(), [2, 0, 2]);
    let redirected = stage.count("bytes_redirected");
    stream.goes_on();
    assert_eq!(stage.count("bytes_redirected"), redirected);
    stream.end();
}

#[test]
fn off_costs_nothing_no_socket_joins() {
    let Some(stage) = Stage::open_with(&["--acceleration", "off"]) else { return };
    assert!(stage.why_off().unwrap().contains("switched off"), "{:?}", stage.why_off());
    let (mut client, mut server) = stage.connect(FAST);
    pass(&mut client, &mut server, b"through TCP");
    assert_eq!(stage.latches(), [0, 0, 0]);
}

#[test]
fn an_agent_that_is_told_to_switch_it_off_ends_it_on_live_connections() {
    let Some(mut stage) = Stage::open() else { return };
    let stream = Stream::start(stage.connect(FAST));
    stream.goes_on();
    let before = stage.count("bytes_redirected");
    stream.goes_on();
    assert!(stage.count("bytes_redirected") > before, "it was on");
    stage.agent.restart_with(&["--acceleration", "off"]);
    stream.goes_on();
    let redirected = stage.count("bytes_redirected");
    stream.goes_on();
    assert_eq!(stage.count("bytes_redirected"), redirected);
    stream.end();
}

#[test]
fn an_agent_that_restarts_leaves_accelerated_connections_as_they_are() {
    let Some(mut stage) = Stage::open() else { return };
    let stream = Stream::start(stage.connect(FAST));
    stream.goes_on();
    stage.agent.restart();
    stream.goes_on();
    assert_eq!(stage.latches(), [1, 0, 0]);
    let (mut client, mut server) = stage.connect(FAST);
    pass(&mut client, &mut server, b"new");
    assert_eq!(stage.latches(), [2, 0, 0]);
    stream.end();
}

#[test]
fn a_cleanup_in_the_middle_of_a_stream_loses_no_byte() {
    let Some(mut stage) = Stage::open() else { return };
    let stream = Stream::start(stage.connect(FAST));
    let (mut quiet, mut reader) = stage.connect(FAST);
    quiet.write_all(b"waits in the socket while the maps lose their pins").unwrap();
    stream.goes_on();
    stage.agent.cleanup();
    stream.goes_on();
    let mut got = [0; 50];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"waits in the socket while the maps lose their pins");
    assert_eq!(pass(&mut quiet, &mut reader, b"through TCP"), b"through TCP");
    stream.end();
    stage.agent.start();
    stage.node.wait();
}

#[test]
fn a_bulk_stream_leaves_the_map_and_its_answer_arrives_in_order() {
    let Some(stage) = Stage::open() else { return };
    let (mut client, mut server) = stage.connect(FAST);
    let writer = thread::spawn(move || {
        client.write_all(b"head").unwrap();
        client.write_all(&pattern(0, BULK)).unwrap();
        client
    });
    let mut got = vec![0; BULK + 4];
    server.read_exact(&mut got).unwrap();
    assert!(&got[..4] == b"head" && got[4..] == pattern(0, BULK));
    let mut client = writer.join().unwrap();
    // The client's socket is not in the map any more: nothing can be redirected to it.
    assert_eq!(pass(&mut server, &mut client, b"answer"), b"answer");
    assert_eq!(pass(&mut client, &mut server, b"and so on"), b"and so on");
    assert_eq!(stage.latches(), [1, 1, 1]);
}

/// A stream of small messages, checked byte by byte while it runs.
struct Stream {
    stop: Arc<AtomicBool>,
    read: Arc<AtomicUsize>,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn start((mut client, mut server): (TcpStream, TcpStream)) -> Self {
        let (stop, read): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&read));
        let writer = thread::spawn(move || {
            let mut at = 0;
            while !stopped.load(Ordering::Relaxed) {
                client.write_all(&pattern(at, 777)).unwrap();
                at += 777;
                // The reader keeps up: what ends the redirect is not the budget.
                thread::sleep(Duration::from_micros(300));
            }
        });
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            let mut at = 0;
            loop {
                match server.read(&mut piece).unwrap() {
                    0 => return,
                    len => {
                        assert!(piece[..len] == pattern(at, len), "bytes {at} and on");
                        at += len;
                    }
                }
                count.store(at, Ordering::Relaxed);
            }
        });
        Self { stop, read, writer, reader }
    }

    /// Waits until more has arrived.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.read.load(Ordering::Relaxed);
        soon(|| self.read.load(Ordering::Relaxed) > before + 100_000);
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap();
        self.reader.join().unwrap();
    }
}

const BULK: usize = 16 << 20;
