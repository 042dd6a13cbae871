//! The conformance cases about requests, through the real kernel and the proxy, and through what the command line says of
//! them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use weft_abi::Reason;
use weft_tests::conformance::asked::{Question, services};
use weft_tests::conformance::placing::{addresses, ends, placed, ports, servers};
use weft_tests::conformance::{Asked, Case, Connection, cases};
use weft_tests::{Agent, HttpClient, Node, Pod, World, soon};

#[test]
fn the_proxy_says_what_the_first_half_of_the_cases_say() {
    run_part(0);
}

#[test]
fn the_proxy_says_what_the_second_half_of_the_cases_say() {
    run_part(1);
}

fn run_part(part: usize) {
    let Some(world) = World::new() else { return };
    let all: Vec<_> = cases().unwrap().into_iter().filter(Case::reads_requests).collect();
    let mine: Vec<_> = all.iter().skip(part).step_by(2).collect();
    assert!(mine.len() > 20, "only {} cases were found", mine.len());
    let bench = Bench::new(&world, &all);
    let failures: Vec<_> = mine.iter().flat_map(|case| bench.failures(case)).collect();
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}

/// A machine with every address that a case uses, and servers on every port.
struct Bench {
    _agent: Agent,
    node: Node,
    pods: BTreeMap<IpAddr, Pod>,
}

impl Bench {
    fn new(world: &World, cases: &[Case]) -> Self {
        let node = world.node("here");
        let mut pods = BTreeMap::new();
        for ips in addresses(cases) {
            let name = format!("x/{}", ips[0].to_string().replace([':', '.'], "-"));
            let pod = ips.iter().fold(node.pod(&name).outsider(), |pod, ip| match ip {
                IpAddr::V4(ip) => pod.ip(&ip.to_string()),
                IpAddr::V6(ip) => pod.ip6(&ip.to_string()),
            });
            pods.insert(ips[0], pod.start());
        }
        let (ports, servers) = (ports(cases), servers(cases));
        for (_, pod) in pods.iter().filter(|(ip, _)| servers.contains(ip)) {
            for port in &ports {
                serve(pod, *port);
            }
        }
        let agent = node.agent();
        Self { _agent: agent, node, pods }
    }

    /// What of `case` does not hold.
    fn failures(&self, case: &Case) -> Vec<String> {
        let place = |ip: &IpAddr| self.pods.get(ip).map(|pod| pod.netns_path().display().to_string());
        let manifest = [placed(case, place).manifest().unwrap(), services(case)].join("---\n");
        self.node.apply_and_wait("case.yaml", &manifest);
        soon(|| self.node.has_proxy());
        let wrong = case.connections.iter().flat_map(|connection| {
            let (from, to) = ends(case, connection);
            let errors = self.check(&self.pods[&from], to.into(), connection).err().into_iter();
            let asked = Question::of(case, connection);
            let said = asked.map(|question| question.disagreements(&self.node, connection));
            let name = &case.name;
            let all = errors.chain(said.into_iter().flatten());
            all.map(move |error| format!("{name}: {connection:?}: {error}")).collect::<Vec<_>>()
        });
        wrong.collect()
    }

    fn check(&self, from: &Pod, to: SocketAddr, connection: &Connection) -> Result<(), String> {
        let before = self.audits();
        let said = match &connection.request {
            None => bytes(from, to).map(|()| (200, String::new())),
            Some(asked) => request(from, to, asked),
        };
        let wanted = connection.verdict;
        match said {
            Ok((200, _)) if wanted == Reason::NONE => {}
            Ok((status, word)) if wanted.status() == Some(status) && word == wanted.word() => {}
            // What no request could change is refused before there is one; bytes have no other answer.
            Err(error) if wanted != Reason::NONE && is_refusal(&error) => {
                if connection.request.is_some() && wanted != Reason::POLICY_DENIED {
                    return Err(format!("no answer: {error}"));
                }
            }
            said => return Err(format!("{said:?}")),
        }
        // An agent that lags shows it a little later.
        if connection.audit && wanted == Reason::NONE {
            soon(|| self.audits() > before);
        }
        Ok(())
    }

    fn audits(&self) -> usize {
        self.node.flows(&[]).iter().filter(|flow| flow["verdict"] == "AUDIT").count()
    }
}

/// Answers requests with 200, and sends all other bytes back.
fn serve(pod: &Pod, port: u16) {
    let listener = pod.tcp_listen((Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        let is_request = bytes[..read].windows(9).any(|part| part == b" HTTP/1.1");
        let answer: &[u8] =
            if is_request { b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" } else { &bytes[..read] };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// Status and reason of an answer.
fn request(from: &Pod, to: SocketAddr, asked: &Asked) -> io::Result<(u16, String)> {
    let stream = from.tcp_connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let host = asked.host.iter().map(|host| ("host", host.as_str()));
    let lines = asked.lines();
    let headers: Vec<_> =
        host.chain(lines.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
    let answer = HttpClient::over(stream).ask((&asked.method, &asked.path), &headers, &[])?;
    Ok((answer.status, answer.header("x-weft-reason").to_owned()))
}

/// Whether bytes that are no request come back.
fn bytes(from: &Pod, to: SocketAddr) -> io::Result<()> {
    let mut stream = from.tcp_connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"\x00\x01bytes")?;
    stream.read_exact(&mut [0; 7])
}

fn is_refusal(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, PermissionDenied, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionRefused | ConnectionReset | PermissionDenied | UnexpectedEof
    )
}
