//! The way of a connection between two nodes.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use weft_tests::wire::{Stream, Wire};
use weft_tests::{Node, Suspended, manifests, soon, text};

use crate::forged::resident;
use crate::stage::{API, Stage, talks};

#[test]
fn what_goes_between_nodes_is_tls_from_the_first_byte_of_a_new_pod_on() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_echo(8080)]) else { return };
    let wire = Wire::new(&stage.api);
    stage.wait();
    for to in [API, stage.api.addr(8080), stage.api.addr6(8080)] {
        stage.echoes(to, SECRET).unwrap_or_else(|error| panic!("{to}: {error}"));
    }
    // Those to the same address and port may share one.
    let streams = wire.begun(4);
    for stream in &streams {
        assert!(stream.is_tls13(), "{}", shown(stream));
        assert!(!stream.contains(SECRET));
    }
}

#[test]
fn a_new_pods_first_connection_is_mutual_tls_though_the_servers_node_has_not_heard_of_it() {
    let Some(stage) = Stage::open(&[]) else { return };
    let wire = Wire::new(&stage.api);
    let agent = stage.agents[1].pid().expect("it runs");
    let deaf = Suspended::new(agent.try_into().expect("as the kernel has it"));
    for name in ["shop/first", "shop/second", "shop/third"] {
        let new = stage.a.pod(name).start();
        stage.a.wait();
        for to in [API, stage.api.addr6(8080)] {
            assert_eq!(talks(&new, to), Ok(()), "{name} to {to}");
        }
    }
    drop(deaf);
    let streams = wire.begun(6);
    for stream in &streams {
        assert!(stream.is_tls13() && !stream.contains(SECRET), "{}", shown(stream));
    }
}

/// A gRPC server is one: its settings are under way before its client has said a word.
#[test]
fn nor_does_a_server_that_speaks_first_take_a_new_pods_first_connection_for_a_strangers() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_name(8080, "api")]) else { return };
    soon(|| stage.web.ask(API).is_ok_and(|name| name == "api"));
    let agent = stage.agents[1].pid().expect("it runs");
    let deaf = Suspended::new(agent.try_into().expect("as the kernel has it"));
    for name in ["shop/first", "shop/second", "shop/third"] {
        let new = stage.a.pod(name).start();
        stage.a.wait();
        // At once, so that the client's proxy is late with its first words.
        thread::scope(|scope| {
            let asks = (0..100).map(|_| scope.spawn(|| new.ask(API).map_err(|error| error.kind())));
            for asked in asks.collect::<Vec<_>>() {
                assert_eq!(asked.join().unwrap(), Ok("api".to_owned()), "{name}");
            }
        });
    }
    drop(deaf);
}

#[test]
fn where_the_mode_is_disabled_the_same_look_at_the_wire_finds_clear_bytes() {
    let Some(stage) = Stage::open(&[("mesh.yaml", manifests::mesh_config("{mtls: {mode: Disabled}}"))])
    else {
        return;
    };
    let wire = Wire::new(&stage.api);
    stage.echoes(API, SECRET).unwrap();
    let streams = wire.begun(2);
    assert!(streams.iter().all(|stream| !stream.is_tls13() && stream.contains(SECRET)));
}

