//! The conformance cases through `weft_policy::decide`, and through rows and the hooks' logic.

// The same maps in memory with which the datapath's own differential test reads rows.
#[path = "../../userspace/datapath/tests/rows_agree/memory.rs"]
mod memory;

use std::{collections::BTreeSet, fs, net::IpAddr, sync::Arc};

use anyhow::{Context, Result, ensure};
use http::HeaderMap;
use weft_abi::Reason;
use weft_datapath::rows::policy::compile;
use weft_kubernetes::{ManifestSource, Options};
use weft_model::{ObjectName, ProvenClaims, Snapshot, Workload, eligible};
use weft_policy::{Claims, HttpRequest, Identity, Policies, Request, Requests, decide, open, path::Readings};
use weft_tests::conformance::asked::Question;
use weft_tests::conformance::{Asked, Case, Client, Connection, Family, Server, cases};

use self::memory::Memory;

#[test]
fn every_case_means_what_it_says() {
    let cases = cases().unwrap();
    let failures: Vec<_> = cases.iter().flat_map(failures).collect();
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cases_can_be_told_apart_and_fit_one_small_network() {
    let cases = cases().unwrap();
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "a name stands twice");
    let by_kernel = cases.iter().filter(|case| !case.reads_requests()).count();
    assert!(by_kernel >= 60 && cases.len() >= 150, "only {by_kernel} of {} cases were found", cases.len());
    for case in &cases {
        let pods = case.objects.iter().filter(|object| object["kind"] == "Pod").count();
        assert!((2..=6).contains(&pods), "{} pods: {}", pods, case.name);
    }
}

#[test]
fn the_command_line_can_be_asked_about_all_but_clients_that_are_no_pods() {
    let cases = cases().unwrap();
    let all = || cases.iter().flat_map(|case| case.connections.iter().map(move |one| (case, one)));
    let questions: Vec<_> = all().filter_map(|(case, one)| Question::of(case, one)).collect();
    let of_nobody = all().filter(|(_, one)| matches!(one.from, Client::Ip { .. })).count();
    assert_eq!(questions.len() + of_nobody, all().count());
    let explained = questions.iter().filter(|question| question.can_be_explained()).count();
    let requests = all().filter(|(_, one)| one.request.is_some()).count();
    eprintln!("{} of {} connections: {explained} of {requests} requests", questions.len(), all().count());
    assert!(questions.len() > 300 && explained > 150, "the suites ask less than they say");
}

fn failures(case: &Case) -> Vec<String> {
    let snapshot = match snapshot(case) {
        Ok(snapshot) => snapshot,
        Err(error) => return vec![format!("{}: {error:#}", case.name)],
    };
    let failed = case.connections.iter().filter_map(|connection| {
        let error = check(&snapshot, connection).err()?;
        Some(format!("{}: {connection:?}: {error:#}", case.name))
    });
    failed.collect()
}

/// The case's objects, read as the agent of node `here` reads them. Warnings are fine.
fn snapshot(case: &Case) -> Result<Arc<Snapshot>> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("case.yaml"), case.manifest()?)?;
    let (_source, latest) = ManifestSource::open(directory.path(), Options::of("here"))?;
    let snapshot = Arc::clone(&latest.borrow());
    let errors = snapshot.problems.iter().filter(|problem| problem.severity == weft_model::Severity::Error);
    let errors: Vec<_> =
        errors.map(|problem| format!("{}: {}: {}", problem.object, problem.field, problem.message)).collect();
    ensure!(errors.is_empty(), "{}", errors.join("; "));
    Ok(snapshot)
}

