//! The harness itself: if these fail, no other end-to-end test says anything.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::panic::catch_unwind;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weft_tests::packet::{Sniffer, send_datagram, send_syn};
use weft_tests::wire::Wire;
use weft_tests::{SocketRequest, World, manifests, soon};
use weft_transport::{Diag, Query, States, netns_cookie, socket_cookie};

#[test]
fn pods_on_two_nodes_reach_each_other_over_tcp_and_udp_and_both_families() {
    let Some(world) = World::new() else { return };
    let web = world.node("a").pod("shop/web").start();
    let api = world.node("b").pod("shop/api").ip("10.77.0.9").ip6("fd77::9").start();
    let _tcp = api.serve_name(80, "api");
    let _udp = api.serve_udp_name(53, "dns");
    for to in [api.addr(80), api.addr6(80)] {
        assert_eq!(web.ask(to).unwrap(), "api", "{to}");
    }
    for to in [api.addr(53), api.addr6(53)] {
        assert_eq!(web.ask_udp(to).unwrap(), ("dns".to_owned(), to));
    }
    assert_eq!(api.addr6(80), "[fd77::9]:80".parse().unwrap());
}

#[test]
fn a_look_at_the_wire_tells_tls_1_3_from_what_is_older_and_from_clear_bytes() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let [certificate, key] = ["crt", "key"].map(|name| world.dir().join(name).display().to_string());
    let new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=api"];
    assert!(api.exec(&[&new[..], &["-keyout", &key, "-out", &certificate]].concat()).status.success());
    let serve = ["openssl", "s_server", "-accept", "8443", "-cert", &certificate, "-key", &key, "-quiet"];
    let _server = api.spawn(&serve);
    let to = api.addr(8443).to_string();
    for (version, is_tls13) in [("-tls1_3", true), ("-tls1_2", false)] {
        let wire = Wire::new(&api);
        let ask = ["openssl", "s_client", "-connect", &to, version];
        soon(|| web.exec(&ask).status.success());
        // Both ways: the client would take TLS 1.3 alone, or none of it; the server selects it, or does not.
        for stream in wire.begun(2) {
            assert_eq!(stream.is_tls13(), is_tls13, "{version}: from {}", stream.from);
        }
    }
    let _clear = api.serve_echo(80);
    let wire = Wire::new(&api);
    let mut stream = web.tcp_connect(api.addr(80)).unwrap();
    stream.write_all(b"clear").unwrap();
    assert!(wire.begun(1).iter().all(|stream| !stream.is_tls13()));
}

#[test]
fn a_server_sees_the_address_of_the_pod_that_asks() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let listener = api.tcp_listen(api.addr(80)).unwrap();
    let _stream = web.tcp_connect(api.addr(80)).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip(), web.ip());
}

#[test]
fn a_socket_is_in_the_cgroup_and_the_namespace_of_its_pod() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let _api = api.serve_echo(80);
    let stream = web.tcp_connect(api.addr(80)).unwrap();
    assert_eq!(netns_cookie(stream.as_fd()), Ok(web.netns().cookie().unwrap()));
    let sockets = Diag::open(&web.netns()).unwrap().sockets(&Query::tcp(States::LIVE)).unwrap();
    let cookie = socket_cookie(stream.as_fd()).unwrap();
    let listed = sockets.iter().find(|socket| socket.cookie == cookie).unwrap();
    assert_eq!(listed.cgroup, fs::metadata(web.cgroup()).unwrap().ino());
}

#[test]
fn a_refused_connection_keeps_the_kernels_error() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    assert_eq!(web.tcp_connect(api.addr(80)).unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    assert_eq!(web.tcp_listen(api.addr(80)).unwrap_err().raw_os_error(), Some(libc::EADDRNOTAVAIL));
}

