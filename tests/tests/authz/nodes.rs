//! Between nodes: requests inside mutual TLS are judged by who the certificate says sends them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::Duration;

use weft_tests::{Agent, HttpClient, Node, Pod, Server, World, manifests, soon, text};

use crate::asked::{of_pod, text_of, told};
use crate::changes::{echoes, is_cut, tunnel};
use crate::stage::{ask, policy};

struct Nodes {
    _agents: [Agent; 2],
    _servers: Vec<Server>,
    web: Pod,
    other: Pod,
    api: Pod,
    a: Node,
    b: Node,
    _world: World,
}

const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);
const READ: &str = "action: ALLOW, rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}], \
                    httpAttributes: {methods: [GET], paths: [{type: PathPrefix, value: /items}]}}]";

impl Nodes {
    /// `web` and `other` on node `a`, `api` behind [`API`] on node `b`.
    fn open(documents: &[(&str, String)]) -> Option<Self> {
        let world = World::new()?;
        let (a, b) = (world.node("a"), world.node("b"));
        world.apply("namespace.yaml", &manifests::namespace("shop", true));
        let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}";
        world.apply("api.yaml", &manifests::service("shop/api", spec));
        for (file, document) in documents {
            world.apply(file, document);
        }
        let pod = |node: &Node, name: &str| {
            node.pod(&format!("shop/{name}")).service_account(name).label("app", name).start()
        };
        let (web, other, api) = (pod(&a, "web"), pod(&a, "other"), pod(&b, "api"));
        let servers = vec![api.serve_http(8080, "api")];
        let folder = world.dir().join("ca").display().to_string();
        let made = a.weft_alone(&["ca", "init", "--dir", &folder]);
        assert!(made.status.success(), "{}", text(&made));
        let agents = [a.spawn_agent(&["--ca-dir", &folder]), b.spawn_agent(&["--ca-dir", &folder])];
        for node in [&a, &b] {
            let waited = node.weft(&["status", "--wait", "60s"]);
            assert!(waited.status.success(), "{}", text(&waited));
        }
        soon(|| a.has_proxy() && b.has_proxy());
        Some(Self { _agents: agents, _servers: servers, web, other, api, a, b, _world: world })
    }
}

#[test]
fn a_certificate_says_who_asks() {
    let Some(nodes) = Nodes::open(&[("policy.yaml", policy(READ))]) else { return };
    let status = |pod: &Pod, request| ask(pod, API, request, &[]).map_or(0, |answer| answer.status);
    soon(|| status(&nodes.web, ("GET", "/items")) == 200);
    for (pod, request) in [
        (&nodes.web, ("POST", "/items")),
        (&nodes.web, ("GET", "/items/..%2fadmin")),
        (&nodes.other, ("GET", "/items")),
    ] {
        let answer = ask(pod, API, request, &[]).unwrap();
        assert_eq!((answer.status, answer.header("x-weft-reason")), (403, "NotAllowed"), "{request:?}");
    }
    let answer = ask(&nodes.web, nodes.api.addr(8080), ("GET", "/items?x"), &[]).unwrap();
    assert_eq!(answer.seen().target, "/items?x", "also by the pod's own address");
    soon(|| {
        let denied = |flow: &serde_json::Value| {
            flow["reason"] == "NotAllowed"
                && flow["http"]["method"] == "POST"
                && flow["source"]["pod"] == "web"
        };
        nodes.b.flows(&[]).iter().any(denied)
    });
    // Whoever is asked on either node says the same.
    for node in [&nodes.a, &nodes.b] {
        for (client, method, path, said) in [
            ("shop/web", "GET", "/items", ("FORWARDED", "")),
            ("shop/web", "POST", "/items", ("DENIED", "NotAllowed")),
            ("shop/web", "GET", "/items/..%2fadmin", ("DENIED", "NotAllowed")),
            ("shop/other", "GET", "/items", ("DENIED", "NotAllowed")),
        ] {
            let request =
                ["--from", client, "--to", "shop/api:80", "--method", method, "--path", path, "-o", "json"];
            let checked = told(node, &[&["authz", "check"], &request[..]].concat());
            assert_eq!(of_pod(&checked, client), said, "authz check: {request:?}: {checked}");
            let explained = told(node, &[&["explain"], &request[..]].concat());
            let says = (text_of(&explained["verdict"]), text_of(&explained["reason"]));
            assert_eq!(says, said, "explain: {request:?}: {explained}");
        }
    }
}