#[test]
fn an_apps_own_tls_passes_untouched_and_between_nodes_inside_the_meshs() {
    let Some(stage) = Stage::start(&[], |_| Vec::new()) else { return };
    let (certificate, key) = (stage.world.dir().join("app.crt"), stage.world.dir().join("app.key"));
    let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
    let made = stage.api.exec(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=app",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    assert!(made.status.success(), "{}", text(&made));
    // It says backwards what it hears, until it is told to close.
    let _app = stage.api.spawn(&[
        "openssl",
        "s_server",
        "-accept",
        "8080",
        "-cert",
        &certificate,
        "-key",
        &key,
        "-alpn",
        "app/1,h2",
        "-rev",
        "-quiet",
    ]);
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    soon(|| stage.a.has_proxy() && stage.b.has_proxy());
    let wire = Wire::new(&stage.api);
    let direct = stage.api.addr(8080);
    for (client, to) in [(&stage.web, API), (&stage.web, direct), (&stranger, direct)] {
        for alpn in ["-alpn app/1", "-alpn h2", ""] {
            let ask = format!(
                "printf 'secret\\nCLOSE\\n' | openssl s_client -connect {to} -CAfile {certificate} \
                 -verify_return_error -servername app -ign_eof {alpn} 2>&1"
            );
            let says = || text(&client.exec(&["timeout", "20", "sh", "-c", &ask]));
            soon(|| says().contains("terces"));
            let said = says();
            let agreed = alpn.strip_prefix("-alpn ").map(|name| format!("ALPN protocol: {name}"));
            for wanted in ["Verification: OK", &agreed.unwrap_or_else(|| "No ALPN negotiated".into())] {
                assert!(said.contains(wanted), "{wanted} of {to} {alpn}: {said}");
            }
        }
    }
    let streams = wire.begun(6);
    let (of_mesh, own): (Vec<_>, Vec<_>) = streams.iter().partition(|stream| stream.contains(b"weft/1"));
    assert!(!of_mesh.is_empty() && own.len() >= 3, "{} and {}", of_mesh.len(), own.len());
    assert!(of_mesh.iter().all(|stream| stream.is_tls13() && !stream.contains(b"app/1")), "it is inside");
    assert!(own.iter().any(|stream| stream.contains(b"app/1")), "it is the stranger's own");
}

#[test]
fn a_port_goes_its_own_way() {
    let disabled = manifests::authentication_policy(
        "shop/api",
        "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}], mtls: {mode: Strict, \
         portLevel: [{port: 9090, mode: Disabled}]}}",
    );
    let Some(stage) =
        Stage::start(&[("mode.yaml", disabled)], |api| vec![api.serve_echo(8080), api.serve_echo(9090)])
    else {
        return;
    };
    let wire = Wire::new(&stage.api);
    stage.wait();
    let other = stage.api.addr(9090);
    stage.echoes(API, SECRET).unwrap();
    stage.echoes(other, SECRET).unwrap();
    let is_other = |stream: &&Stream| stream.from == other || stream.to == other;
    soon(|| wire.streams().iter().filter(is_other).count() >= 2);
    let (clear, sealed): (Vec<_>, Vec<_>) = wire.begun(4).into_iter().partition(|stream| is_other(&stream));
    assert_eq!(clear.len(), 2);
    assert!(sealed.len() >= 2);
    assert!(clear.iter().all(|stream| stream.contains(SECRET)));
    assert!(sealed.iter().all(Stream::is_tls13));
}

#[test]
fn a_server_that_speaks_first_is_heard_and_a_client_that_has_finished_is_answered() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_name(8080, "api"), api.serve_echo(8081)]) else {
        return;
    };
    soon(|| stage.web.ask(API).is_ok_and(|name| name == "api"));
    let echo = stage.api.addr(8081);
    let mut stream = connect(&stage, echo);
    stream.write_all(b"the last word").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"the last word", "and then the end");
}

#[test]
fn a_reset_of_either_end_reaches_the_other_as_one() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_echo(8081)]) else { return };
    // Both nodes have their certificates then.
    soon(|| stage.echoes(stage.api.addr(8081), b"there?").is_ok());
    let listener = stage.api.tcp_listen(stage.api.addr(8080)).unwrap();
    let pair = || {
        let client = connect(&stage, API);
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&client, &server);
        (client, server)
    };
    for (mut left, right) in [pair(), {
        let (client, server) = pair();
        (server, client)
    }] {
        set_socket_linger(&right, Some(Duration::ZERO)).unwrap();
        drop(right);
        let end = left.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_read_that_waits_ends_with_the_reset_and_with_nothing_else() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_echo(8081)]) else { return };
    soon(|| stage.echoes(stage.api.addr(8081), b"there?").is_ok());
    // From here on both nodes accelerate what goes to their proxies.
    if weft_tests::kernel() >= (6, 18, 14) {
        soon(|| [&stage.a, &stage.b].iter().all(|node| accelerates(node)));
    }
    let listener = stage.api.tcp_listen(stage.api.addr(8080)).unwrap();
    for client_reads in [true, false] {
        let client = connect(&stage, API);
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&client, &server);
        exchange(&client, &server);
        let (mut reader, other) = if client_reads { (client, server) } else { (server, client) };
        let (tell, told) = mpsc::channel();
        let read = thread::spawn(move || {
            tell.send(nix::unistd::gettid()).unwrap();
            reader.read(&mut [0; 8]).map_err(|error| error.kind())
        });
        let call = format!("/proc/self/task/{}/syscall", told.recv().unwrap());
        // It waits in the kernel: of who runs, there is no call to be seen.
        soon(|| {
            fs::read_to_string(&call).is_ok_and(|call| call.starts_with(&libc::SYS_recvfrom.to_string()))
        });
        set_socket_linger(&other, Some(Duration::ZERO)).unwrap();
        drop(other);
        assert_eq!(read.join().unwrap(), Err(ErrorKind::ConnectionReset), "client reads: {client_reads}");
    }
}

fn accelerates(node: &Node) -> bool {
    let status = node.weft_json(&["status"]);
    let programs = status["programs"].as_array().unwrap();
    programs.iter().any(|program| program["name"] == "weft_sk_msg" && program["state"] == "attached")
}

