//! The same questions, put to `weft authz check` and `weft explain`: what can be asked there, and what does not agree with
//! the case.
//!
//! Both ask about a Service, so one is put in front of each pod that a connection dials by its address. What cannot be
//! asked: a client that is no pod; by `explain`, which is about requests, bytes that are none, and datagrams.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value as Json, json};
use weft_abi::Reason;
use weft_model::Protocol;

use super::placing::{ends, find};
use super::{Case, Client, Connection, Family, Server};
use crate::{Node, manifests, text};

/// What the command line is asked about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client, `namespace/pod`.
    client: String,
    /// Its ServiceAccount.
    account: String,
    /// The Service and its port.
    to: String,
    /// The request, as arguments; `None` where there is none.
    request: Option<Vec<String>>,
    protocol: Protocol,
}

impl Question {
    /// `None` where nobody can ask it.
    pub fn of(case: &Case, connection: &Connection) -> Option<Self> {
        let Client::Pod { pod } = &connection.from else { return None };
        let (namespace, _) = manifests::split(pod);
        let account = find(case, "Pod", pod)["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let to = match &connection.to {
            Server::Pod { pod, port } => format!("{}:{port}", in_front_of(pod, *port, connection)),
            Server::Service { service, port } => format!("{service}:{port}"),
        };
        let request = connection.request.as_ref().map(|asked| {
            // As `HttpClient` says where nothing is said.
            let host = asked.host.as_deref().unwrap_or("test");
            let lines = asked.lines().into_iter().chain([("host".to_owned(), host.to_owned())]);
            let headers = lines.flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")]);
            let head = ["--method", &asked.method, "--path", &asked.path].map(str::to_owned);
            head.into_iter().chain(headers).collect()
        });
        let (client, account) = (pod.clone(), format!("{namespace}/{account}"));
        Some(Self { client, account, to, request, protocol: connection.protocol })
    }

    /// Whether `weft explain` can be asked, too.
    pub fn can_be_explained(&self) -> bool {
        self.request.is_some() && self.protocol == Protocol::Tcp
    }

    /// What the agent of `node`, which has the case and its [`services`], says otherwise than the connection.
    pub fn disagreements(&self, node: &Node, connection: &Connection) -> Vec<String> {
        let request: Vec<&str> = self.request.iter().flatten().map(String::as_str).collect();
        let ask = |question: &[&str]| {
            let said = node.weft(&[question, &request, &["-o", "json"]].concat());
            serde_json::from_slice::<Json>(&said.stdout).map_err(|_| text(&said))
        };
        let mut wrong = Vec::new();
        let mut compare = |who: &str, said: &Json| {
            let is =
                (said["verdict"].as_str().unwrap_or_default(), said["reason"].as_str().unwrap_or_default());
            if !agrees(connection, is) {
                wrong.push(format!("{who} says {is:?}"));
            }
        };
        let mut failed = Vec::new();
        match ask(&["authz", "check", "--from", &self.account, "--to", &self.to]) {
            Ok(said) => {
                let of_client = |row: &&Json| row["client"] == self.client.as_str();
                let rows: Vec<_> = said["pods"].as_array().into_iter().flatten().filter(of_client).collect();
                // Of a path that is refused before any pod is asked, there are none.
                let rows = if rows.is_empty() { vec![&said] } else { rows };
                for row in rows {
                    compare("authz check", row);
                }
            }
            Err(error) => failed.push(format!("authz check cannot say: {error}")),
        }
        if self.can_be_explained() {
            match ask(&["explain", "--from", &self.client, "--to", &self.to]) {
                Ok(said) => compare("explain", &said),
                Err(error) => failed.push(format!("explain cannot say: {error}")),
            }
        }
        wrong.into_iter().chain(failed).collect()
    }
}

fn agrees(connection: &Connection, (verdict, reason): (&str, &str)) -> bool {
    match (connection.verdict, connection.audit) {
        (Reason::NONE, false) => verdict == "FORWARDED",
        (Reason::NONE, true) => verdict == "AUDIT",
        (why, _) => verdict == "DENIED" && reason == why.word(),
    }
}

/// The Services that the questions about a case need beside its own objects, as one manifest.
pub fn services(case: &Case) -> String {
    let dialled = case.connections.iter().filter_map(|connection| match &connection.to {
        Server::Pod { pod, port } => Some((in_front_of(pod, *port, connection), (pod, *port, connection))),
        Server::Service { .. } => None,
    });
    let each: BTreeMap<_, _> = dialled.collect();
    let documents = each.iter().enumerate().flat_map(|(index, (name, (pod, port, connection)))| {
        let (_, (ip, _)) = ends(case, connection);
        let (namespace, name) = manifests::split(name);
        let (virtual_ip, kind) = match connection.family {
            Family::V4 => (format!("10.79.0.{}", index + 1), "IPv4"),
            Family::V6 => (format!("fd79::{:x}", index + 1), "IPv6"),
        };
        [
            service(namespace, name, &virtual_ip, *port, connection),
            slice(namespace, name, kind, (pod, ip), *port, connection),
        ]
    });
    documents.map(|document| format!("{document}\n")).collect::<Vec<_>>().join("---\n")
}

fn service(namespace: &str, name: &str, ip: &str, port: u16, connection: &Connection) -> Json {
    let protocol = protocol(connection);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": port, "protocol": protocol}]},
    })
}

fn slice(
    namespace: &str,
    name: &str,
    kind: &str,
    (pod, ip): (&str, IpAddr),
    port: u16,
    connection: &Connection,
) -> Json {
    let (of, pod) = manifests::split(pod);
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": kind,
        "ports": [{"port": port, "protocol": protocol(connection)}],
        "endpoints": [{
            "addresses": [ip],
            "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": of, "name": pod},
        }],
    })
}

/// The Service in front of a port of a pod, for connections like this one.
fn in_front_of(pod: &str, port: u16, connection: &Connection) -> String {
    let family = if connection.family == Family::V4 { 4 } else { 6 };
    format!("{pod}-{port}-{}{family}", protocol(connection).to_ascii_lowercase())
}

fn protocol(connection: &Connection) -> &'static str {
    match connection.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}
