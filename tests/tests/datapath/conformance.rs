//! The conformance cases through the real kernel, and through what the command line says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use weft_abi::Reason;
use weft_model::Protocol;
use weft_tests::conformance::asked::{Question, services};
use weft_tests::conformance::placing::{addresses, ends, placed, ports, servers};
use weft_tests::conformance::{Case, Connection, cases};
use weft_tests::{Agent, Node, Pod, World, eventually};

#[test]
fn the_kernel_says_what_the_first_third_of_the_cases_say() {
    run_part(0);
}

#[test]
fn the_kernel_says_what_the_second_third_of_the_cases_say() {
    run_part(1);
}

#[test]
fn the_kernel_says_what_the_last_third_of_the_cases_say() {
    run_part(2);
}

/// Every third case, each by itself, on the same node.
fn run_part(part: usize) {
    let Some(world) = World::new() else { return };
    // What the proxy judges is in the suite `authz`.
    let all: Vec<_> = cases().unwrap().into_iter().filter(|case| !case.reads_requests()).collect();
    let mine: Vec<_> =
        all.iter().enumerate().filter(|(index, _)| index % 3 == part).map(|(_, case)| case).collect();
    let mut bench = Bench::new(&world, &all);
    let failures: Vec<_> = mine.iter().flat_map(|case| bench.failures(case)).collect();
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}

/// A machine with every address that a case uses, and servers on every port.
struct Bench {
    _agent: Agent,
    node: Node,
    pods: BTreeMap<IpAddr, Pod>,
    ports: BTreeSet<u16>,
    /// What listens, by the pods' addresses: nothing is accepted, it waits in the queue.
    _tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    /// Refusals and audits so far.
    seen: usize,
}

impl Bench {
    fn new(world: &World, cases: &[Case]) -> Self {
        let node = world.node("here");
        let mut pods = BTreeMap::new();
        for ips in addresses(cases) {
            let v4 = ips.iter().find(|ip| ip.is_ipv4()).map(ToString::to_string);
            let v6 = ips.iter().find(|ip| ip.is_ipv6()).map(ToString::to_string);
            let name = format!(
                "x/{}",
                v4.as_deref().or(v6.as_deref()).expect("an address").replace([':', '.'], "-")
            );
            let mut pod = node.pod(&name).outsider();
            pod = v4.iter().fold(pod, |pod, ip| pod.ip(ip));
            pod = v6.iter().fold(pod, |pod, ip| pod.ip6(ip));
            pods.insert(ips[0], pod.start());
        }
        let (ports, servers) = (ports(cases), servers(cases));
        let every = || {
            let servers = pods.iter().filter(|(ip, _)| servers.contains(ip));
            servers.flat_map(|(_, pod)| {
                ports.iter().map(move |port| (pod, (Ipv6Addr::UNSPECIFIED, *port).into()))
            })
        };
        let tcp = every().map(|(pod, at)| pod.tcp_listen(at).unwrap()).collect();
        let udp: Vec<UdpSocket> = every().map(|(pod, at)| pod.udp(at).unwrap()).collect();
        for socket in &udp {
            socket.set_nonblocking(true).unwrap();
        }
        let agent = node.agent();
        Self { _agent: agent, node, pods, ports, _tcp: tcp, udp, seen: 0 }
    }

    /// What of `case` does not hold.
    fn failures(&mut self, case: &Case) -> Vec<String> {
        let place = |ip: &IpAddr| self.pods.get(ip).map(|pod| pod.netns_path().display().to_string());
        let manifest = [placed(case, place).manifest().unwrap(), services(case)].join("---\n");
        self.node.apply_and_wait("case.yaml", &manifest);
        let wrong = case.connections.iter().flat_map(|connection| {
            let (from, to) = ends(case, connection);
            let errors = self.check(&self.pods[&from], to.into(), connection).err().into_iter();
            let asked = Question::of(case, connection);
            let said = asked.map(|question| question.disagreements(&self.node, connection));
            let name = &case.name;
            let all = errors.chain(said.into_iter().flatten());
            all.map(move |error| format!("{name}: {connection:?}: {error}")).collect::<Vec<_>>()
        });
        let mut failures: Vec<String> = wrong.collect();
        let expected: Vec<_> = case.connections.iter().filter_map(said).collect();
        let mut seen = Vec::new();
        let begun = Instant::now();
        while seen.len() < self.seen + expected.len() && begun.elapsed() < Duration::from_secs(2) {
            seen = self.said();
        }
        seen.drain(..self.seen.min(seen.len()));
        self.seen += seen.len();
        let agree = seen.len() == expected.len()
            && seen.iter().zip(&expected).all(|((verdict, reason), (wanted, why))| {
                verdict == wanted && why.is_none_or(|why| reason == why.word())
            });
        if !agree {
            failures.push(format!("{}: flows say {seen:?}, the case {expected:?}", case.name));
        }
        failures
    }

    /// Verdict and reason of every refusal and audit so far. What comes to a client's own port is a stray
    /// segment of a connection that is no more; no case is about that.
    fn said(&self) -> Vec<(Json, Json)> {
        let flows = self.node.refusals();
        let to_server = |flow: &&Json| {
            let port = flow["destination"]["port"].as_u64().and_then(|port| port.try_into().ok());
            port.is_some_and(|port| self.ports.contains(&port))
        };
        let said = flows.iter().filter(to_server);
        said.map(|flow| (flow["verdict"].clone(), flow["reason"].clone())).collect()
    }

    /// One connection or datagram, and whether the app is reached.
    fn check(&self, from: &Pod, to: SocketAddr, connection: &Connection) -> Result<(), String> {
        let allowed = connection.verdict == Reason::NONE;
        let outcome = match connection.protocol {
            Protocol::Tcp => from.tcp_connect(to).map(drop),
            Protocol::Udp => {
                let any: IpAddr =
                    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                from.udp((any, 0).into()).and_then(|socket| socket.send_to(b"?", to)).map(drop)
            }
        };
        let received = || self.udp.iter().any(|socket| socket.recv(&mut [0; 8]).is_ok());
        match (connection.protocol, outcome) {
            (Protocol::Tcp, Ok(())) if allowed => Ok(()),
            (Protocol::Udp, Ok(())) if allowed => {
                eventually(Duration::from_secs(1), received);
                Ok(())
            }
            (Protocol::Udp, Ok(())) if !received() => Ok(()),
            (_, Err(error)) if !allowed && is_refusal(&error) => Ok(()),
            (_, outcome) => Err(format!("the app's call said {outcome:?}")),
        }
    }
}

/// The flow that a connection gives: its verdict, and the reason where the case knows it.
fn said(connection: &Connection) -> Option<(&'static str, Option<Reason>)> {
    match (connection.verdict, connection.audit) {
        (Reason::NONE, false) => None,
        (Reason::NONE, true) => Some(("AUDIT", None)),
        (reason, _) => Some(("DENIED", Some(reason))),
    }
}

fn is_refusal(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ConnectionRefused)
}