/// Both readings of the policies, on every endpoint that the connection may reach.
fn check(snapshot: &Snapshot, connection: &Connection) -> Result<()> {
    let client = Peer::of(snapshot, &connection.from, connection.family)?;
    for (workload, port) in reached(snapshot, &connection.to, connection.family)? {
        let (source, identity) = (client.ip, client.identity());
        let request = Request { source, identity, protocol: connection.protocol, port, http: None };
        let protection = Policies::new(snapshot).protection(workload);
        let host = connection.request.as_ref().and_then(|asked| asked.host.clone());
        let asked = match connection.request.as_ref().map(|asked| (asked, Readings::of(path(&asked.path)))) {
            Some((_, Err(_))) => {
                ensure!(connection.verdict == Reason::PATH_INVALID, "its path is refused");
                continue;
            }
            Some((asked, Ok(path))) => match proven(snapshot, workload, asked) {
                Err(reason) => {
                    ensure!(connection.verdict == reason, "its token is refused: {reason}");
                    continue;
                }
                Ok(claims) => Some((asked, path, asked.lines(), claims)),
            },
            None => None,
        };
        let http = asked.as_ref().map(|(asked, path, headers, claims)| HttpRequest {
            method: &asked.method,
            path,
            host: host.as_deref(),
            headers,
            claims: claims.as_ref().map(|claims| claims as &dyn Claims),
        });
        let decision = decide(&protection, &Request { http, ..request });
        ensure!(decision.reason == connection.verdict, "decide says {}", decision.reason);
        ensure!(decision.audit.is_some() == connection.audit, "decide's audit says {:?}", decision.audit);
        let ruling = Memory::new(&compile(&protection)).ruling(&request);
        let opening = open(&protection, &request);
        let (verdict, audit) = (ruling.verdict.reason, ruling.audit.reason);
        ensure!(verdict == opening.decision.reason, "rows say {verdict}, open {}", opening.decision.reason);
        if opening.requests == Requests::Unread {
            ensure!(verdict == connection.verdict, "rows say {verdict}");
            ensure!((audit != Reason::NONE) == connection.audit, "rows' audit says {audit}");
        } else {
            ensure!(
                verdict == Reason::NONE || verdict == connection.verdict,
                "the kernel refuses it: {verdict}"
            );
        }
    }
    Ok(())
}

/// What its tokens prove to a pod, or why they are refused.
fn proven(snapshot: &Snapshot, pod: &Workload, asked: &Asked) -> Result<Option<ProvenClaims>, Reason> {
    let line =
        |(name, value): (String, String)| (name.parse().expect("a name"), value.parse().expect("a value"));
    let mut headers: HeaderMap = asked.lines().into_iter().map(line).collect();
    weft_proxy::authenticate(snapshot, &pod.name, &mut headers)
}

/// The path of a target.
fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// Who connects.
struct Peer<'s> {
    ip: IpAddr,
    workload: Option<&'s Workload>,
}

impl<'s> Peer<'s> {
    fn of(snapshot: &'s Snapshot, client: &Client, family: Family) -> Result<Self> {
        match client {
            Client::Ip { ip } => Ok(Self { ip: *ip, workload: None }),
            Client::Pod { pod } => {
                let workload = workload(snapshot, pod)?;
                let ip =
                    family.of(&workload.ips).with_context(|| format!("{pod} has no {family:?} address"))?;
                Ok(Self { ip, workload: Some(workload) })
            }
        }
    }

    /// What this node would know of it: the kernel attests the pods of the mesh that run here.
    fn identity(&self) -> Identity<'s> {
        match self.workload {
            Some(pod) if pod.enrolled && pod.local => Identity::Proven(&pod.service_account),
            Some(pod) => Identity::FromAddress(&pod.service_account),
            None => Identity::Unknown,
        }
    }
}

/// The pods and ports that a dial may end at.
fn reached<'s>(snapshot: &'s Snapshot, server: &Server, family: Family) -> Result<Vec<(&'s Workload, u16)>> {
    let (service, dialled) = match server {
        Server::Pod { pod, port } => return Ok(vec![(workload(snapshot, pod)?, *port)]),
        Server::Service { service, port } => (service, *port),
    };
    let service = &snapshot.services[&name(service)?];
    let port = service.ports.iter().find(|port| port.port == dialled).context("no such port")?;
    let groups = port.groups.iter().filter(|group| group.weight > 0);
    let endpoints = groups.flat_map(|group| eligible(group, &snapshot.locality));
    let addresses = endpoints.map(|endpoint| endpoint.address);
    let addresses: Vec<_> = addresses.filter(|address| family.of(&[address.ip()]).is_some()).collect();
    ensure!(!addresses.is_empty(), "{} has no endpoint", service.name);
    let pod = |ip: IpAddr| snapshot.workloads.values().find(|workload| workload.ips.contains(&ip));
    let reached = addresses.iter().map(|address| Some((&**pod(address.ip())?, address.port())));
    reached.collect::<Option<_>>().context("an endpoint is no pod")
}

fn workload<'s>(snapshot: &'s Snapshot, pod: &str) -> Result<&'s Workload> {
    Ok(snapshot.workloads.get(&name(pod)?).with_context(|| format!("no pod {pod}"))?)
}

fn name(text: &str) -> Result<ObjectName> {
    ObjectName::parse(text).with_context(|| format!("{text} is not namespace/name"))
}
