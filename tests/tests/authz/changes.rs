//! A change of policy, while something goes on.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv6Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use weft_tests::soon;

use crate::stage::{Stage, ask};

const OPEN: &str = "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /nothing}]}}]";
const NO_LONG: &str = "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /long}]}}]";
const PORT: u16 = 8081;

#[test]
fn a_change_ends_exactly_the_answers_that_it_forbids_within_a_second() {
    let Some(stage) = Stage::open(OPEN) else { return };
    endless(&stage);
    let begin = |path: &str| {
        let mut stream = stage.web.tcp_connect(stage.api.addr(PORT)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: api\r\n\r\n").unwrap();
        let mut first = [0; 64];
        stream.read_exact(&mut first).unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&first));
        stream
    };
    soon(|| ask(&stage.web, stage.api.addr(8080), ("GET", "/nothing"), &[]).is_ok_and(|a| a.status == 403));
    let (mut forbidden, mut allowed) = (begin("/long"), begin("/other"));
    stage.apply(NO_LONG);
    let enforced = Instant::now();
    let end = loop {
        match forbidden.read(&mut [0; 4096]) {
            Ok(0) => break ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(end, ErrorKind::ConnectionReset, "what is cut does not look complete");
    assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
    for _ in 0..20 {
        allowed.read_exact(&mut [0; 16]).unwrap();
    }
}

#[test]
fn a_connection_from_before_is_judged_as_bytes_once_policies_read_requests() {
    let elsewhere = OPEN.replace("rules: [{", "rules: [{networkAttributes: {ports: [8080]}, ");
    let Some(stage) = Stage::open(&elsewhere) else { return };
    let mut live = stage.web.tcp_connect(stage.api.addr(9000)).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    live.write_all(b"x").unwrap();
    live.read_exact(&mut [0]).unwrap();
    stage.apply(OPEN);
    let enforced = Instant::now();
    let end = live.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "nobody can tell what is asked on it");
    assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
}

/// Has `api` answer every request on [`PORT`] without end.
fn endless(stage: &Stage) {
    let listener = stage.api.tcp_listen((Ipv6Addr::UNSPECIFIED, PORT).into()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    if lines.any(|line| line.is_empty()) {
        let mut stream = stream;
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(b"10\r\n0123456789abcdef\r\n");
            // A stream that goes on, not a flood.
            thread::park_timeout(Duration::from_millis(10));
        }
    }
}
