//! The proxy ends, comes back, is replaced.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{soon, text, throughout};

use crate::shop::{FRONT, PLAIN, ROUTE, Shop};

#[test]
fn a_killed_proxy_refuses_no_connection_and_is_back_within_two_seconds() {
    let Some(shop) = Shop::open() else { return };
    let mut kept = shop.web.http(PLAIN).unwrap();
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
    let old = shop.node.proxy_pid();
    // A connection that it carries, and that it has told of.
    let carried = shop.web.http(FRONT).unwrap();
    let of_web = |name, reason: &[&str]| {
        shop.node.metric(name, &[&["namespace=\"shop\"", "pod=\"web\""], reason].concat())
    };
    soon(|| of_web("weft_proxy_connections_open", &[]) >= 1.0);
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    // Made while there is none: it waits for the successor.
    let answer = shop.web.get(FRONT, "/", &[]).unwrap();
    assert_eq!(answer.seen().server, "v1");
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    // That pod's connections are accepted before the last pod's are, and the proxy is in force after that.
    soon(|| shop.node.weft(&["status"]).status.success());
    assert_ne!(shop.node.proxy_pid(), old);
    // What it carried is counted.
    drop(carried);
    soon(|| of_web("weft_proxy_rejected_total", &["reason=\"Cut\""]) >= 1.0);
    // Connections that stayed in the kernel do not notice.
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
}

#[test]
fn without_a_proxy_connections_are_refused_or_stay_in_the_kernel_as_the_service_says() {
    for (annotations, open) in [("{}", false), ("{weft.dev/proxy-failure: open}", true)] {
        let Some(mut shop) = Shop::open_with(annotations, ROUTE) else { return };
        // Nobody is there to start another one.
        let proxy = shop.node.proxy_pid();
        shop.agent.kill();
        kill(Pid::from_raw(proxy), Signal::SIGKILL).unwrap();
        let outcome = || shop.web.tcp_connect(FRONT).map(drop).map_err(|error| error.kind());
        if open {
            soon(|| {
                shop.web
                    .get(FRONT, "/", &[])
                    .is_ok_and(|answer| !answer.seen().headers.contains_key("x-request-id"))
            });
        } else {
            soon(|| outcome() == Err(ErrorKind::ConnectionRefused));
            // First by the listeners that are gone, and once the lease is over by the hook.
            throughout(Duration::from_secs(6), || outcome() == Err(ErrorKind::ConnectionRefused));
        }
        assert_eq!(shop.web.get(PLAIN, "/", &[]).unwrap().status, 200, "the kernel path does not notice");
        // The listeners went with the two of them; a new agent makes new ones.
        shop.agent.start();
        shop.node.wait();
        if !open {
            let why = |flow: &serde_json::Value| flow["reason"] == "ProxyUnavailable";
            soon(|| shop.node.refusals().iter().any(why));
        }
        soon(|| {
            shop.web
                .get(FRONT, "/", &[])
                .is_ok_and(|answer| answer.seen().headers.contains_key("x-request-id"))
        });
    }
}

#[test]
fn a_killed_agent_leaves_the_proxy_serving_and_the_next_one_adopts_it() {
    let Some(mut shop) = Shop::open() else { return };
    let proxy = shop.node.proxy_pid();
    let mut kept = shop.web.http(FRONT).unwrap();
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
    shop.agent.kill();
    // Longer than its lease.
    throughout(Duration::from_secs(6), || {
        thread::sleep(Duration::from_millis(50));
        shop.web.get(FRONT, "/v2", &[]).is_ok_and(|answer| answer.seen().server == "v2")
    });
    shop.agent.start();
    let web = &shop.web;
    let refused = thread::scope(|scope| {
        let asking = scope.spawn(|| (0..100).filter(|_| web.get(FRONT, "/", &[]).is_err()).count());
        shop.node.wait();
        asking.join().unwrap()
    });
    assert_eq!(refused, 0);
    soon(|| shop.node.has_proxy());
    assert_eq!(shop.node.proxy_pid(), proxy, "no second proxy");
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200, "its connections live on");
}

