//! Whose address an app sees as its peer where the node's proxy has accepted for it.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{bind, connect};
use weft_tests::{Pod, Server, manifests, private, soon};

use crate::path::SECRET;
use crate::stage::{API, Stage};

#[test]
fn an_app_sees_its_clients_address_through_two_proxies_and_the_client_its_own() {
    let Some((stage, app)) = Stage::with_listener(&[]) else { return };
    for (to, ip) in [
        (API, IpAddr::from(stage.web.ip())),
        (stage.api.addr(8080), stage.web.ip().into()),
        (stage.api.addr6(8080), stage.web.ip6().into()),
    ] {
        let (client, server) = pair(&stage.web, &app, to);
        assert_eq!(canonical(server.peer_addr().unwrap()).ip(), ip, "{to}");
        assert_eq!(client.local_addr().unwrap().ip(), ip, "{to}");
        assert_eq!(canonical(server.local_addr().unwrap()).port(), 8080, "the address that was dialled");
    }
    assert_eq!(shown(&stage), [("IPv4".to_owned(), "Client".to_owned()), ("IPv6".into(), "Client".into())]);
    let described = weft_tests::text(&stage.b.weft(&["describe", "pod", "shop/api"]));
    assert!(described.contains("their clients' addresses"), "{described}");
}

#[test]
fn an_app_sees_the_address_of_who_comes_from_outside_to_a_port_that_the_proxy_takes() {
    let Some((stage, app)) = Stage::with_listener(&[]) else { return };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    for (to, ip) in
        [(stage.api.addr(8080), IpAddr::from(stranger.ip())), (stage.api.addr6(8080), stranger.ip6().into())]
    {
        let (client, server) = pair(&stranger, &app, to);
        assert_eq!(client.peer_addr().unwrap(), to);
        assert_eq!(canonical(server.peer_addr().unwrap()).ip(), ip);
        let local = canonical(server.local_addr().unwrap());
        assert_eq!(local, to);
    }
}

