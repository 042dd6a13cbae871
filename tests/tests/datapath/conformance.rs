//! The conformance cases through the real kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use serde_yaml::{Mapping, Value};
use weft_abi::Reason;
use weft_model::Protocol;
use weft_tests::conformance::{Case, Client, Connection, Family, Server, cases};
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
    let all = cases().unwrap();
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
        self.node.apply_and_wait("case.yaml", &placed(case, place).manifest().unwrap());
        let wrong = case.connections.iter().filter_map(|connection| {
            let (from, to) = self.ends(case, connection);
            let error = self.check(from, to, connection).err()?;
            Some(format!("{}: {connection:?}: {error}", case.name))
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

    /// The client and the address that it dials.
    fn ends(&self, case: &Case, connection: &Connection) -> (&Pod, SocketAddr) {
        let Connection { from, to, family, .. } = connection;
        let client = match from {
            Client::Ip { ip } => &self.pods[ip],
            Client::Pod { pod } => &self.pods[&ips(find(case, "Pod", pod))[0]],
        };
        let to = match to {
            Server::Pod { pod, port } => (family.of(&ips(find(case, "Pod", pod))).unwrap(), *port),
            Server::Service { service, port } => (cluster_ip(find(case, "Service", service), *family), *port),
        };
        (client, to.into())
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

/// The case, with its pods where they are on this machine.
fn placed(case: &Case, netns: impl Fn(&IpAddr) -> Option<String>) -> Case {
    let mut case = case.clone();
    for pod in case.objects.iter_mut().filter(|object| object["kind"] == "Pod") {
        let here = ips(pod).first().and_then(&netns).expect("every pod's address is somewhere");
        let metadata = pod["metadata"].as_mapping_mut().expect("a pod has metadata");
        let annotations =
            metadata.entry("annotations".into()).or_insert_with(|| Value::Mapping(Mapping::default()));
        annotations["weft.dev/netns"] = here.into();
    }
    case
}

/// Every pod's and every client's addresses, IPv4 first.
fn addresses(cases: &[Case]) -> Vec<Vec<IpAddr>> {
    let mut all: BTreeMap<IpAddr, Vec<IpAddr>> = BTreeMap::new();
    for case in cases {
        let pods = case.objects.iter().filter(|object| object["kind"] == "Pod").map(ips);
        let clients = case.connections.iter().filter_map(|connection| match connection.from {
            Client::Ip { ip } => Some(vec![ip]),
            Client::Pod { .. } => None,
        });
        for ips in pods.chain(clients) {
            let known = all.entry(ips[0]).or_default();
            if ips.len() > known.len() {
                *known = ips;
            }
        }
    }
    all.into_values().collect()
}

/// The addresses, as [`Bench::pods`] has them, of the pods that anything may end at.
fn servers(cases: &[Case]) -> BTreeSet<IpAddr> {
    let of = |case: &Case| {
        let dialled = case.connections.iter().filter_map(|connection| match &connection.to {
            Server::Pod { pod, .. } => Some(ips(find(case, "Pod", pod))[0]),
            Server::Service { .. } => None,
        });
        let service = case.objects.iter().find(|object| object["kind"] == "Service");
        let selectable = case.objects.iter().filter(|object| object["kind"] == "Pod" && service.is_some());
        dialled.chain(selectable.map(|pod| ips(pod)[0])).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of).collect()
}

/// Every port that anything may end at.
fn ports(cases: &[Case]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for case in cases {
        for connection in &case.connections {
            let (Server::Pod { port, .. } | Server::Service { port, .. }) = connection.to;
            ports.insert(port);
        }
        let specs = case.objects.iter().filter(|object| object["kind"] != "AuthorizationPolicy");
        specs.for_each(|object| numbers(object, &mut ports));
    }
    ports
}

/// The values of fields that name a port.
fn numbers(value: &Value, ports: &mut BTreeSet<u16>) {
    match value {
        Value::Mapping(fields) => fields.iter().for_each(|(field, value)| {
            let is_port = matches!(field.as_str(), Some("port" | "targetPort" | "containerPort"));
            match value.as_u64().filter(|_| is_port) {
                Some(port) => drop(ports.insert(u16::try_from(port).expect("a port"))),
                None => numbers(value, ports),
            }
        }),
        Value::Sequence(values) => values.iter().for_each(|value| numbers(value, ports)),
        _ => {}
    }
}

fn find<'c>(case: &'c Case, kind: &str, name: &str) -> &'c Value {
    let (namespace, name) = name.split_once('/').expect("a namespaced name");
    let is = |object: &&Value| {
        object["kind"] == kind
            && object["metadata"]["namespace"] == namespace
            && object["metadata"]["name"] == name
    };
    case.objects.iter().find(is).expect("the case has it")
}

fn ips(pod: &Value) -> Vec<IpAddr> {
    let ips = pod["status"]["podIPs"].as_sequence().expect("a pod has addresses");
    ips.iter().map(|ip| ip["ip"].as_str().expect("text").parse().expect("an address")).collect()
}

fn cluster_ip(service: &Value, family: Family) -> IpAddr {
    let spec = &service["spec"];
    let more = spec["clusterIPs"].as_sequence().into_iter().flatten();
    let ips: Vec<IpAddr> =
        more.chain([&spec["clusterIP"]]).filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    family.of(&ips).expect("the Service has an address of the family")
}