#[test]
fn requests_inside_a_shared_connection_are_served_as_those_on_a_socket() {
    let no_admin = "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}}]";
    let Some(nodes) = Nodes::open(&[("policy.yaml", policy(no_admin))]) else { return };
    soon(|| ask(&nodes.web, API, ("GET", "/admin"), &[]).is_ok_and(|answer| answer.status == 403));
    let connect = || {
        let stream = nodes.web.tcp_connect(API).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    };
    let mut quiet = HttpClient::over(connect());
    assert_eq!(quiet.ask(("POST", "/x"), &[], &vec![7; 4 << 20]).unwrap().seen().body, 4 << 20);
    // Nothing of it is lost while it rests: what serves it is taken away meanwhile.
    assert_eq!(nodes.web.get(API, "/wait/2500", &[]).unwrap().status, 200);
    assert_eq!(quiet.ask(("GET", "/x"), &[], &[]).unwrap().status, 200);
    let mut last = connect();
    write!(last, "GET /x HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").unwrap();
    assert!(to_end(&mut last).ends_with('}'), "whole, and no reset");
    let mut half = connect();
    write!(half, "GET /wait/2500 HTTP/1.1\r\nhost: api\r\n\r\n").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert!(to_end(&mut half).contains(" 200 "), "who has no more to ask waits for the answer");
    let mut broken = connect();
    broken.write_all(b"GET /x HTTP/1.1\r\nno header\r\n\r\n").unwrap();
    assert!(to_end(&mut broken).contains(" 400 "), "a refusal arrives, too");
}

#[test]
fn a_tunnel_inside_a_shared_connection_is_cut_and_the_connection_goes_on() {
    let no = |path: &str| {
        policy(&format!(
            "action: DENY, rules: [{{httpAttributes: {{paths: [{{type: PathPrefix, value: {path}}}]}}}}]"
        ))
    };
    let Some(nodes) = Nodes::open(&[("policy.yaml", no("/nothing"))]) else { return };
    soon(|| ask(&nodes.web, API, ("GET", "/nothing"), &[]).is_ok_and(|answer| answer.status == 403));
    let (mut forbidden, mut allowed) = (tunnel(&nodes.web, API, "/long"), tunnel(&nodes.web, API, "/other"));
    nodes.b.apply_and_wait("policy.yaml", &no("/long"));
    is_cut(&mut forbidden);
    echoes(&mut allowed);
}

/// What comes until the other end has said its end; a reset is none.
fn to_end(stream: &mut std::net::TcpStream) -> String {
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn a_policy_for_a_route_is_decided_at_the_client() {
    let route = manifests::http_route(
        "shop/api",
        "{parentRefs: [{group: \"\", kind: Service, name: api, port: 80}], rules: [{backendRefs: [{name: api, port: 80}]}]}",
    );
    let target = "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: api}]";
    let rules = "action: DENY, rules: [{httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}}]";
    let policy = manifests::authorization_policy("shop/by-route", &format!("{{{target}, {rules}}}"));
    let Some(nodes) = Nodes::open(&[("route.yaml", route), ("policy.yaml", policy)]) else { return };
    soon(|| ask(&nodes.web, API, ("GET", "/x"), &[]).is_ok_and(|answer| answer.status == 200));
    let answer = ask(&nodes.web, API, ("GET", "/x/../admin"), &[]).unwrap();
    assert_eq!((answer.status, answer.header("x-weft-reason")), (403, "PolicyDenied"));
    let around = ask(&nodes.web, nodes.api.addr(8080), ("GET", "/admin"), &[]).unwrap();
    assert_eq!(around.status, 200, "what goes to the pod's own address takes no route");
}
