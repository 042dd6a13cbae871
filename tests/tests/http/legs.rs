//! Same-node acceleration of the proxy's own legs: short messages of HTTP/1 pass from socket to socket, everything
//! else that apps read of the proxy is TCP's.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::{set_tcp_congestion, tcp_congestion};
use weft_tests::{Polled, manifests, soon};

use crate::shop::{ROUTE, Shop, vip};

#[test]
fn short_messages_are_redirected_on_both_legs_and_where_the_agent_is_told_so_only_what_the_proxy_reads() {
    for (arguments, times) in [(&[][..], 2), (&["--acceleration", "proxy"], 1)] {
        let Some(legs) = Legs::open_with(arguments) else { return };
        let before = legs.shop.node.stat("bytes_redirected");
        let (mut client, mut server) = legs.exchange("GET", 0);
        for round in 0..ROUNDS {
            // One answer, and the next request.
            send(&mut server, &message("HTTP/1.1 200 OK", &block(round, SIZE)));
            assert!(take(&mut client, "200 OK") == block(round, SIZE), "answer {round}");
            send(&mut client, &message("POST / HTTP/1.1\r\nHost: test", &block(round, SIZE)));
            assert!(take(&mut server, "POST /") == block(round, SIZE), "request {round}");
        }
        let redirected = legs.shop.node.stat("bytes_redirected") - before;
        // What each app has written, once or twice; a quarter more is room for heads.
        let read = (times * 2 * ROUNDS * SIZE) as u64;
        let all = if weft_tests::kernel() >= OLDEST { read..read + read / 4 } else { 0..1 };
        assert!(all.contains(&redirected), "{arguments:?}: {redirected} bytes of {read}");
    }
}

#[test]
fn an_app_is_sent_what_is_long_or_of_unknown_length_through_tcp_from_its_first_byte() {
    let Some(legs) = Legs::open() else { return };
    for chunked in [false, true] {
        let (mut client, mut server) = legs.exchange("GET", 0);
        send(&mut server, &message("HTTP/1.1 200 OK", b"short"));
        assert_eq!(take(&mut client, "200 OK"), b"short");
        let before = legs.shop.node.stat("bytes_redirected");
        // In one write each, which is too large for a redirect.
        send(&mut client, &long("POST /long HTTP/1.1\r\nHost: test", chunked));
        take_long(&mut server, "POST /long", chunked);
        send(&mut server, &long("HTTP/1.1 201 Created", chunked));
        take_long(&mut client, "201 Created", chunked);
        // The next short ones go through TCP, too.
        send(&mut client, &message("POST /next HTTP/1.1\r\nHost: test", b"short"));
        assert_eq!(take(&mut server, "POST /next"), b"short");
        send(&mut server, &message("HTTP/1.1 200 OK", b"short"));
        assert_eq!(take(&mut client, "200 OK"), b"short");
        assert_eq!(legs.shop.node.stat("bytes_redirected"), before, "chunked: {chunked}");
    }
    // What the proxy only carries, it never calls short. Of a welcome what it reads may be redirected, unless the server
    // was faster than its own handshake.
    let before = legs.shop.node.stat("bytes_redirected");
    drop(legs.relayed());
    let redirected = legs.shop.node.stat("bytes_redirected") - before;
    assert!(redirected <= "welcome".len() as u64, "{redirected}");
}