/// An app that closes first keeps a port of its client's for a minute, and whom an address translation gives that very port is
/// not answered meanwhile.
#[test]
fn an_app_sees_a_client_that_comes_again_and_again_come_from_few_ports() {
    let Some((stage, app)) = Stage::with_listener(&[]) else { return };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    for from in [&stage.web, &stranger] {
        let mut ports = BTreeSet::new();
        for _ in 0..100 {
            let (mut client, server) = pair(from, &app, stage.api.addr(8080));
            ports.insert(server.peer_addr().unwrap().port());
            drop(server);
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the app ends it");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Each of the two workers lets one rest for 5 ms, and some take longer.
        assert!(ports.len() <= 6, "{} ports: {ports:?}", ports.len());
    }
}

#[test]
fn the_policies_of_a_pod_hold_for_whom_its_app_sees_and_a_change_that_allows_him_cuts_nothing() {
    let policy = |other: &str| {
        let sources: Vec<_> = ["web", other].map(account).into();
        let spec = format!(
            "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], action: ALLOW, rules: \
             [{{sources: [{}]}}]}}",
            sources.join(", ")
        );
        manifests::authorization_policy("shop/api-allow", &spec)
    };
    let Some((stage, app)) = Stage::with_listener(&[("policy.yaml", policy("first"))]) else { return };
    let (mut client, mut server) = pair(&stage.web, &app, API);
    assert_eq!(canonical(server.peer_addr().unwrap()).ip(), IpAddr::from(stage.web.ip()));
    for other in ["second", "third"] {
        stage.world.apply("policy.yaml", &policy(other));
        stage.b.wait();
        // Were it judged by its address, it would be ended by now, or by the next change.
        server.write_all(b"still here").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
    }
    let only = policy("third").replace("name: web", "name: nobody");
    stage.world.apply("policy.yaml", &only);
    stage.b.wait();
    assert_eq!(client.read(&mut [0; 8]).map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
    soon(|| {
        server.read(&mut [0; 8]).map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |read| read == 0)
    });
}

#[test]
fn where_the_namespace_does_not_allow_it_an_app_sees_the_pods_own_address_and_status_says_why() {
    let hidden = "mount -t tmpfs none \"$0\"";
    let wrapper = private(hidden, Path::new("/proc/sys/net"));
    let mut app = None;
    let serve = |api: &Pod| {
        app = Some(listen(api));
        Vec::<Server>::new()
    };
    let Some(stage) = Stage::start_by(["ca", "ca"], &wrapper, &[], serve) else { return };
    let app = app.unwrap();
    soon(|| stage.a.has_proxy() && stage.b.has_proxy());
    let (_client, server) = pair(&stage.web, &app, API);
    assert_eq!(canonical(server.peer_addr().unwrap()).ip(), IpAddr::from(stage.api.ip()));
    assert_eq!(shown(&stage), [("IPv4".to_owned(), "Pod".to_owned()), ("IPv6".into(), "Pod".into())]);
    let status = weft_tests::text(&stage.b.weft(&["status"]));
    assert!(
        status.contains("apps see the pod's own address") && status.contains("tcp_fwmark_accept"),
        "{status}"
    );
}

#[test]
fn an_app_whose_answers_go_by_a_mark_of_its_own_is_served_all_the_same() {
    let Some((stage, app)) = Stage::with_listener(&[]) else { return };
    setsockopt(&app, sockopt::Mark, &7).unwrap();
    for _ in 0..2 {
        let (_client, server) = pair(&stage.web, &app, API);
        assert_eq!(canonical(server.peer_addr().unwrap()).ip(), IpAddr::from(stage.api.ip()));
    }
    soon(|| weft_tests::text(&stage.b.weft(&["status"])).contains("port 8080: its answers go elsewhere"));
}

#[test]
fn a_pod_that_forges_its_address_and_the_mark_is_refused() {
    let spec = format!(
        "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], action: ALLOW, rules: \
         [{{sources: [{}]}}]}}",
        account("web")
    );
    let documents = [("policy.yaml", manifests::authorization_policy("shop/api-allow", &spec))];
    let Some((stage, app)) = Stage::with_listener(&documents) else { return };
    drop(pair(&stage.web, &app, API));
    let near = stage.b.pod("shop/near").service_account("near").start();
    stage.settle();
    app.set_nonblocking(true).unwrap();
    let (to, web) = (stage.api.addr(8080), IpAddr::from(stage.web.ip()));
    // From the same node and from the pod itself; with the mark, and without, by the wire.
    for (forger, mark) in [(&near, MARK), (&near, 0), (&stage.api, MARK), (&stage.api, 0)] {
        for port in [40_001, 40_003] {
            let socket = forge(forger, SocketAddr::new(web, port), mark).unwrap();
            let connected = connect(&socket, &to);
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let said = connected.map_err(io::Error::from).and_then(|()| (&stream).write_all(SECRET));
            let heard = said.and_then(|()| (&stream).read(&mut [0; 8]));
            assert!(heard.as_ref().map_or(true, |read| *read == 0), "{heard:?}");
            let accepted = app.accept().map(|(_, peer)| peer).map_err(|error| error.kind());
            assert_eq!(accepted.err(), Some(ErrorKind::WouldBlock), "the app hears of nobody");
        }
    }
    // Who is who he says is served as before.
    app.set_nonblocking(false).unwrap();
    drop(pair(&stage.web, &app, API));
}

#[test]
fn what_the_agent_puts_into_a_namespace_goes_with_the_pods_enrolment_also_when_the_agent_was_killed() {
    // What is carried of a pod that leaves is carried on for so long, and needs it.
    let Some(mut stage) = Stage::open_with_drain("2s") else { return };
    // Rules of both families, and the setting.
    let has = |pod: &Pod| {
        let rules = [&["ip", "rule"][..], &["ip", "-6", "rule"]]
            .map(|command| weft_tests::text(&pod.exec(command)).contains("0x77656674"));
        let setting = weft_tests::text(&pod.exec(&["cat", "/proc/sys/net/ipv4/tcp_fwmark_accept"]));
        [rules[0], rules[1], setting.trim() == "1"]
    };
    let (has_all, has_none) = (|pod: &Pod| has(pod) == [true; 3], |pod: &Pod| has(pod) == [false; 3]);
    assert!(has_all(&stage.api) && has_all(&stage.web));
    stage.api.update(|manifest| manifest.enrol_as("disabled"));
    soon(|| has_none(&stage.api));
    stage.api.update(|manifest| manifest.enrol(true));
    soon(|| has_all(&stage.api));
    stage.agents[1].kill();
    stage.api.update(|manifest| manifest.enrol_as("disabled"));
    assert!(has_all(&stage.api), "nobody is there to remove them");
    stage.agents[1].start();
    soon(|| has_none(&stage.api));
    // An agent that lives, and ends, leaves them; cleanup does not.
    stage.agents[0].stop();
    assert!(has_all(&stage.web));
    stage.agents[0].cleanup();
    assert!(has_none(&stage.web));
}

/// A connection of `client` to the app behind `to`, both ends; a byte went each way.
pub(crate) fn pair(client: &Pod, app: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let connected = || {
        let mut client = client.tcp_connect(to)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(b"a")?;
        // Before it is served, those before it may wait there that were refused.
        let (mut server, _) = app.accept()?;
        server.set_read_timeout(Some(PATIENCE))?;
        server.read_exact(&mut [0])?;
        server.write_all(b"b")?;
        client.read_exact(&mut [0])?;
        io::Result::Ok((client, server))
    };
    let mut made = None;
    soon(|| {
        made = connected().ok();
        made.is_some()
    });
    made.unwrap()
}

/// A socket in `pod` that says it is at `from`.
fn forge(pod: &Pod, from: SocketAddr, mark: u32) -> io::Result<std::os::fd::OwnedFd> {
    let socket = pod.socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    setsockopt(&socket, sockopt::IpTransparent, &true)?;
    setsockopt(&socket, sockopt::Mark, &mark)?;
    setsockopt(&socket, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(1, 0))?;
    bind(&socket, &from)?;
    Ok(socket)
}

/// What status says of `api`: family and whose address.
fn shown(stage: &Stage) -> Vec<(String, String)> {
    let status = stage.b.weft_json(&["status"]);
    let pod = status["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == "shop/api").unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    pod["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| (text(&peer["family"]), text(&peer["shown"])))
        .collect()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn account(name: &str) -> String {
    format!("{{type: ServiceAccount, serviceAccount: {{namespace: shop, name: {name}}}}}")
}

/// An accept gives up after a while: who was refused, as before there are certificates, never comes.
pub(crate) fn listen(pod: &Pod) -> TcpListener {
    let app = pod.tcp_listen("[::]:8080".parse().unwrap()).unwrap();
    setsockopt(&app, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(5, 0)).unwrap();
    app
}

impl Stage {
    /// The app of `api` is in the test's hands.
    pub(crate) fn with_listener(documents: &[(&str, String)]) -> Option<(Self, TcpListener)> {
        let mut app = None;
        let serve = |api: &Pod| {
            app = Some(listen(api));
            Vec::new()
        };
        let stage = Self::start(documents, serve)?;
        soon(|| stage.a.has_proxy() && stage.b.has_proxy());
        Some((stage, app.unwrap()))
    }
}

/// What the proxy's own sockets have: "weft".
const MARK: u32 = 0x7765_6674;
const PATIENCE: Duration = Duration::from_secs(20);