#[test]
fn a_connection_that_nobody_answers_times_out() {
    let Some(world) = World::new() else { return };
    let web = world.node("a").pod("shop/web").start();
    let nobody = SocketAddr::from(([203, 0, 113, 1], 80));
    assert_eq!(web.tcp_connect(nobody).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn connections_can_be_bound_mapped_non_blocking_and_multipath() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let _api = api.serve_name(80, "api");
    let mapped = SocketAddr::from((api.ip().to_ipv6_mapped(), 80));
    let requests = [
        SocketRequest::tcp(api.addr(80)).from(web.addr(4000)),
        SocketRequest::tcp(api.addr(80)).device("eth0"),
        SocketRequest::tcp(mapped),
        SocketRequest::tcp(api.addr6(80)).non_blocking(),
        SocketRequest::mptcp(api.addr(80)),
    ];
    for (number, request) in requests.iter().enumerate() {
        let mut stream = TcpStream::from(web.open(request).unwrap());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut name = [0; 4];
        stream.read_exact(&mut name).unwrap();
        assert_eq!(&name, b"api\n", "request {number}");
    }
}

#[test]
fn a_connected_udp_socket_gets_its_echo() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let _echo = api.serve_udp_echo(7);
    for to in [api.addr(7), api.addr6(7)] {
        let socket = web.udp_connect(to).unwrap();
        socket.send(b"hello").unwrap();
        let mut answer = [0; 16];
        assert_eq!(socket.recv(&mut answer).unwrap(), 5);
        assert_eq!(&answer[..5], b"hello");
    }
}

#[test]
fn a_dropped_server_closes_its_connections_and_refuses_new_ones() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let server = api.serve_echo(80);
    let mut stream = web.tcp_connect(api.addr(80)).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    assert_eq!(server.open_connections(), 1);
    drop(server);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(web.tcp_connect(api.addr(80)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_command_runs_in_the_cgroup_and_the_namespace_of_its_pod() {
    let Some(world) = World::new() else { return };
    let web = world.node("a").pod("shop/web").start();
    let output = web.exec(&["cat", "/proc/self/cgroup"]);
    let group = web.cgroup().file_name().unwrap().to_str().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(&format!("/{group}\n")));
    let output = web.exec(&["ip", "-o", "addr", "show", "dev", "eth0"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains(&web.ip().to_string()));
}

#[test]
fn a_process_on_the_host_reaches_the_pods() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let (kubelet, web) = (node.host_process("kubelet"), node.pod("shop/web").start());
    let _web = web.serve_name(80, "web");
    assert_eq!(kubelet.ask(web.addr(80)).unwrap(), "web");
    assert_eq!(kubelet.ask(web.addr6(80)).unwrap(), "web");
}

#[test]
fn a_forged_syn_is_answered_to_the_one_it_claims_to_come_from() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let [forger, victim, server] = ["x/forger", "x/victim", "x/server"].map(|name| node.pod(name).start());
    let _server = server.serve_echo(80);
    for (source, open, closed) in [
        (victim.addr(4000), server.addr(80), server.addr(81)),
        (victim.addr6(4000), server.addr6(80), server.addr6(81)),
    ] {
        let sniffer = Sniffer::new(&victim, source.ip()).unwrap();
        for (to, accepted) in [(open, true), (closed, false)] {
            send_syn(&forger, source, to).unwrap();
            let answer =
                sniffer.wait(Duration::from_secs(5), |segment| segment.source == to).unwrap().unwrap();
            assert_eq!((answer.accepts(), answer.resets()), (accepted, !accepted), "{answer:?}");
            assert_eq!(answer.destination_port, 4000);
        }
    }
}

#[test]
fn a_forged_datagram_arrives_with_the_address_it_claims() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let [forger, victim, server] = ["x/forger", "x/victim", "x/server"].map(|name| node.pod(name).start());
    for (source, to) in [(victim.addr(4000), server.addr(53)), (victim.addr6(4000), server.addr6(53))] {
        let socket = server.udp(to).unwrap();
        send_datagram(&forger, source, to, b"boo").unwrap();
        let mut payload = [0; 8];
        assert_eq!(socket.recv_from(&mut payload).unwrap(), (3, source));
    }
}

