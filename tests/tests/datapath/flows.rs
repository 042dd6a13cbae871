//! What the agent tells about connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;
use weft_tests::{Node, Pod, manifests, soon, weft};

use crate::market::{API, Market, assert_refused};

/// Who ends a connection, and how.
#[derive(Clone, Copy, Debug)]
enum End {
    ClientCloses,
    ServerCloses,
    ClientResets,
    ServerResets,
    /// The client has no more to say, and listens on.
    ClientHalfCloses,
    /// The server has no more to say, and listens on.
    ServerHalfCloses,
}

#[test]
fn payload_is_counted_to_the_byte_whoever_ends_a_connection_and_how() {
    let Some(market) = Market::open() else { return };
    market.world.apply("policy.yaml", "");
    market.node.wait();
    let ends = [
        End::ClientCloses,
        End::ServerCloses,
        End::ClientResets,
        End::ServerResets,
        End::ClientHalfCloses,
        End::ServerHalfCloses,
    ];
    let Market { web, api, node, .. } = &market;
    let mapped = SocketAddr::from((api.ip().to_ipv6_mapped(), 9000));
    let (v4, v6) = (api.addr(9000), api.addr6(9000));
    // One for all of them: a child that another test is just starting holds a copy of every descriptor until
    // its exec, and with it the port of a listener that was closed.
    let listener = listen(api);
    let mut wanted = Vec::new();
    for (number, end) in ends.into_iter().enumerate() {
        for to in [v4, v6, mapped] {
            let (sent, received) = (100_000 + number, 3_000_000 + number);
            wanted.push((exchange(web, &listener, to, sent, received, end), to, sent, received, end));
        }
    }
    for end in ends {
        wanted.push((exchange(web, &listener, v4, 0, 0, end), v4, 0, 0, end));
        wanted.push((exchange(web, &listener, v4, 1, 0, end), v4, 1, 0, end));
    }
    let mut closed = Vec::new();
    soon(|| {
        closed = node.flows(&["--pod", "shop/web"]);
        closed.retain(|flow| flow["kind"] == "closed");
        closed.len() >= wanted.len()
    });
    let mut wrong = Vec::new();
    for (port, to, sent, received, end) in wanted {
        // Connections to two addresses may have one port.
        let to = to.ip().to_canonical().to_string();
        let is_it = |flow: &&Value| flow["source"]["port"] == port && flow["destination"]["ip"] == to;
        let flows: Vec<_> = closed.iter().filter(is_it).collect();
        assert_eq!(flows.len(), 1, "a flow between two pods of a node is one line, {end:?}: {flows:?}");
        let counted = [&flows[0]["bytesSent"], &flows[0]["bytesReceived"]];
        if counted != [&Value::from(sent), &Value::from(received)] {
            wrong.push(format!("{end:?}: {counted:?} instead of {sent}, {received}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_flow_says_who_talked_to_whom_by_which_service_and_for_how_long() {
    let Some(market) = Market::open() else { return };
    let Market { web, api, node, .. } = &market;
    let began = Instant::now();
    let stream = web.tcp_connect(API).unwrap();
    let port = stream.local_addr().unwrap().port();
    thread::sleep(Duration::from_millis(150));
    drop(stream);
    let flows = flows_of(node, port, 2);
    let longest = u64::try_from(began.elapsed().as_millis()).unwrap();
    let kinds: Vec<_> = flows.iter().map(|flow| flow["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "closed"]);
    for flow in &flows {
        assert_eq!(
            keys(flow),
            "bytesReceived bytesSent destination durationMs kind path protocol reason retransmits rttUs rule source time verdict"
        );
        assert_eq!(flow["verdict"], "FORWARDED");
        assert_eq!(flow["reason"], Value::Null);
        assert_eq!((&flow["path"], &flow["protocol"]), (&"kernel".into(), &"TCP".into()));
        let (source, destination) = (&flow["source"], &flow["destination"]);
        assert_eq!(keys(source), "identity ip namespace pod port");
        assert_eq!((&source["namespace"], &source["pod"]), (&"shop".into(), &"web".into()));
        assert_eq!(source["ip"], web.ip().to_string());
        assert_eq!(source["identity"], "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(keys(destination), "identity ip namespace pod port service");
        assert_eq!((&destination["namespace"], &destination["pod"]), (&"shop".into(), &"api".into()));
        assert_eq!((&destination["service"], &destination["port"]), (&"api".into(), &8080.into()));
        assert_eq!(destination["ip"], api.ip().to_string(), "the backend's address");
    }
    let (time, rtt) = (flows[1]["durationMs"].as_u64().unwrap(), flows[1]["rttUs"].as_u64().unwrap());
    assert!((150..=longest).contains(&time), "{time} ms of {longest} ms");
    assert!(rtt > 0 && rtt < 1_000_000, "{rtt} us");
}

#[test]
fn what_had_to_be_sent_again_is_counted() {
    let Some(market) = Market::open() else { return };
    market.world.apply("policy.yaml", "");
    market.node.wait();
    let Market { web, api, node, .. } = &market;
    let listener = listen(api);
    let mut near = web.tcp_connect(api.addr(9000)).unwrap();
    let port = near.local_addr().unwrap().port();
    let (mut far, _) = listener.accept().unwrap();
    let link = |state| assert!(api.exec(&["ip", "link", "set", "eth0", state]).status.success());
    let sent_again = || {
        let connections = node.weft_json(&["get", "connections"]);
        connections[0]["retransmits"].as_u64().unwrap()
    };
    assert_eq!(sent_again(), 0);
    link("down");
    near.write_all(b"lost").unwrap();
    soon(|| sent_again() > 0);
    link("up");
    far.read_exact(&mut [0; 4]).unwrap();
    drop((near, far));
    let flows = flows_of(node, port, 2);
    assert!(flows[1]["retransmits"].as_u64().unwrap() > 0, "{flows:?}");
    assert_eq!(flows[1]["bytesSent"], 4, "each byte is counted once");
}

#[test]
fn a_refused_connection_is_one_line_with_its_reason() {
    let Some(market) = Market::open() else { return };
    let outsider = market.node.pod("shop/outsider").outsider().start();
    assert_refused(&market.thief, API);
    let reset = outsider.tcp_connect(market.api.addr(8080)).map(drop).map_err(|error| error.raw_os_error());
    assert_eq!(reset, Err(Some(libc::ECONNREFUSED)));
    let denied = || market.node.flows(&["--verdict", "denied"]);
    soon(|| denied().len() >= 2);
    let flows = denied();
    assert_eq!(flows.len(), 2, "{flows:?}");
    let (thief, stranger) = (&flows[0], &flows[1]);
    assert_eq!((&thief["verdict"], &thief["kind"]), (&"DENIED".into(), &"refused".into()));
    assert_eq!(thief["reason"], "NotAllowed");
    assert_eq!((&thief["source"]["pod"], &thief["destination"]["pod"]), (&"thief".into(), &"api".into()));
    assert_eq!(thief["destination"]["port"], 8080);
    assert_eq!((&stranger["source"]["pod"], &stranger["source"]["identity"]), (&Value::Null, &Value::Null));
    assert_eq!(stranger["source"]["ip"], outsider.ip().to_string());
    assert!(["NotAllowed", "IdentityUnproven"].contains(&stranger["reason"].as_str().unwrap()), "{stranger}");
}

#[test]
fn flows_can_be_chosen_by_pod_namespace_verdict_and_number_and_followed() {
    let Some(market) = Market::open() else { return };
    let node = &market.node;
    market.world.apply("other.yaml", &manifests::namespace("other", true));
    let friend = node.pod("other/friend").start();
    let _server = friend.serve_name(80, "friend");
    node.wait();
    let follower = Follower::start(node, &["--follow", "--last", "10", "--pod", "shop/web"]);
    market.web.ask(API).unwrap();
    market.web.ask(friend.addr(80)).unwrap();
    assert_refused(&market.thief, API);
    soon(|| node.flows(&[]).len() >= 5);

    let count = |arguments: &[&str]| node.flows(arguments).len();
    assert_eq!(count(&[]), 5, "{:#?}", node.flows(&[]));
    assert_eq!(count(&["--pod", "shop/web"]), 4);
    assert_eq!(count(&["--pod", "friend"]), 2);
    assert_eq!(count(&["-n", "other"]), 2);
    assert_eq!(count(&["--verdict", "DENIED"]), 1);
    assert_eq!(count(&["--pod", "thief", "--verdict", "FORWARDED"]), 0);
    let last = node.weft(&["observe", "--last", "2", "-o", "json"]);
    assert_eq!(String::from_utf8_lossy(&last.stdout).lines().count(), 2);
    let next = |within| {
        let line = follower.lines.recv_timeout(within).expect("a followed flow comes at once");
        let flow: Value = serde_json::from_str(&line).expect("one object a line");
        assert_eq!(flow["source"]["pod"], "web");
    };
    // Some of them it may have found when it began; then it follows for certain.
    (0..4).for_each(|_| next(Duration::from_secs(5)));
    market.web.ask(API).unwrap();
    (0..2).for_each(|_| next(Duration::from_secs(2)));

    let table = node.weft(&["observe"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table
            .lines()
            .any(|line| line.contains("shop/web") && line.contains("shop/api") && line.contains("FORWARDED")),
        "{table}"
    );
    assert!(
        table.lines().any(|line| line.contains("shop/thief")
            && line.contains("DENIED")
            && line.contains("NotAllowed")),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "no colour into a pipe");
}

#[test]
fn each_node_tells_of_its_own_end_of_a_flow_between_nodes() {
    let Some(market) = Market::open() else { return };
    let far = market.world.node("b");
    let _agent = far.agent();
    let remote = far.pod("shop/remote").label("app", "far").start();
    market.world.apply(
        "far.yaml",
        &manifests::service(
            "shop/far",
            "{clusterIP: 10.96.0.7, selector: {app: far}, ports: [{port: 80, targetPort: 9000}]}",
        ),
    );
    for node in [&market.node, &far] {
        node.wait();
    }
    let service = "10.96.0.7:80".parse().unwrap();
    let port = exchange(&market.web, &listen(&remote), service, 5, 7_000, End::ServerCloses);
    for (node, service) in [(&market.node, Value::from("far")), (&far, Value::Null)] {
        let flows = flows_of(node, port, 2);
        assert_eq!(flows[1]["kind"], "closed");
        assert_eq!((&flows[1]["bytesSent"], &flows[1]["bytesReceived"]), (&5.into(), &7_000.into()));
        assert_eq!(
            (&flows[1]["source"]["pod"], &flows[1]["destination"]["pod"]),
            (&"web".into(), &"remote".into())
        );
        assert_eq!(
            flows[1]["destination"]["service"], service,
            "only the client's node knows what was dialled"
        );
    }
}

#[test]
fn what_the_programs_say_is_in_the_agents_log_where_it_is_asked_for() {
    for (filter, said) in [("info", false), ("weft_ebpf=debug,info", true)] {
        let Some(market) = Market::open_with(|node| {
            let agent = node.spawn_agent(&["--log", filter]);
            node.wait();
            agent
        }) else {
            return;
        };
        market.world.apply(
            "dns.yaml",
            &manifests::service(
                "shop/dns",
                "{clusterIP: 10.96.0.3, selector: {app: api}, ports: [{port: 53, protocol: UDP}]}",
            ),
        );
        market.node.wait();
        let asking = market.web.udp(market.web.addr(5353)).unwrap();
        // Nobody listens there: it has asked by a Service all the same.
        asking.send_to(b"?", "10.96.0.3:53".parse::<SocketAddr>().unwrap()).unwrap();
        market.thief.udp(market.thief.addr(0)).unwrap().send_to(b"!", market.web.addr(5353)).unwrap();
        asking.recv_from(&mut [0]).unwrap();
        let line = || market.agent.log().contains("somebody who was not dialled");
        if said {
            soon(line);
        } else {
            soon(|| market.node.stat("reverse_misses") == 1);
            assert!(!line());
        }
    }
}

#[test]
fn live_connections_are_listed_with_their_bytes() {
    let Some(market) = Market::open() else { return };
    let mut stream = market.web.tcp_connect(API).unwrap();
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(&[0; 1000]).unwrap();
    stream.read_exact(&mut [0; 1000]).unwrap();
    let connections = market.node.weft_json(&["get", "connections"]);
    let connections = connections.as_array().unwrap();
    assert_eq!(connections.len(), 1, "listed once, from the client's end: {connections:?}");
    let connection = &connections[0];
    assert_eq!(
        (&connection["bytesSent"], &connection["bytesReceived"]),
        (&1000.into(), &1004.into()),
        "{connection}"
    );
    assert_eq!((&connection["managed"], &connection["state"]), (&true.into(), &"ESTAB".into()));
    assert_eq!(connection["destination"]["service"], "api");
}

fn listen(pod: &Pod) -> TcpListener {
    pod.tcp_listen((std::net::Ipv6Addr::UNSPECIFIED, 9000).into()).unwrap()
}

/// A connection with so many bytes each way that ends so; returns the client's port.
fn exchange(
    client: &Pod,
    listener: &TcpListener,
    to: SocketAddr,
    sent: usize,
    received: usize,
    end: End,
) -> u16 {
    let mut near = client.tcp_connect(to).unwrap();
    let port = near.local_addr().unwrap().port();
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (all_read, client_has_read) = mpsc::channel();
    let serving = thread::spawn(move || {
        if let End::ServerHalfCloses = end {
            far.write_all(&vec![1; received]).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            read_to_end(&mut far, sent);
        } else {
            far.read_exact(&mut vec![0; sent]).unwrap();
            if let End::ClientHalfCloses = end {
                assert_eq!(far.read(&mut [0]).unwrap(), 0);
            }
            far.write_all(&vec![1; received]).unwrap();
            match end {
                // A reset would take what is not read yet with it.
                End::ServerResets => client_has_read.recv().unwrap(),
                End::ClientCloses => assert_eq!(far.read(&mut [0]).unwrap(), 0),
                End::ClientResets => assert!(far.read(&mut [0]).is_err()),
                _ => {}
            }
        }
        if let End::ServerResets = end {
            reset(&far);
        }
    });
    match end {
        End::ServerHalfCloses => {
            read_to_end(&mut near, received);
            near.write_all(&vec![2; sent]).unwrap();
        }
        End::ServerResets => {
            near.write_all(&vec![2; sent]).unwrap();
            near.read_exact(&mut vec![0; received]).unwrap();
            all_read.send(()).unwrap();
            assert!(near.read(&mut [0]).is_err());
        }
        _ => {
            near.write_all(&vec![2; sent]).unwrap();
            if let End::ClientHalfCloses = end {
                near.shutdown(Shutdown::Write).unwrap();
            }
            near.read_exact(&mut vec![0; received]).unwrap();
            match end {
                End::ClientResets => reset(&near),
                End::ServerCloses | End::ClientHalfCloses => read_to_end(&mut near, 0),
                _ => {}
            }
        }
    }
    drop(near);
    serving.join().unwrap();
    port
}

fn read_to_end(stream: &mut TcpStream, wanted: usize) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), wanted);
}

/// Has the next close of `stream` send a reset.
fn reset(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

/// The flows of a client's port, once there are `count`.
fn flows_of(node: &Node, port: u16, count: usize) -> Vec<Value> {
    let mut flows = Vec::new();
    soon(|| {
        flows = node.flows(&[]);
        flows.retain(|flow| flow["source"]["port"] == port);
        flows.len() >= count
    });
    flows
}

fn keys(object: &Value) -> String {
    let mut keys: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    keys.join(" ")
}

/// `weft observe`, running.
struct Follower {
    process: std::process::Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut command = Command::new(weft());
        command.arg("observe").args(arguments).args(["-o", "json", "--run-dir"]).arg(node.run_dir());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