#[test]
fn a_pod_that_goes_while_there_is_no_agent_is_let_go_of_by_the_proxy() {
    let Some(mut shop) = Shop::open() else { return };
    let other = shop.node.pod("shop/other").start();
    shop.node.wait();
    soon(|| shop.node.has_proxy() && other.get(FRONT, "/", &[]).is_ok());
    let (proxy, namespace) = (shop.node.proxy_pid(), other.netns().id().inode());
    assert!(holds(proxy, namespace));
    let devices = devices(&shop);
    shop.agent.kill();
    other.vanish();
    // Promised within one second; this machine may be busy.
    soon(|| !holds(proxy, namespace));
    // The other end of its veth goes when nothing holds it: no socket, no descriptor. The kernel takes its time.
    soon(|| self::devices(&shop) == devices - 1);
    assert_eq!(shop.web.get(FRONT, "/", &[]).unwrap().status, 200, "the others go on");
    shop.agent.start();
    shop.node.wait();
    soon(|| shop.node.has_proxy());
    assert_eq!(shop.node.proxy_pid(), proxy);
}

/// Whether the process has a descriptor of the namespace.
fn holds(process: i32, namespace: u64) -> bool {
    let links = fs::read_dir(format!("/proc/{process}/fd")).expect("it lives").flatten();
    links.filter_map(|link| fs::metadata(link.path()).ok()).any(|file| file.ino() == namespace)
}

/// Devices of the network that the pods are on.
fn devices(shop: &Shop) -> usize {
    let fabric = format!("{}-fabric", shop.world.name());
    let output = Command::new("ip").args(["-n", &fabric, "-o", "link", "show", "type", "veth"]).output();
    String::from_utf8_lossy(&output.expect("iproute2 is there").stdout).lines().count()
}

#[test]
fn an_upgrade_under_load_fails_no_request() {
    let Some(shop) = Shop::open() else { return };
    let old = shop.node.proxy_pid();
    let (web, node) = (&shop.web, &shop.node);
    let done = AtomicBool::new(false);
    let failed = thread::scope(|scope| {
        let fresh = scope.spawn(|| {
            let mut failed = Vec::new();
            while !done.load(Ordering::Relaxed) {
                match web.get(FRONT, "/", &[]) {
                    Ok(answer) if answer.status == 200 => {}
                    other => failed.push(format!("{other:?}")),
                }
            }
            failed
        });
        let upgrade = node.weft(&["proxy", "upgrade"]);
        assert!(upgrade.status.success(), "{}", text(&upgrade));
        soon(|| node.proxy_pid() != old);
        done.store(true, Ordering::Relaxed);
        fresh.join().unwrap()
    });
    assert_eq!(failed, Vec::<String>::new());
}

#[test]
fn an_upgrade_cuts_nothing_that_is_under_way_and_the_old_proxy_ends_with_it() {
    let Some(shop) = Shop::open() else { return };
    let old = shop.node.proxy_pid();
    let mut tunnel = websocket(&shop);
    let mut kept = shop.web.http(FRONT).unwrap();
    assert_eq!(kept.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
    // Says nothing yet: it may wait to be accepted, or for its first byte.
    let mut parked = shop.web.http(FRONT).unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| shop.web.get(FRONT, "/wait/1500", &[]).unwrap().status);
        let upgrade = shop.node.weft(&["proxy", "upgrade"]);
        assert!(upgrade.status.success(), "{}", text(&upgrade));
        assert_eq!(slow.join().unwrap(), 200, "a request under way is answered");
    });
    assert_ne!(shop.node.proxy_pid(), old);

    let last = kept.ask(("GET", "/"), &[], &[]).unwrap();
    assert_eq!((last.status, last.header("connection")), (200, "close"), "and told to go elsewhere");
    assert_eq!(parked.ask(("GET", "/"), &[], &[]).unwrap().status, 200);
    for _ in 0..3 {
        tunnel.write_all(b"still here").unwrap();
        let mut heard = [0; 10];
        tunnel.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still here", "a tunnel lives on in the old one");
    }
    let lives = || fs::exists(format!("/proc/{old}/fd/0")).unwrap();
    assert!(lives());
    drop((tunnel, kept, parked));
    soon(|| !lives());
}