#[test]
fn a_client_that_asks_ahead_for_more_than_the_budget_gets_every_answer_in_order() {
    let Some(legs) = Legs::open() else { return };
    let (mut client, mut server) = legs.exchange("GET", 0);
    send(&mut client, "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(AHEAD).as_bytes());
    let (told, many) = std::sync::mpsc::channel();
    let answers = thread::spawn(move || {
        for at in 0..=AHEAD {
            send(&mut server, &message("HTTP/1.1 200 OK", &block(at, SIZE)));
            if at == MANY {
                told.send(()).unwrap();
            }
            if at < AHEAD {
                head(&mut server, "GET /");
            }
        }
        server
    });
    // Nobody has read anything so far.
    many.recv_timeout(LIMIT).unwrap();
    for at in 0..=AHEAD {
        assert!(take(&mut client, "200 OK") == block(at, SIZE), "answer {at}");
    }
    drop(answers.join().unwrap());
}

#[test]
fn a_large_body_arrives_whole_each_way_whatever_the_size_of_its_writes() {
    let Some(legs) = Legs::open() else { return };
    // Within the redirect, and each of them out of it.
    for size in [16 << 10, 1 << 20] {
        let (client, mut server) = legs.exchange("POST", LARGE);
        let written = writes(client, size);
        carry(&mut server, 0);
        let mut client = written.join().unwrap();
        send(&mut server, format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes());
        let written = writes(server, size);
        assert_eq!(head(&mut client, "200 OK"), LARGE);
        carry(&mut client, 0);
        drop(written.join().unwrap());
    }
    assert!(legs.shop.node.stat("latch_left") > 0, "a direction of writes of 1 MiB leaves the redirect");
}

#[test]
fn a_reader_that_waits_holds_up_the_writer_and_loses_nothing() {
    let Some(legs) = Legs::open() else { return };
    for size in [16 << 10, 1 << 20] {
        let (mut client, mut server) = legs.exchange("POST", LARGE);
        // Through both legs until nothing more fits.
        let held = fill(&mut client, size);
        assert!(held < LARGE, "the writer is never held up");
        let written = writes_from(client, size, held);
        carry(&mut server, 0);
        drop(written.join().unwrap());
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_and_each_end_may_close_its_direction_first() {
    let Some(legs) = Legs::open() else { return };
    for client_first in [true, false] {
        let (client, server) = legs.relayed();
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        send(&mut first, b"last words");
        first.shutdown(Shutdown::Write).unwrap();
        let mut got = String::new();
        second.read_to_string(&mut got).unwrap();
        assert_eq!(got, "last words");
        send(&mut second, b"and the answer");
        drop(second);
        got.clear();
        first.read_to_string(&mut got).unwrap();
        assert_eq!(got, "and the answer");
    }
}

#[test]
fn a_reset_comes_through_behind_what_was_sent_before_it() {
    let Some(legs) = Legs::open() else { return };
    for client_first in [true, false] {
        let (client, server) = legs.relayed();
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        send(&mut first, b"last words");
        rustix::net::sockopt::set_socket_linger(&first, Some(Duration::ZERO)).unwrap();
        drop(first);
        let mut got = Vec::new();
        let end = second.read_to_end(&mut got).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "client first: {client_first}");
    }
}

#[test]
fn a_killed_proxy_ends_both_legs_as_without_acceleration() {
    for arguments in [["--acceleration", "off"], ["--acceleration", "auto"]] {
        let Some(legs) = Legs::open_with(&arguments) else { return };
        let (mut client, mut server) = legs.exchange("POST", LARGE);
        send(&mut client, &block(0, SIZE));
        server.read_exact(&mut vec![0; SIZE]).unwrap();
        kill(Pid::from_raw(legs.shop.node.proxy_pid()), Signal::SIGKILL).unwrap();
        for end in [&mut client, &mut server] {
            // Whoever reads is at the end, and whoever writes is told so.
            let read = end.read(&mut [0; 100]).map_err(|error| error.kind());
            assert!(matches!(read, Ok(0) | Err(ErrorKind::ConnectionReset)), "{arguments:?}: {read:?}");
            soon(|| end.write_all(b"anybody there?").is_err());
        }
    }
}

#[test]
fn the_switch_thrown_in_the_middle_of_a_stream_loses_no_byte() {
    let Some(mut legs) = Legs::open() else { return };
    let (mut client, mut server) = legs.exchange("POST", LARGE);
    let half = LARGE / 2;
    for at in (0..half).step_by(SIZE) {
        let next = (at + SIZE).min(half);
        send(&mut client, &part(at, next));
        let mut got = vec![0; next - at];
        server.read_exact(&mut got).unwrap();
        assert!(got == part(at, next), "bytes {at} and on");
    }
    // Waits in the sockets while the switch is thrown.
    send(&mut client, &part(half, half + SIZE));
    legs.shop.agent.restart_with(&["--acceleration", "off"]);
    let redirected = legs.shop.node.stat("bytes_redirected");
    assert!(redirected >= half as u64, "{redirected} bytes redirected");
    let written = writes_from(client, SIZE, half + SIZE);
    carry(&mut server, half);
    drop(written.join().unwrap());
    assert_eq!(legs.shop.node.stat("bytes_redirected"), redirected, "off is off");
}

#[test]
fn nothing_paces_what_the_proxy_sends_to_pods_of_its_node() {
    let Some(legs) = Legs::open_with(&[]) else { return };
    let (client, server) = legs.exchange("GET", 0);
    let to_client = client.local_addr().unwrap().port();
    let to_server = server.local_addr().unwrap().port();
    for port in [to_client, to_server] {
        let socket = ["ss", "-Htin", "state", "established", &format!("dport = :{port}")];
        let said = weft_tests::text(&legs.shop.web.exec(&socket));
        assert!(said.split_whitespace().any(|word| word == "reno"), "to {port}: {said:?}");
    }
}

#[test]
fn apps_do_not_pace_what_they_send_to_the_proxy_of_their_node_even_where_they_ask_for_it() {
    let Some(legs) = Legs::open() else { return };
    let client = legs.shop.web.socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    // What it accepts has this from it.
    for app in [client.as_fd(), legs.http.as_fd()] {
        set_tcp_congestion(app, "bbr").expect("the kernel has BBR: modprobe tcp_bbr");
    }
    rustix::net::connect(&client, &vip(8)).unwrap();
    rustix::io::write(&client, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let server = Polled::accept(&legs.http).unwrap();
    for app in [client.as_fd(), server.as_fd()] {
        assert_eq!(tcp_congestion(app).unwrap(), "reno");
    }
}

/// The shop, with servers behind the proxy whose every byte the test writes.
pub(crate) struct Legs {
    http: TcpListener,
    raw: TcpListener,
    pub(crate) shop: Shop,
}

impl Legs {
    /// None where end-to-end tests are off, and on a kernel that may not accelerate: then it has been asserted that
    /// status says so and that nothing is redirected.
    pub(crate) fn open() -> Option<Self> {
        let fits = weft_tests::kernel() >= OLDEST;
        let legs = Self::open_with(if fits { &[] } else { &["--acceleration", "all"] })?;
        let off = |line: &String| line.starts_with("same-node acceleration");
        let why = legs.shop.node.degradations().into_iter().find(off);
        if fits {
            assert_eq!(why, None);
            return Some(legs);
        }
        assert!(why.is_some_and(|why| why.contains("older than 6.18.14")));
        let (_client, mut server) = legs.relayed();
        send(&mut server, b"through TCP");
        assert_eq!(legs.shop.node.stat("bytes_redirected"), 0);
        None
    }

    fn open_with(arguments: &[&str]) -> Option<Self> {
        let mut more = Vec::new();
        for (name, last, port, protocol) in [("bytes", 8, 8081, "http"), ("raw", 9, 8082, "tcp")] {
            let spec = format!(
                "{{clusterIP: 10.96.0.{last}, selector: {{app: v2}}, ports: [{{port: 80, targetPort: {port}, \
                 appProtocol: {protocol}}}]}}"
            );
            more.push((format!("{name}.yaml"), manifests::service(&format!("shop/{name}"), &spec)));
            let route = format!(
                "{{parentRefs: [{{group: \"\", kind: Service, name: {name}}}], rules: [{{backendRefs: [{{name: \
                 {name}, port: 80}}]}}]}}"
            );
            let kind = if protocol == "tcp" { manifests::tcp_route } else { manifests::http_route };
            more.push((format!("{name}-route.yaml"), kind(&format!("shop/{name}"), &route)));
        }
        let shop = Shop::open_beside(&more, "{}", ROUTE, arguments)?;
        if weft_tests::kernel() >= OLDEST && arguments != ["--acceleration", "off"] {
            soon(|| {
                let status = shop.node.weft_json(&["status"]);
                let programs = status["programs"].as_array().unwrap();
                programs.iter().any(|one| one["name"] == "weft_sk_msg" && one["state"] == "attached")
            });
        }
        let [http, raw] = [8081, 8082].map(|port| shop.v2.tcp_listen(shop.v2.addr(port)).unwrap());
        Some(Self { http, raw, shop })
    }

    /// A client's connection, and the server's that its request has come to, of which the head is read.
    pub(crate) fn exchange(&self, method: &str, length: usize) -> (Polled, Polled) {
        let mut client = Polled::connect(&self.shop.web, vip(8)).unwrap();
        let head_sent = format!("{method} / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        send(&mut client, head_sent.as_bytes());
        let mut server = Polled::accept(&self.http).unwrap();
        assert_eq!(head(&mut server, method), length);
        (client, server)
    }

    /// A connection whose bytes the proxy only carries; the server has spoken.
    pub(crate) fn relayed(&self) -> (Polled, Polled) {
        let mut client = Polled::connect(&self.shop.web, vip(9)).unwrap();
        let mut server = Polled::accept(&self.raw).unwrap();
        send(&mut server, b"welcome");
        let mut got = [0; 7];
        client.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"welcome");
        (client, server)
    }
}

pub(crate) fn send(to: &mut Polled, bytes: &[u8]) {
    to.write_all(bytes).expect("the connection takes it");
}

/// A message with this first line and this body.
pub(crate) fn message(first: &str, body: &[u8]) -> Vec<u8> {
    [format!("{first}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// Reads a message whose first line has `first` in it, and returns its body.
pub(crate) fn take(from: &mut Polled, first: &str) -> Vec<u8> {
    let mut body = vec![0; head(from, first)];
    from.read_exact(&mut body).expect("a whole body");
    body
}

/// A message with this first line that is not short, or does not say how long it is.
fn long(first: &str, chunked: bool) -> Vec<u8> {
    if !chunked {
        return message(first, &block(0, LONG));
    }
    let head = format!("{first}\r\nTransfer-Encoding: chunked\r\n\r\n{LONG:x}\r\n");
    [head.as_bytes(), &block(0, LONG), b"\r\n0\r\n\r\n"].concat()
}

/// Reads such a message, in whatever chunks.
fn take_long(from: &mut Polled, first: &str, chunked: bool) {
    if !chunked {
        assert!(take(from, first) == block(0, LONG));
        return;
    }
    assert_eq!(head(from, first), 0);
    let mut body: Vec<u8> = Vec::new();
    loop {
        let mut line: Vec<u8> = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte).expect("a whole line");
            line.extend(byte);
        }
        let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        from.read_exact(&mut chunk).expect("a whole chunk");
        if length == 0 {
            break;
        }
        body.extend(&chunk[..length]);
    }
    assert!(body == block(0, LONG));
}

/// Reads a head whose first line has `first` in it, and returns the length of the body.
pub(crate) fn head(from: &mut Polled, first: &str) -> usize {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte).expect("a whole head");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("a head is text").to_ascii_lowercase();
    assert!(head.lines().next().is_some_and(|line| line.contains(&first.to_ascii_lowercase())), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.map_or(0, |length| length.trim().parse().expect("a number"))
}

/// Writes a body of [`LARGE`] bytes from another thread, so many at a time.
fn writes(to: Polled, size: usize) -> thread::JoinHandle<Polled> {
    writes_from(to, size, 0)
}

fn writes_from(mut to: Polled, size: usize, from: usize) -> thread::JoinHandle<Polled> {
    thread::spawn(move || {
        for at in (from..LARGE).step_by(size) {
            send(&mut to, &part(at, (at + size).min(LARGE)));
        }
        to
    })
}

/// Writes from the start of a body, without waiting, until nothing fits for a while. Returns how much did.
fn fill(to: &mut Polled, size: usize) -> usize {
    let mut held = 0;
    loop {
        match (&**to).write(&part(held, (held + size).min(LARGE))) {
            Ok(len) => held += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut end = [PollFd::new(to, PollFlags::OUT)];
                if poll(&mut end, Some(&QUIET)).unwrap() == 0 {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    held
}

/// Reads the rest of a body of [`LARGE`] bytes, and looks at each.
fn carry(from: &mut Polled, mut at: usize) {
    let mut piece = vec![0; 256 << 10];
    while at < LARGE {
        let most = piece.len().min(LARGE - at);
        let len = from.read(&mut piece[..most]).unwrap();
        assert!(len > 0, "it ends after {at} bytes");
        assert!(piece[..len] == part(at, at + len), "{len} bytes from {at}");
        at += len;
    }
}

/// Bytes that tell their place, other ones for each seed.
pub(crate) fn block(seed: usize, len: usize) -> Vec<u8> {
    part(seed, seed + len)
}

fn part(from: usize, to: usize) -> Vec<u8> {
    // Repeats after a prime number of bytes, which no buffer and no segment has.
    static BYTES: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..PRIME).map(|at| (at ^ (at >> 8)).to_le_bytes()[0]).collect());
    let mut part = Vec::with_capacity(to - from);
    while part.len() < to - from {
        let at = (from + part.len()) % PRIME;
        let len = (PRIME - at).min(to - from - part.len());
        part.extend_from_slice(&BYTES[at..at + len]);
    }
    part
}

/// The first kernel that may accelerate.
const OLDEST: (u32, u32, u32) = (6, 18, 14);
pub(crate) const ROUNDS: usize = 100;
/// Requests without waiting for answers, of which some must fit between server and client before anybody reads.
const AHEAD: usize = 300;
const MANY: usize = 40;
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// Of a message that is not short.
const LONG: usize = 100_000;
const SIZE: usize = 20_000;
const PRIME: usize = 65_521;
const LARGE: usize = 256 << 20;
/// Longer than a scheduler keeps a reader waiting who has something to read.
const QUIET: rustix::fs::Timespec = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