#[test]
fn a_child_that_ends_interrupts_no_read() {
    let Some(world) = World::new() else { return };
    let pod = world.node("a").pod("shop/web").start();
    let socket = pod.udp(pod.addr(4000)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
            }
        });
        // Some end while this thread has signals blocked, as it has for as long as it starts another.
        for _ in 0..300 {
            for mut child in [(); 3].map(|()| Command::new("true").spawn().unwrap()) {
                child.wait().unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn every_node_has_the_manifests_of_all_pods_and_those_given_to_the_world() {
    let Some(world) = World::new() else { return };
    let first = world.node("a");
    let web = first.pod("shop/web").label("app", "web").service_account("web").port("http", 80).start();
    world.apply("shop.yaml", &manifests::namespace("shop", true));
    let second = world.node("b");
    for node in [&first, &second] {
        let pod = fs::read_to_string(node.manifests_dir().join("pod-shop-web.yaml")).unwrap();
        let pod: serde_yaml::Value = serde_yaml::from_str(&pod).unwrap();
        assert_eq!(pod["metadata"]["labels"]["app"], "web");
        assert_eq!(pod["metadata"]["labels"]["weft.dev/mesh"], "enabled");
        assert_eq!(pod["metadata"]["annotations"]["weft.dev/netns"], web.netns_path().to_str().unwrap());
        assert_eq!(pod["spec"]["nodeName"], first.name());
        assert_eq!(pod["status"]["podIPs"][1]["ip"], web.ip6().to_string());
        assert!(node.manifests_dir().join("shop.yaml").exists());
    }
    web.delete();
    for node in [&first, &second] {
        assert!(!node.manifests_dir().join("pod-shop-web.yaml").exists());
    }
}

#[test]
fn manifests_are_yaml_that_says_what_was_asked() {
    let service = manifests::service("shop/api", "{clusterIP: 10.96.0.10, ports: [{port: 80}]}");
    let slice =
        manifests::endpoint_slice("shop/api", "1", "IPv4", "[{port: 8080}]", "[{addresses: [10.77.0.2]}]");
    let policy = manifests::authorization_policy("shop/deny", "{action: DENY, rules: [{}]}");
    let text = manifests::documents(&[service, slice, policy]);
    let documents: Vec<serde_yaml::Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    assert_eq!(documents[0]["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(documents[1]["metadata"]["labels"]["kubernetes.io/service-name"], "api");
    assert_eq!(documents[1]["endpoints"][0]["addresses"][0], "10.77.0.2");
    assert_eq!(documents[2]["apiVersion"], "weft.dev/v1alpha1");
}

#[test]
fn a_deleted_pod_is_gone_and_its_address_can_be_used_again() {
    let Some(world) = World::new() else { return };
    let node = world.node("a");
    let web = node.pod("shop/web").start();
    let first = node.pod("shop/api").ip("10.77.0.9").ip6("fd77::9").start();
    let (netns, cgroup) = (first.netns_path(), first.cgroup().to_owned());
    let _sleeper = first.spawn(&["sleep", "1000"]);
    first.delete();
    assert!(!netns.exists() && !cgroup.exists());
    let second = node.pod("shop/api-2").ip("10.77.0.9").ip6("fd77::9").start();
    let _second = second.serve_name(80, "second");
    assert_eq!(web.ask(second.addr(80)).unwrap(), "second");
}

#[test]
fn a_dropped_world_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let name = populate(&world);
    assert!(World::remains(&name).len() >= 5, "{:?}", World::remains(&name));
    drop(world);
    assert_eq!(World::remains(&name), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_panic_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let name = world.name().to_owned();
    let panic = catch_unwind(std::panic::AssertUnwindSafe(move || {
        populate(&world);
        std::panic::resume_unwind(Box::new("the test fails"));
    }));
    assert!(panic.is_err());
    assert_eq!(World::remains(&name), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_killed_test_process_leaves_nothing() {
    let Some(world) = World::new() else { return };
    if std::env::var_os(TO_BE_KILLED).is_some() {
        wait_to_be_killed(&world);
    }
    drop(world);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_killed_test_process_leaves_nothing", "--nocapture"]).env(TO_BE_KILLED, "");
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = process.stdout.take().unwrap();
    let mut said = String::new();
    soon(|| {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
        said.ends_with("ready\n")
    });
    let name = format!("weft-test-{}", process.id());
    assert_ne!(World::remains(&name), Vec::<std::path::PathBuf>::new());
    process.kill().unwrap();
    process.wait().unwrap();
    soon(|| World::remains(&name).is_empty());
}

/// Tells the process that the test starts which one it is.
const TO_BE_KILLED: &str = "WEFT_TEST_TO_BE_KILLED";

fn wait_to_be_killed(world: &World) -> ! {
    populate(world);
    std::io::stdout().write_all(b"ready\n").unwrap();
    loop {
        thread::park();
    }
}

/// Has everything in it that a world can leave behind. Returns its name.
fn populate(world: &World) -> String {
    let node = world.node("a");
    let (web, api) = (node.pod("shop/web").start(), node.pod("shop/api").start());
    let server = api.serve_echo(80);
    let stream = web.tcp_connect(api.addr(80)).unwrap();
    let sleeper = api.spawn(&["sleep", "1000"]);
    assert_ne!(web.ip(), Ipv4Addr::UNSPECIFIED);
    // As if their owners had been cut short.
    std::mem::forget((server, stream, sleeper));
    world.name().to_owned()
}
