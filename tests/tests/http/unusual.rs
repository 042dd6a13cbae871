//! Apps that do unusual things: call themselves, mark their sockets, listen twice, bring a program of their own.
//!
//! Connections to a pod are not captured before mutual TLS is there; what is said here of servers holds for what the
//! proxy connects to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::Socket;
use weft_tests::foreign::Foreign;
use weft_tests::{HttpClient, Pod, Server, SocketRequest, manifests, soon};

use crate::shop::{FRONT, Shop, vip};

#[test]
fn a_pod_that_calls_itself_is_not_captured_by_address_and_makes_no_loop_by_service() {
    let Some(shop) = Shop::open() else { return };
    let before = shop.node.stat("proxied");
    let direct = shop.v1.get(shop.v1.addr(8080), "/", &[]).unwrap().seen();
    assert_eq!((direct.server.as_str(), direct.peer.ip()), ("v1", shop.v1.ip().into()));
    assert!(!direct.headers.contains_key("x-request-id"), "not by the proxy");
    assert_eq!(shop.node.stat("proxied"), before);

    let answer = shop.v1.get(FRONT, "/", &[]).unwrap();
    let by_service = answer.seen();
    assert_eq!((by_service.server.as_str(), by_service.peer.ip()), ("v1", shop.v1.ip().into()));
    assert!(by_service.headers.contains_key("x-request-id"), "by the proxy");
    assert_eq!(shop.node.stat("proxied"), before + 1, "once");

    // A pod's policies are about others.
    let spec = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: v1}}}], action: ALLOW, rules: \
                [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: nobody}}]}]}";
    shop.world.apply("policy.yaml", &manifests::authorization_policy("shop/v1", spec));
    shop.node.wait();
    soon(|| shop.web.get(FRONT, "/", &[]).is_ok_and(|answer| answer.status == 403));
    for address in [shop.v1.addr(8080), FRONT] {
        assert_eq!(shop.v1.get(address, "/", &[]).unwrap().seen().server, "v1", "{address}");
    }
}

#[test]
fn a_mark_of_the_apps_own_does_not_come_round_the_proxy() {
    let Some(shop) = Shop::open() else { return };
    for mark in [1, 0x539, u32::MAX] {
        let stream = marked(&shop.web, mark);
        let answer = HttpClient::over(stream).ask(("GET", "/v2"), &[], &[]).unwrap();
        let seen = answer.seen();
        assert_eq!(seen.server, "v2", "the route holds for mark {mark:#x}");
        assert!(seen.headers.contains_key("x-request-id"), "mark {mark:#x}");
    }
}

#[test]
fn the_proxy_reaches_the_socket_that_the_kernel_would_choose_also_where_a_foreign_program_chooses() {
    let Some(shop) = Shop::open() else { return };
    let listen = |at: SocketAddr| {
        TcpListener::from(shop.v1.open(&SocketRequest::tcp_listener(at).reuse_port()).unwrap())
    };
    let everywhere = listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLASH)));
    let specific = listen(shop.v1.addr(CLASH));
    let foreign_choice = everywhere.try_clone().unwrap();
    let _servers = [Server::http(everywhere, "everywhere"), Server::http(specific, "specific")];
    let clash = format!(
        "{{clusterIP: 10.96.0.9, selector: {{app: v1}}, ports: [{{port: 80, targetPort: {CLASH}, appProtocol: http}}]}}"
    );
    shop.world.apply("clash.yaml", &manifests::service("shop/clash", &clash));
    let route = "{parentRefs: [{group: \"\", kind: Service, name: clash}], rules: [{backendRefs: [\
                 {name: clash, port: 80}]}]}";
    shop.world.apply("clash-route.yaml", &manifests::http_route("shop/clash", route));
    shop.node.wait();
    // The proxy keeps connections for each client by itself: so each asks by a new one.
    let chosen = |client: &Pod| {
        let answer = client.get(vip(9), "/", &[]).ok().filter(|answer| answer.status == 200)?;
        assert!(answer.seen().headers.contains_key("x-request-id"), "by the proxy");
        Some(answer.seen().server)
    };
    let direct = |client: &Pod| client.get(shop.v1.addr(CLASH), "/", &[]).unwrap().seen().server;
    soon(|| chosen(&shop.web).as_deref() == Some("specific"));
    assert_eq!(direct(&shop.web), "specific", "as without the proxy");

    let foreign = Foreign::assigning_lookup(&shop.v1, &foreign_choice).unwrap();
    let named = format!("foreign (id {})", foreign.id().unwrap());
    let told = || {
        let all = shop.node.degradations();
        all.into_iter().any(|one| one.contains("shop/v1") && one.contains(&named))
    };
    soon(told);
    soon(|| chosen(&shop.v2).as_deref() == Some("everywhere"));
    assert_eq!(direct(&shop.v2), "everywhere", "as without the proxy");
    drop(foreign);
    soon(|| !told());
    assert_eq!(direct(&shop.v2), "specific");
}

/// A connection of `pod` to `shop/front` whose packets have this mark.
fn marked(pod: &Pod, mark: u32) -> TcpStream {
    let socket =
        Socket::from(pod.socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("any pod may have a socket"));
    socket.set_mark(mark).expect("root may set any mark");
    socket.connect(&FRONT.into()).expect("the pod's listener accepts");
    socket.into()
}

/// The port on which a pod listens twice.
const CLASH: u16 = 8090;