#[test]
fn a_large_body_arrives_whole_both_ways_and_a_reader_that_stops_holds_its_writer() {
    let Some(stage) = Stage::open(&[]) else { return };
    let stream = connect(&stage, API);
    let writer = stream.try_clone().unwrap();
    let written = thread::spawn(move || {
        let mut writer = &writer;
        let mut made = Noise::default();
        let mut part = vec![0; 1 << 16];
        for _ in 0..LARGE >> 16 {
            made.fill(&mut part);
            writer.write_all(&part).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (mut reader, mut expected) = (&stream, Noise::default());
    let (mut part, mut wanted, mut read) = (vec![0; 1 << 16], vec![0; 1 << 16], 0_usize);
    loop {
        let bytes = reader.read(&mut part).unwrap();
        if bytes == 0 {
            break;
        }
        expected.fill(&mut wanted[..bytes]);
        assert!(part[..bytes] == wanted[..bytes], "other bytes near {read}");
        read += bytes;
    }
    written.join().unwrap();
    assert_eq!(read, LARGE);
}

#[test]
fn back_pressure_passes_through_mutual_tls_and_a_bounded_amount_of_bytes_is_held() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_echo(8081)]) else { return };
    soon(|| stage.echoes(stage.api.addr(8081), b"there?").is_ok());
    let listener = stage.api.tcp_listen(stage.api.addr(8080)).unwrap();
    let proxies = [&stage.a, &stage.b].map(Node::proxy_pid);
    for client_writes in [true, false] {
        let client = connect(&stage, API);
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&client, &server);
        let before = proxies.map(resident);
        let (writer, reader) = if client_writes { (client, server) } else { (server, client) };
        let held = write_until_held(&writer);
        assert!(held < kernel_holds() + PROXIES_HOLD, "{held} bytes wait for a reader that stands still");
        for (proxy, before) in proxies.into_iter().zip(before) {
            let grown = resident(proxy).saturating_sub(before);
            assert!(grown < PROXIES_HOLD, "a proxy holds {grown} bytes in its own memory");
        }
        // Once it is read, all of it has arrived, and the writer goes on.
        let (mut expected, mut wanted, mut part) = (Noise::default(), vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut left = held;
        while left > 0 {
            let size = left.min(part.len());
            (&reader).read_exact(&mut part[..size]).unwrap();
            expected.fill(&mut wanted[..size]);
            assert!(part[..size] == wanted[..size], "other bytes, {left} before the last");
            left -= size;
        }
        exchange(&writer, &reader);
    }
}

/// Writes until nothing has gone for a second; how many bytes have.
fn write_until_held(writer: &TcpStream) -> usize {
    writer.set_nonblocking(true).unwrap();
    let (mut made, mut part, mut written, mut begin) = (Noise::default(), vec![0; 1 << 16], 0, 0);
    let mut last = Instant::now();
    made.fill(&mut part);
    while last.elapsed() < Duration::from_secs(1) {
        match (&*writer).write(&part[begin..]) {
            Ok(some) => {
                (last, written, begin) = (Instant::now(), written + some, begin + some);
                if begin == part.len() {
                    made.fill(&mut part);
                    begin = 0;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    writer.set_nonblocking(false).unwrap();
    written
}

/// What the kernel lets wait in the sockets on the way: of each of the three connections both ends' buffers.
fn kernel_holds() -> usize {
    let largest = |which: &str| {
        let sizes = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{which}")).unwrap();
        sizes.split_whitespace().last().unwrap().parse::<usize>().unwrap()
    };
    3 * (largest("rmem") + largest("wmem"))
}

/// A byte both ways, so that both ends are connected.
fn exchange(mut client: &TcpStream, mut server: &TcpStream) {
    client.write_all(b"a").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"b").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn connect(stage: &Stage, to: SocketAddr) -> TcpStream {
    let mut connected = None;
    soon(|| {
        connected = stage.web.tcp_connect(to).ok();
        connected.is_some()
    });
    let stream = connected.unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Bytes that say where they stand, whatever the pieces they are made in.
#[derive(Default)]
struct Noise {
    at: u64,
}

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let word = (self.at >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = word.to_le_bytes()[(self.at & 7) as usize];
            self.at += 1;
        }
    }
}

pub(crate) fn shown(stream: &Stream) -> String {
    let begin = &stream.bytes[..stream.bytes.len().min(64)];
    format!("{} to {} is in clear: {:?}", stream.from, stream.to, String::from_utf8_lossy(begin))
}

pub(crate) const SECRET: &[u8] = b"the secret that nobody on the wire reads";
const LARGE: usize = 1 << 30;
/// A stream's window is 512 KiB, and TLS seals 256 KiB ahead.
const PROXIES_HOLD: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
