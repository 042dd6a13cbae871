//! Each payload through each proxy, and what must hold.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::thread;

use crate::client::{self, Address, Answer};
use crate::corpus::{self, Payload};
use crate::mesh;
use crate::others::Other;
use crate::upstream::{Record, Upstream};

/// What became of a payload.
struct Outcome {
    answers: Vec<Answer>,
    record: Record,
}

/// A payload with the outcomes of weft, nginx and haproxy.
struct Compared<'a> {
    payload: &'a Payload,
    weft: Outcome,
    nginx: Outcome,
    haproxy: Outcome,
}

#[test]
fn what_weft_forwards_has_one_reading_and_weft_is_never_the_most_lenient() {
    let payloads = corpus::payloads();
    assert!(payloads.len() >= 220, "only {} payloads", payloads.len());
    let compared = compare(&payloads);
    eprintln!("{}", table(&compared));
    let wrong: Vec<String> = compared.iter().flat_map(Compared::wrong).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), payloads.len(), wrong.join("\n"));
}

/// Some payloads at a time, on lanes with upstreams of their own.
fn compare(payloads: &[Payload]) -> Vec<Compared<'_>> {
    let upstreams = [(); 3].map(|()| (0..LANES).map(|_| Upstream::start()).collect::<Vec<_>>());
    let addresses = |of: &[Upstream]| of.iter().map(|upstream| upstream.address).collect::<Vec<SocketAddr>>();
    let [weft, nginx, haproxy] = &upstreams;
    let mesh = mesh::start(&addresses(weft));
    let (other, another) = (Other::nginx(&addresses(nginx)), Other::haproxy(&addresses(haproxy)));
    let lane = |lane: usize| {
        let on = |to: &[Address], upstreams: &[Upstream], payload| {
            let answers = client::send(&to[lane], payload);
            Outcome { answers, record: upstreams[lane].take() }
        };
        let on = &on;
        let (mesh, other, another) = (&mesh.addresses, &other.addresses, &another.addresses);
        let payloads = payloads.iter().enumerate().filter(move |(at, _)| at % LANES == lane);
        payloads
            .map(|(at, payload)| {
                thread::scope(|scope| {
                    let nginx = scope.spawn(|| on(other, nginx, &payload.bytes));
                    let haproxy = scope.spawn(|| on(another, haproxy, &payload.bytes));
                    let weft = on(mesh, weft, &payload.bytes);
                    let (nginx, haproxy) = (nginx.join().unwrap(), haproxy.join().unwrap());
                    (at, Compared { payload, weft, nginx, haproxy })
                })
            })
            .collect::<Vec<_>>()
    };
    let lane = &lane;
    let mut compared: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|at| scope.spawn(move || lane(at))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    compared.sort_by_key(|(at, _)| *at);
    compared.into_iter().map(|(_, compared)| compared).collect()
}

impl Compared<'_> {
    /// What should not be, as sentences.
    fn wrong(&self) -> Vec<String> {
        let Self { payload, weft, .. } = self;
        let mut wrong = Vec::new();
        let mut say = |what: String| wrong.push(format!("  {}: {what}", payload.name));
        if !weft.record.ambiguous.is_empty() || weft.record.tunnelled > 0 {
            say(format!("weft forwards what has several readings: {:?}", weft.record.ambiguous));
        }
        let seen = weft.requests();
        if seen != payload.forwards {
            say(format!("the upstream sees {seen:?}, not {:?}", payload.forwards));
        }
        if weft.refusal() != payload.refused {
            say(format!("weft answers {:?}, not {:?}", weft.refusal(), payload.refused));
        }
        if self.nginx.refuses() && self.haproxy.refuses() && !weft.refuses() {
            say("nginx and haproxy refuse it, weft does not".to_owned());
        }
        if let Some(first) = weft.record.requests.first() {
            let fields: Vec<String> =
                first.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            for line in payload.carries.iter().filter(|line| !fields.contains(line)) {
                say(format!("{line:?} is missing in {fields:?}"));
            }
            for name in payload.lacks.iter().filter(|name| first.all(name).next().is_some()) {
                say(format!("{name} has passed"));
            }
        }
        wrong
    }

    fn differ(&self) -> bool {
        let [weft, nginx, haproxy] = self.outcomes().map(ToString::to_string);
        weft != nginx || weft != haproxy
    }

    fn outcomes(&self) -> [&Outcome; 3] {
        [&self.weft, &self.nginx, &self.haproxy]
    }
}

impl Outcome {
    fn requests(&self) -> Vec<String> {
        self.record.requests.iter().map(crate::strict::Request::line).collect()
    }

    /// Status and reason of the proxy's own refusal.
    fn refusal(&self) -> Option<String> {
        let answer = self.answers.iter().find(|answer| answer.refuses())?;
        Some(format!("{} {}", answer.status, answer.reason.as_deref().unwrap_or_default()))
    }

    fn refuses(&self) -> bool {
        self.answers.iter().any(Answer::refuses)
    }
}

impl Answer {
    /// Not by the upstream, and not because it waited in vain (408) or because of the upstream (502, 503, 504).
    fn refuses(&self) -> bool {
        !self.upstream && self.status >= 400 && ![408, 502, 503, 504].contains(&self.status)
    }
}

/// How many requests got through, what had several readings, and the refusal's status.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match self.record.requests.len() {
            0 => {}
            passed => words.push(format!("{passed} pass")),
        }
        if !self.record.ambiguous.is_empty() {
            words.push("AMBIGUOUS".to_owned());
        }
        if self.record.tunnelled > 0 {
            words.push("TUNNEL".to_owned());
        }
        let refused = self.answers.iter().find(|answer| answer.refuses());
        words.extend(refused.map(|answer| answer.status.to_string()));
        f.pad(&if words.is_empty() { "-".to_owned() } else { words.join(", ") })
    }
}

fn table(compared: &[Compared<'_>]) -> String {
    let mut table = format!("{:68} {:16} {:20} {:20}\n", "where they differ", "weft", "nginx", "haproxy");
    for Compared { payload, weft, nginx, haproxy } in compared.iter().filter(|it| it.differ()) {
        let name: String = payload.name.chars().take(68).collect();
        writeln!(table, "{name:68} {weft:16} {nginx:20} {haproxy:20}").unwrap();
    }
    let count = |what: fn(&Outcome) -> bool| {
        [0, 1, 2].map(|proxy| compared.iter().filter(|it| what(it.outcomes()[proxy])).count())
    };
    let refused = count(Outcome::refuses);
    let ambiguous = count(|it| !it.record.ambiguous.is_empty() || it.record.tunnelled > 0);
    for (what, [weft, nginx, haproxy]) in [("refused", refused), ("passed with several readings", ambiguous)]
    {
        writeln!(table, "of {} payloads {what:54} {weft:<16} {nginx:<20} {haproxy:<20}", compared.len())
            .unwrap();
    }
    table
}

const LANES: usize = 32;
