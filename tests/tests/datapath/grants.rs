//! The server's hook believes the verdict of the connect hook, of the very connection that it was about.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::net::connect_unspec;
use socket2::Socket;
use weft_tests::foreign::{Foreign, Sharing};
use weft_tests::{SocketRequest, manifests};

use super::attested::attested;
use super::stage::{
    Stage, assert_eacces, assert_reset_at_once, assert_untouched, from, from_block, listen, policy,
};

#[test]
fn an_attestation_carries_the_policies_that_let_its_client_in() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    assert!(
        front.exec(&["ip", "address", "add", &format!("{ELSEWHERE}/16"), "dev", "eth0"]).status.success()
    );
    let listener = listen(api, 8080);
    let spec = format!(
        "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{}}}}], mode: Audit, action: DENY, rules: {}}}",
        from("web/cron")
    );
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/*")));
    node.apply("audit.yaml", &manifests::authorization_policy("shop/watched", &spec));
    let _agent = node.agent();
    let _connected: Vec<_> = [
        SocketRequest::tcp(api.addr(8080)).from((front.ip(), 41_001).into()),
        SocketRequest::tcp(api.addr6(8080)).from((front.addr6(0).ip(), 41_002).into()),
        SocketRequest::tcp(api.addr(8080)).from((ELSEWHERE, 41_003).into()),
        SocketRequest::tcp((api.ip().to_ipv6_mapped(), 8080).into()).from(mapped(front.ip(), 41_004)),
    ]
    .map(|request| front.open(&request).unwrap())
    .into_iter()
    .chain([cron.open(&SocketRequest::tcp(api.addr(8080)).from((cron.ip(), 41_005).into())).unwrap()])
    .collect();
    for _ in 0..5 {
        listener.accept().unwrap();
    }
    let allowed = |from, to| attested(node, from, to).map(|attested| attested.allowed != 0);
    assert_eq!(allowed(front.addr(41_001), api.addr(8080)), Some(true));
    assert_eq!(allowed(front.addr6(41_002), api.addr6(8080)), Some(true));
    let elsewhere = allowed((ELSEWHERE, 41_003).into(), api.addr(8080));
    assert_eq!(elsewhere, Some(false), "the connect hook knew another address");
    assert_eq!(allowed(front.addr(41_004), api.addr(8080)), Some(true));
    let audited = allowed(cron.addr(41_005), api.addr(8080));
    assert_eq!(audited, Some(false), "the server's hook has to report the audit");
}

#[test]
fn a_client_that_is_bound_to_another_address_is_judged_by_that_address() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    assert!(
        front.exec(&["ip", "address", "add", &format!("{ELSEWHERE}/16"), "dev", "eth0"]).status.success()
    );
    let listener = listen(api, 8080);
    let _agent = node.agent();
    let bound = SocketRequest::tcp(api.addr(8080)).from((ELSEWHERE, 0).into());
    for (action, block) in [("DENY", ELSEWHERE), ("ALLOW", front.ip())] {
        stage.protect(action, &from_block(&format!("{block}/32")));
        let _let_in = front.tcp_connect(api.addr(8080)).unwrap();
        listener.accept().unwrap();
        let refused = front.open(&bound).map(drop).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{action}");
        assert_untouched(&listener);
    }
}

#[test]
fn a_client_that_another_program_sends_elsewhere_is_judged_where_it_comes_to() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let (open, closed) = (listen(api, 8080), listen(api, 8081));
    let rule = from("web/front").replace("}]}]", "}], networkAttributes: {ports: [8081]}}]");
    node.apply("policy.yaml", &policy("shop/api", "DENY", &rule));
    let _agent = node.agent();
    let _let_in = front.tcp_connect(api.addr(8080)).unwrap();
    open.accept().unwrap();
    assert_eacces(front.tcp_connect(api.addr(8081)));
    // It runs after ours.
    let _foreign = Foreign::redirecting_connect4(node.cgroup(), Sharing::Multi, 8081).unwrap();
    let resets = assert_reset_at_once(front, api.addr(8080));
    assert_eq!(node.stat("denied_lookup"), resets as u64);
    assert_untouched(&closed);
    assert_untouched(&open);
}

#[test]
fn a_socket_that_connects_again_is_judged_by_what_holds_then() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let listener = listen(api, 8080);
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    let socket = Socket::from(front.socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP).unwrap());
    let connect = || socket.connect(&api.addr(8080).into()).map_err(|error| error.kind());
    let connect_again = || {
        connect_unspec(&socket).unwrap();
        connect()
    };
    // The connect hook's refusal does not count, so that only the server's is left.
    let forgive = || Foreign::forgiving_connect4(node.cgroup(), Sharing::Multi).unwrap();
    connect().unwrap();
    listener.accept().unwrap();

    // The pod is somebody else, and the policies are the same.
    front.update(|manifest| manifest.service_account = "other".into());
    node.wait();
    let forgiving = forgive();
    assert_eq!(connect_again(), Err(std::io::ErrorKind::ConnectionRefused));
    drop(forgiving);
    front.update(|manifest| manifest.service_account = "front".into());
    node.wait();
    connect_again().unwrap();
    listener.accept().unwrap();

    // The pod is the same, and the policies are others.
    stage.protect("DENY", &from("web/front"));
    let _forgiving = forgive();
    assert_eq!(connect_again(), Err(std::io::ErrorKind::ConnectionRefused));
    assert_untouched(&listener);
}

fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip.to_ipv6_mapped(), port).into()
}

/// An address that `web/front` has beside its own.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 50, 9);