#[test]
fn what_an_upgrade_cuts_at_its_deadline_is_told_with_its_reason() {
    let Some(shop) = Shop::open_beside(&[], "{}", ROUTE, &["--proxy-drain", "1s"]) else { return };
    shop.log("{mode: Enabled}");
    let mut tunnel = websocket(&shop);
    let port = tunnel.local_addr().unwrap().port();
    let before = shop.node.metric("weft_proxy_rejected_total", &["pod=\"web\"", "reason=\"Cut\""]);
    thread::scope(|scope| {
        let slow = scope.spawn(|| shop.web.get(FRONT, "/wait/30000", &[]));
        soon(|| shop.node.metric("weft_proxy_requests_active", &["pod=\"web\""]) >= 2.0);
        let upgrade = shop.node.weft(&["proxy", "upgrade"]);
        assert!(upgrade.status.success() && text(&upgrade).contains("1.0s"), "{}", text(&upgrade));
        slow.join().unwrap().expect_err("its time is over");
    });
    assert!(!matches!(tunnel.read(&mut [0]), Ok(1..)), "so is the tunnel's");
    let told = |found: &dyn Fn(&serde_json::Value) -> bool| {
        shop.node.flows(&[]).iter().any(|flow| flow["reason"] == "Cut" && found(flow))
    };
    soon(|| told(&|flow| flow["http"]["path"] == "/wait/30000" && flow["http"]["responseFlags"] == "LR"));
    soon(|| told(&|flow| flow["source"]["port"] == port && flow["http"].is_null()));
    soon(|| shop.logged().iter().any(|line| line["path"] == "/wait/30000" && line["reason"] == "Cut"));
    // The request, its connection, and the tunnel.
    let cut = || shop.node.metric("weft_proxy_rejected_total", &["pod=\"web\"", "reason=\"Cut\""]);
    soon(|| cut() >= before + 3.0);
    let lasted = shop.node.metric("weft_proxy_requests_active", &["pod=\"web\""]);
    assert!(lasted < 0.5, "{lasted} requests are under way");
}

/// A connection that has become a tunnel, whose server echoes.
fn websocket(shop: &Shop) -> TcpStream {
    let mut client = shop.web.http(FRONT).expect("a connection");
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), key];
    assert_eq!(client.ask(("GET", "/"), &upgrade, &[]).expect("an answer").status, 101);
    client.stream().try_clone().expect("a descriptor")
}

#[test]
fn an_agent_whose_proxy_cannot_start_says_whose_connections_are_refused() {
    let Some(shop) = Shop::open() else { return };
    let lock = shop.node.run_dir().join("proxy.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    kill(Pid::from_raw(shop.node.proxy_pid()), Signal::SIGKILL).unwrap();
    // It exits with 1: the node is not well.
    let status = || text(&shop.node.weft(&["status", "-o", "json"]));
    let says = || status().contains("shop/front are refused");
    soon(says);
    // The agent still holds the listeners: it is the hook that refuses.
    let refused = shop.web.tcp_connect(FRONT).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    soon(|| shop.node.refusals().iter().any(|flow| flow["reason"] == "ProxyUnavailable"));
    assert_eq!(shop.web.get(PLAIN, "/", &[]).unwrap().status, 200);
    fs::remove_dir(&lock).unwrap();
    // The next try may be fifteen seconds away.
    soon(|| shop.web.get(FRONT, "/", &[]).is_ok());
    soon(|| !says());
}
