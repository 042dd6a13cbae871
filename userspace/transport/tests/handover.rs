//! Agent and proxy over real sockets, with real namespaces and listeners. Needs root.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/namespace.rs"]
mod namespace;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use namespace::namespace;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::net::TcpListener;
use weft_model::{ObjectName, ServiceAccount};
use weft_transport::handover::{
    AgentEnd, Error, FromAgent, FromProxy, Hello, LARGEST_IDENTITIES, LARGEST_RECORDS, Listening, Nack,
    NackReason, OURS, Peer, Pod, ProxyEnd, Report, Role, SOCKET, Unheard, Versions, generation,
};
use weft_transport::memfd::Sealed;
use weft_transport::seqpacket::{Connection, Listener};
use weft_transport::{Transparent, netns_cookie, socket_cookie};

#[tokio::test]
async fn both_ends_know_each_other_and_a_proxy_can_be_filled_and_report() {
    let (agent, proxy) = ends().await;
    assert_eq!((agent.version(), proxy.version()), (OURS.max, OURS.max));
    assert_eq!((agent.peer().build.as_str(), proxy.peer().build.as_str()), ("proxy", "agent"));

    let (origins, lease) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
    let id = agent.maps(origins.as_fd(), lease.as_fd()).await.unwrap();
    let (of, FromAgent::Maps { origins: got_origins, lease: got_lease }) = next(&proxy).await else {
        panic!()
    };
    assert_eq!(of, id);
    assert_eq!(
        [device(got_origins.as_fd()), device(got_lease.as_fd())],
        [&origins, &lease].map(|file| device(file.as_fd()))
    );
    proxy.ack(of).await.unwrap();

    let older = [[lease.as_fd(), origins.as_fd()], [origins.as_fd(), lease.as_fd()]];
    for told in [&older[..], &[]] {
        let id = agent.older_maps(told).await.unwrap();
        let (of, FromAgent::OlderMaps { pairs }) = next(&proxy).await else { panic!() };
        let devices = |fds: [BorrowedFd<'_>; 2]| fds.map(device);
        let got: Vec<_> = pairs.iter().map(|pair| devices([pair[0].as_fd(), pair[1].as_fd()])).collect();
        assert_eq!((of, got), (id, told.iter().map(|pair| devices(*pair)).collect()));
        proxy.ack(of).await.unwrap();
    }

    let id = agent.snapshot(7, &Sealed::of(b"routes").unwrap()).await.unwrap();
    let (of, FromAgent::Snapshot { version: 7, bytes }) = next(&proxy).await else { panic!() };
    assert_eq!((of, bytes.read().unwrap().as_slice()), (id, &b"routes"[..]));
    proxy.ack(of).await.unwrap();

    let transparent = Transparent { v4: true, v6: false };
    let pod = Pod { service_account: ServiceAccount::parse("shop/browser"), transparent, ..pod("shop/web") };
    agent.pod(&pod).await.unwrap();
    let (third, FromAgent::Pod(got)) = next(&proxy).await else { panic!() };
    assert_eq!((&got.name, got.cookie, &got.addresses), (&pod.name, pod.cookie, &pod.addresses));
    assert_eq!((&got.service_account, got.transparent), (&pod.service_account, transparent));
    assert_eq!(got.netns.id(), pod.netns.id());
    assert_eq!(cookies(&got), cookies(&pod));
    proxy.ack(third).await.unwrap();

    agent.pod_gone(pod.cookie).await.unwrap();
    agent.drain(Duration::from_mins(5)).await.unwrap();
    assert!(matches!(next(&proxy).await.1, FromAgent::PodGone { cookie } if cookie == pod.cookie));
    assert!(matches!(next(&proxy).await.1, FromAgent::Drain { within } if within.as_secs() == 300));
    let unheard = vec![Unheard { cookie: pod.cookie, port: 80 }];
    let report =
        Report { connections: 3, pods: 1, snapshot: Some(7), draining: true, certificates: 2, unheard };
    proxy.report(report.clone()).await.unwrap();
    for expected in 1..=5 {
        assert!(matches!(said(&agent).await, FromProxy::Ack { of } if of == expected));
    }
    assert!(matches!(said(&agent).await, FromProxy::Report(got) if got == report));
    drop(proxy);
    assert!(agent.receive().await.unwrap().is_none());
}

#[tokio::test]
async fn versions_without_overlap_are_refused_on_both_ends_with_the_remedy() {
    let (one, other) = Connection::pair().unwrap();
    let newer = Hello { versions: Versions { min: 5, max: 6 }, ..hello("agent") };
    let proxy = hello("proxy");
    let (agent, proxy) = tokio::join!(AgentEnd::greet(one, &newer), ProxyEnd::greet(other, &proxy));
    let (agent, proxy) = (agent.unwrap_err(), proxy.unwrap_err());
    assert!(matches!(agent, Error::Versions { peer: Peer::Proxy, .. }), "{agent}");
    assert!(matches!(proxy, Error::Versions { peer: Peer::Agent, .. }), "{proxy}");
    for error in [agent, proxy].map(|error| error.to_string()) {
        assert!(error.contains("versions 5 to 6") && error.contains("weft proxy upgrade"), "{error}");
    }
}

#[tokio::test]
async fn a_neighbours_version_is_spoken_and_its_new_fields_kinds_and_roles_are_tolerated() {
    let (agent, raw) = Connection::pair().unwrap();
    let ours = hello("agent");
    let newer = json!({"id": 0, "kind": "hello", "versions": {"min": 4, "max": 5}, "generation": 5, "pid": 9,
        "build": "next", "colour": "green"});
    say(&raw, newer, &[]).await;
    let agent = AgentEnd::greet(agent, &ours).await.unwrap();
    assert_eq!(agent.version(), 4);
    assert_eq!(agent.peer().pid, std::process::id(), "as the kernel has it, whatever it says");
    hear(&raw).await;

    let web = pod("shop/web");
    let fds = [web.netns.as_fd(), web.listeners[0].socket.as_fd()];
    let held = json!({"id": 1, "kind": "held", "name": "shop/web", "cookie": web.cookie, "addresses": [],
        "listeners": ["diagonal"], "shape": {"round": true}});
    say(&raw, held, &fds).await;
    say(&raw, json!({"id": 2, "kind": "held", "name": {"now": "an object"}}), &[]).await;
    say(&raw, json!({"id": 3, "kind": "held-all", "pods": 2}), &[]).await;
    let pods = agent.take_back().await.unwrap();
    assert_eq!((pods.len(), &pods[0].listeners[0].role), (1, &Role::Later("diagonal".into())));

    agent.pod(&pods[0]).await.unwrap();
    let refused = hear(&raw).await;
    assert_eq!([&refused["of"], &refused["reason"]], [&json!(2), &json!("malformed")]);
    assert_eq!(hear(&raw).await["listeners"], json!(["diagonal"]), "the role keeps its name");

    say(&raw, json!({"id": 4, "kind": "flow-batch", "flows": [1, 2]}), &[]).await;
    let FromProxy::Unfit(nack) = said(&agent).await else { panic!() };
    assert_eq!((nack.of, nack.reason), (4, NackReason::UnknownKind));
    assert!(nack.error.contains("flow-batch"), "{nack:?}");
    agent.answer(nack).await.unwrap();
    let answer = hear(&raw).await;
    assert_eq!(
        [&answer["kind"], &answer["of"], &answer["reason"]],
        [&json!("nack"), &json!(4), &json!("unknown-kind")]
    );

    say(&raw, json!({"id": 5, "kind": "nack", "of": 1, "reason": "mercury-retrograde", "error": "?"}), &[])
        .await;
    assert!(matches!(said(&agent).await, FromProxy::Nack(nack) if nack.reason == NackReason::Unlisted));
    say(&raw, json!({"id": 6, "kind": "ack", "of": 1}), &[]).await;
    assert!(matches!(said(&agent).await, FromProxy::Ack { of: 1 }));
}

#[tokio::test]
async fn a_pod_whose_descriptors_are_not_what_they_should_be_is_refused_and_the_next_is_taken() {
    let (raw, proxy) = raw_agent().await;
    let (web, other) = (pod("shop/web"), pod("shop/other"));
    let null = File::open("/dev/null").unwrap();
    let fields = json!({"id": 1, "kind": "pod", "name": "shop/web", "cookie": web.cookie,
        "addresses": ["10.0.0.1"], "listeners": ["outbound"]});
    let netns = web.netns.as_fd();
    let client = call(&web, address(&web));
    let table: [(&[BorrowedFd<'_>], &str); 6] = [
        (&[], "needs 2 descriptors and has 0"),
        (&[netns], "needs 2 descriptors and has 1"),
        (&[null.as_fd(), web.listeners[0].socket.as_fd()], "no network namespace"),
        (&[netns, null.as_fd()], "no listening socket"),
        (&[netns, client.as_fd()], "no listening socket"),
        (&[netns, other.listeners[0].socket.as_fd()], "no listening socket of the namespace"),
    ];
    for (fds, why) in table {
        say(&raw, fields.clone(), fds).await;
        assert_unfit(next(&proxy).await.1, why);
    }
    let mut nameless = fields.clone();
    nameless["name"] = json!("web");
    say(&raw, nameless, &[netns, web.listeners[0].socket.as_fd()]).await;
    assert_unfit(next(&proxy).await.1, "no pod's name");
    let mut cookieless = fields.clone();
    cookieless.as_object_mut().unwrap().remove("cookie");
    say(&raw, cookieless, &[netns, web.listeners[0].socket.as_fd()]).await;
    assert_unfit(next(&proxy).await.1, "cookie");
    say(&raw, fields, &[netns, web.listeners[0].socket.as_fd()]).await;
    assert!(matches!(next(&proxy).await.1, FromAgent::Pod(_)));
}

#[tokio::test]
async fn a_snapshot_that_is_not_sealed_or_too_large_is_refused() {
    let (raw, proxy) = raw_agent().await;
    let proxy = proxy.with_largest_snapshot(100);
    let snapshot = |id: u32| json!({"id": id, "kind": "snapshot", "version": 1});
    let open = tempfile::tempfile().unwrap();
    say(&raw, snapshot(1), &[open.as_fd()]).await;
    assert_unfit(next(&proxy).await.1, "");
    say(&raw, snapshot(2), &[Sealed::of(&[0; 101]).unwrap().as_fd()]).await;
    assert_unfit(next(&proxy).await.1, "101 bytes, more than the 100");
    say(&raw, snapshot(3), &[Sealed::of(&[0; 100]).unwrap().as_fd()]).await;
    assert!(matches!(next(&proxy).await, (3, FromAgent::Snapshot { version: 1, .. })));
}

#[tokio::test]
async fn records_are_answered_and_what_is_no_batch_of_them_is_refused() {
    let (agent, proxy) = ends().await;
    let sent = proxy.records(&Sealed::of(b"what ended").unwrap()).await.unwrap();
    let FromProxy::Records { id, bytes } = said(&agent).await else { panic!() };
    assert_eq!((id, bytes.read().unwrap().as_slice()), (sent, &b"what ended"[..]));
    agent.ack(id).await.unwrap();
    assert!(matches!(next(&proxy).await.1, FromAgent::Ack { of } if of == sent));

    let large = proxy.records(&Sealed::of(&vec![0; LARGEST_RECORDS + 1]).unwrap()).await.unwrap();
    let FromProxy::Unfit(nack) = said(&agent).await else { panic!() };
    assert_eq!((nack.of, nack.reason), (large, NackReason::Malformed));
    agent.answer(nack).await.unwrap();
    assert!(matches!(next(&proxy).await.1, FromAgent::Nack(nack) if nack.of == large));

    let (agent, raw) = Connection::pair().unwrap();
    say(&raw, greeting("proxy"), &[]).await;
    let agent = AgentEnd::greet(agent, &hello("agent")).await.unwrap();
    say(&raw, json!({"id": 1, "kind": "records"}), &[]).await;
    let FromProxy::Unfit(nack) = said(&agent).await else { panic!() };
    assert!(nack.error.contains("needs 1 descriptors and has 0"), "{nack:?}");
}

#[tokio::test]
async fn identities_are_given_and_what_is_none_or_too_large_is_refused() {
    let (agent, proxy) = ends().await;
    assert!(agent.takes_identities());
    let sent = agent.identities(3, &Sealed::of(b"keys").unwrap()).await.unwrap();
    let (of, FromAgent::Identities { version: 3, bytes }) = next(&proxy).await else { panic!() };
    assert_eq!((of, bytes.read().unwrap().as_slice()), (sent, &b"keys"[..]));
    agent.identities(4, &Sealed::of(&vec![0; LARGEST_IDENTITIES + 1]).unwrap()).await.unwrap();
    assert_unfit(next(&proxy).await.1, "more than the");

    let (raw, proxy) = raw_agent().await;
    say(&raw, json!({"id": 1, "kind": "identities", "version": 1}), &[]).await;
    assert_unfit(next(&proxy).await.1, "needs 1 descriptors and has 0");
}

#[tokio::test]
async fn a_proxy_of_the_version_before_is_given_no_identities_and_says_of_no_pod_whose_it_is() {
    let (agent, raw) = Connection::pair().unwrap();
    let mut older = greeting("proxy");
    older["versions"] = json!({"min": 1, "max": 2});
    say(&raw, older, &[]).await;
    let agent = AgentEnd::greet(agent, &hello("agent")).await.unwrap();
    assert_eq!((agent.version(), agent.takes_identities()), (2, false));
    let web = pod("shop/web");
    let held = json!({"id": 1, "kind": "held", "name": "shop/web", "cookie": web.cookie, "addresses": [],
        "listeners": ["outbound"]});
    say(&raw, held, &[web.netns.as_fd(), web.listeners[0].socket.as_fd()]).await;
    say(&raw, json!({"id": 2, "kind": "held-all", "pods": 1}), &[]).await;
    assert_eq!(agent.take_back().await.unwrap()[0].service_account, None);

    // An agent of it gives none either.
    let (raw, proxy) = Connection::pair().unwrap();
    let mut older = greeting("agent");
    older["versions"] = json!({"min": 1, "max": 2});
    say(&raw, older, &[]).await;
    let proxy = ProxyEnd::greet(proxy, &hello("proxy")).await.unwrap();
    let given = json!({"id": 1, "kind": "pod", "name": "shop/web", "cookie": web.cookie, "addresses": [],
        "listeners": ["outbound"]});
    say(&raw, given, &[web.netns.as_fd(), web.listeners[0].socket.as_fd()]).await;
    let (_, FromAgent::Pod(got)) = next(&proxy).await else { panic!() };
    assert_eq!((proxy.version(), got.service_account, proxy.takes_alike()), (2, None, false));
}

#[tokio::test]
async fn an_agent_of_the_version_before_is_told_of_each_request_alone() {
    let (raw, proxy) = Connection::pair().unwrap();
    let mut older = greeting("agent");
    older["versions"] = json!({"min": 2, "max": 3});
    say(&raw, older, &[]).await;
    let proxy = ProxyEnd::greet(proxy, &hello("proxy")).await.unwrap();
    assert_eq!((proxy.version(), proxy.takes_alike()), (3, false));

    let (one, other) = Connection::pair().unwrap();
    let (agent, ours) = (hello("agent"), hello("proxy"));
    let (_agent, proxy) = tokio::join!(AgentEnd::greet(one, &agent), ProxyEnd::greet(other, &ours));
    assert!(proxy.unwrap().takes_alike());
}

#[tokio::test]
async fn another_program_on_the_socket_is_told_from_a_peer() {
    let (raw, one) = Connection::pair().unwrap();
    say(&raw, json!({"id": 1, "kind": "ack", "of": 1}), &[]).await;
    let ours = hello("agent");
    assert!(
        matches!(AgentEnd::greet(one, &ours).await, Err(Error::Unexpected { kind, .. }) if kind == "ack")
    );
    let (raw, one) = Connection::pair().unwrap();
    raw.send(b"GET / HTTP/1.1\r\n\r\n", &[]).await.unwrap();
    assert!(matches!(AgentEnd::greet(one, &ours).await, Err(Error::Malformed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_does_not_hold_the_other_up() {
    let (_silent, one) = Connection::pair().unwrap();
    assert!(matches!(AgentEnd::greet(one, &hello("agent")).await, Err(Error::Silent { .. })));
}

// A clock that stands would be set forward while the socket is waited for.
#[tokio::test]
async fn a_closing_peer_does_not_hold_the_other_up() {
    let (closing, one) = Connection::pair().unwrap();
    let hearing = async {
        hear(&closing).await;
        drop(closing);
    };
    let ours = hello("agent");
    let (greeted, ()) = tokio::join!(AgentEnd::greet(one, &ours), hearing);
    assert!(matches!(greeted, Err(Error::Closed { .. })), "{greeted:?}");
}

#[tokio::test]
async fn a_restarted_agent_gets_the_listeners_back_with_what_waits_in_them() {
    let run = Run::new();
    let (agent, proxy) = run.meet().await;
    let web = pod("shop/web");
    let (cookies_before, address) = (cookies(&web), address(&web));
    agent.pod(&web).await.unwrap();
    let (_, FromAgent::Pod(held)) = next(&proxy).await else { panic!() };
    // The agent is killed, with all that it held.
    drop((agent, web));
    assert!(proxy.receive().await.unwrap().is_none());
    let waiting = call(&held, address);

    let run = run.restarted();
    let (agent, proxy) = run.meet_with(&[&held]).await;
    let taken = agent.take_back().await.unwrap();
    assert_eq!(taken.len(), 1);
    assert_eq!((&taken[0].name, cookies(&taken[0])), (&held.name, cookies_before));
    // Now the proxy goes too: the connection waits on in what the agent took back.
    drop((proxy, held));
    answer(&taken[0], waiting).await;
}

#[tokio::test]
async fn a_namespace_ends_once_both_have_let_go_of_it() {
    let outside = namespace();
    let (agent, proxy) = ends().await;
    let web = pod("shop/web");
    // The kernel removes this end with the namespace that has the other.
    let inside = format!("/proc/{}/fd/{}", std::process::id(), web.netns.as_fd().as_raw_fd());
    let veth = ["link", "add", "to-web", "type", "veth", "peer", "name", "eth0", "netns", &inside];
    assert!(outside.run(|| ip(&veth)).unwrap());
    let is_there = || outside.run(|| ip(&["link", "show", "to-web"])).unwrap();

    agent.pod(&web).await.unwrap();
    let (_, FromAgent::Pod(held)) = next(&proxy).await else { panic!() };
    let client = call(&held, address(&web));
    drop(web);
    answer(&held, client).await;
    assert!(is_there());
    drop(held);
    let start = Instant::now();
    while is_there() {
        assert!(start.elapsed() < Duration::from_secs(10), "something holds the namespace");
    }
}

#[tokio::test]
async fn connections_wait_while_no_proxy_lives_and_the_next_generation_gets_them() {
    let run = Run::new();
    let (agent, old) = run.meet().await;
    let web = pod("shop/web");
    agent.pod(&web).await.unwrap();
    let (_, FromAgent::Pod(held)) = next(&old).await else { panic!() };
    let waiting = call(&held, address(&web));
    drop((old, held));
    assert!(agent.receive().await.unwrap().is_none());
    let waiting_too = call(&web, address(&web));

    let (agent, new) = run.meet().await;
    agent.pod(&web).await.unwrap();
    let (_, FromAgent::Pod(held)) = next(&new).await else { panic!() };
    for client in [waiting, waiting_too] {
        answer(&held, client).await;
    }
}

#[tokio::test]
async fn in_an_upgrade_there_is_no_moment_in_which_a_connection_is_refused() {
    let run = Run::new();
    let (to_old, old) = run.meet().await;
    let web = pod("shop/web");
    to_old.pod(&web).await.unwrap();
    let (_, FromAgent::Pod(held_by_old)) = next(&old).await else { panic!() };
    let (to_new, new) = run.meet().await;
    assert!(to_new.peer().generation > to_old.peer().generation);
    let before = call(&web, address(&web));
    to_new.pod(&web).await.unwrap();
    let (of, FromAgent::Pod(held_by_new)) = next(&new).await else { panic!() };
    new.ack(of).await.unwrap();

    to_old.drain(Duration::from_mins(5)).await.unwrap();
    assert!(matches!(next(&old).await.1, FromAgent::Drain { .. }));
    let during = call(&web, address(&web));
    drop((old, held_by_old));
    let after = call(&web, address(&web));
    for client in [before, during, after] {
        answer(&held_by_new, client).await;
    }
}

#[tokio::test]
async fn after_a_crash_in_an_upgrade_both_generations_hand_back_the_same_sockets() {
    let run = Run::new();
    let web = pod("shop/web");
    let other = pod("shop/other");
    let (_, _old) = run.meet_with(&[&web]).await;
    let run = run.restarted();
    let (from_old, _old) = run.meet_with(&[&web, &other]).await;
    let (from_new, _new) = run.meet_with(&[&web]).await;
    let (old, new) = (from_old.take_back().await.unwrap(), from_new.take_back().await.unwrap());
    assert_eq!((old.len(), new.len()), (2, 1));
    assert_eq!(cookies(&old[0]), cookies(&new[0]));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_stops_while_it_hands_back_does_not_hold_the_agent_up() {
    let (agent, raw) = Connection::pair().unwrap();
    say(&raw, greeting("proxy"), &[]).await;
    let agent = AgentEnd::greet(agent, &hello("agent")).await.unwrap();
    assert!(matches!(agent.take_back().await, Err(Error::Silent { .. })));
    say(&raw, json!({"id": 1, "kind": "report"}), &[]).await;
    assert!(matches!(agent.take_back().await, Err(Error::Unexpected { kind, .. }) if kind == "report"));
}

#[tokio::test]
async fn a_proxy_that_miscounts_what_it_hands_back_is_not_believed() {
    let (agent, raw) = Connection::pair().unwrap();
    say(&raw, greeting("proxy"), &[]).await;
    let agent = AgentEnd::greet(agent, &hello("agent")).await.unwrap();
    say(&raw, json!({"id": 1, "kind": "held-all", "pods": 2}), &[]).await;
    assert!(matches!(agent.take_back().await, Err(Error::PodsLost { came: 0, said: 2 })));
}

/// A run directory with the agent's socket in it.
struct Run {
    dir: TempDir,
    listener: Listener,
}

impl Run {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let listener = Listener::bind(dir.path().join(SOCKET)).unwrap();
        Self { dir, listener }
    }

    fn restarted(self) -> Self {
        let Self { dir, listener } = self;
        drop(listener);
        let listener = Listener::bind(dir.path().join(SOCKET)).unwrap();
        Self { dir, listener }
    }

    async fn meet(&self) -> (AgentEnd, ProxyEnd) {
        let (agent, proxy) = self.greet().await;
        proxy.hand_back([]).await.unwrap();
        assert_eq!(agent.take_back().await.unwrap().len(), 0);
        (agent, proxy)
    }

    async fn meet_with(&self, pods: &[&Pod]) -> (AgentEnd, ProxyEnd) {
        let (agent, proxy) = self.greet().await;
        proxy.hand_back(pods.iter().copied()).await.unwrap();
        (agent, proxy)
    }

    async fn greet(&self) -> (AgentEnd, ProxyEnd) {
        let path = self.dir.path().join(SOCKET);
        let (agent, proxy) = (hello("agent"), hello("proxy"));
        let accepting = async { AgentEnd::greet(self.listener.accept().await.unwrap(), &agent).await };
        let (agent, proxy) = tokio::join!(accepting, ProxyEnd::connect(&path, &proxy));
        (agent.unwrap(), proxy.unwrap())
    }
}

/// Two ends that have met; the proxy had nothing to hand back.
async fn ends() -> (AgentEnd, ProxyEnd) {
    let (one, other) = Connection::pair().unwrap();
    let (agent, proxy) = (hello("agent"), hello("proxy"));
    let (agent, proxy) = tokio::join!(AgentEnd::greet(one, &agent), ProxyEnd::greet(other, &proxy));
    let (agent, proxy) = (agent.unwrap(), proxy.unwrap());
    proxy.hand_back([]).await.unwrap();
    assert_eq!(agent.take_back().await.unwrap().len(), 0);
    (agent, proxy)
}

/// An agent that can say anything.
async fn raw_agent() -> (Connection, ProxyEnd) {
    let (raw, other) = Connection::pair().unwrap();
    say(&raw, greeting("agent"), &[]).await;
    let proxy = ProxyEnd::greet(other, &hello("proxy")).await.unwrap();
    (raw, proxy)
}

fn hello(build: &str) -> Hello {
    Hello::of_this_process(generation(), build)
}

fn greeting(build: &str) -> Value {
    let mut greeting = serde_json::to_value(hello(build)).unwrap();
    greeting["kind"] = json!("hello");
    greeting["id"] = json!(0);
    greeting
}

fn pod(name: &str) -> Pod {
    let netns = namespace();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let socket = netns.listen((loopback, 0).into()).unwrap();
    let cookie = netns.cookie().unwrap();
    assert_eq!(netns_cookie(socket.as_fd()), Ok(cookie));
    let listeners = vec![Listening { role: Role::Outbound, socket }];
    let (name, addresses) = (ObjectName::parse(name).unwrap(), vec![loopback]);
    Pod {
        name,
        cookie,
        addresses,
        service_account: None,
        netns,
        listeners,
        transparent: Transparent::default(),
    }
}

fn address(pod: &Pod) -> SocketAddr {
    pod.listeners[0].socket.local_addr().unwrap()
}

fn cookies(pod: &Pod) -> Vec<u64> {
    pod.listeners.iter().map(|listening| socket_cookie(listening.socket.as_fd()).unwrap()).collect()
}

/// Connects from inside the pod; succeeds although nobody accepts.
fn call(pod: &Pod, to: SocketAddr) -> TcpStream {
    let mut client =
        pod.netns.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))).unwrap().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.write_all(b"ping").unwrap();
    client
}

/// Accepts what waits and answers; `client` is the one that gets the answer.
async fn answer(pod: &Pod, mut client: TcpStream) {
    let listener = TcpListener::from_std(pod.listeners[0].socket.try_clone().unwrap()).unwrap();
    let accepted = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await;
    let (server, peer) = accepted.expect("a connection waits").unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    let mut server = server.into_std().unwrap();
    server.set_nonblocking(false).unwrap();
    let mut bytes = [0; 4];
    server.read_exact(&mut bytes).unwrap();
    server.write_all(&bytes).unwrap();
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
}

async fn next(proxy: &ProxyEnd) -> (u64, FromAgent) {
    proxy.receive().await.unwrap().expect("the agent is there")
}

async fn said(agent: &AgentEnd) -> FromProxy {
    agent.receive().await.unwrap().expect("the proxy is there")
}

async fn say(connection: &Connection, message: Value, fds: &[BorrowedFd<'_>]) {
    connection.send(&serde_json::to_vec(&message).unwrap(), fds).await.unwrap();
}

async fn hear(connection: &Connection) -> Value {
    serde_json::from_slice(&connection.receive().await.unwrap().unwrap().bytes).unwrap()
}

fn assert_unfit(message: FromAgent, why: &str) {
    let FromAgent::Unfit(Nack { reason: NackReason::Malformed, error, .. }) = message else {
        panic!("{message:?} was taken");
    };
    assert!(error.contains(why), "{error}");
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().unwrap().status.success()
}

fn device(fd: BorrowedFd<'_>) -> u64 {
    File::from(fd.try_clone_to_owned().unwrap()).metadata().unwrap().rdev()
}
