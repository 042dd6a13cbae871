//! Programs of others on our hooks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV6, TcpStream};
use std::process::Command;
use std::time::Duration;

use weft_tests::foreign::{Foreign, Sharing};
use weft_tests::packet::Extension::{Destination, Fragment, HopByHop, Routing};
use weft_tests::packet::{Extension, Segment, Sniffer, send_syn, send_syn_behind};
use weft_tests::{Node, Pod, eventually, soon, text};

use super::addresses::{interface, link_local};
use super::stage::{
    NOBODY, Stage, assert_eacces, assert_reset_at_once, assert_untouched, from, listen, policy,
};

#[test]
fn behind_a_program_that_assigns_sockets_the_backstop_drops_what_policy_denies() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, cron, api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let listener = listen(api, 8080);
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    assert_reset_at_once(&outsider, api.addr(8080));
    assert!(degraded(node).is_none());

    let foreign = Foreign::assigning_lookup(api, &listener).unwrap();
    let named = format!("foreign (id {})", foreign.id().unwrap());
    eventually(LOOK, || {
        degraded(node).is_some_and(|told| told.contains("shop/api") && told.contains(&named))
    });
    let resets = node.stat("denied_lookup");
    for family in [outsider.addr(41_000), outsider.addr6(41_000)] {
        let sniffer = Sniffer::new(&outsider, family.ip()).unwrap();
        let to = if family.is_ipv4() { api.addr(8080) } else { api.addr6(8080) };
        let dropped = node.stat("denied_backstop");
        send_syn(&outsider, family, to).unwrap();
        eventually(Duration::from_secs(1), || node.stat("denied_backstop") == dropped + 1);
        let answer =
            sniffer.wait(Duration::from_millis(100), |seen: &Segment| seen.destination_port == 41_000);
        assert_eq!(answer.unwrap(), None, "silently");
    }
    assert!(node.stat("denied_lookup") > resets, "the foreign program overrules this refusal");
    assert_eacces(cron.tcp_connect(api.addr(8080)));
    assert_untouched(&listener);
    front.tcp_connect(api.addr(8080)).map(drop::<TcpStream>).unwrap();
    soon(|| listener.accept().is_ok());
    // It looks at SYNs alone: what comes back to the pod is not asked for by anybody else.
    let elsewhere = listen(&outsider, 9000);
    let (mut asks, mut answers) =
        (api.tcp_connect(outsider.addr(9000)).unwrap(), elsewhere.accept().unwrap().0);
    answers.write_all(b"answer").unwrap();
    asks.read_exact(&mut [0; 6]).unwrap();

    drop(foreign);
    eventually(LOOK, || degraded(node).is_none());
    assert_reset_at_once(&outsider, api.addr(8080));
    assert_untouched(&listener);
}

#[test]
fn the_address_that_every_link_gives_a_pod_is_no_way_past_the_backstop() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let [outsider, other] = ["x/outsider", "x/other"].map(|name| node.pod(name).outsider().start());
    let (listener, open) = (listen(api, 8080), listen(&other, 8080));
    let to = |pod: &Pod| SocketAddrV6::new(link_local(pod), 8080, 0, interface(&outsider)).into();
    // (Until the link's own check for another such address is over, nobody answers at it.)
    soon(|| outsider.tcp_connect(to(api)).is_ok() && outsider.tcp_connect(to(&other)).is_ok());
    while listener.accept().is_ok() {}
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", &from("web/front")));
    let _agent = node.agent();
    let _foreign = [(api, &listener), (&other, &open)]
        .map(|(pod, listener)| Foreign::assigning_lookup(pod, listener).unwrap());
    eventually(LOOK, || degraded(node).is_some());
    let dropped = node.stat("denied_backstop");
    let refused = outsider.tcp_connect(to(api)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ETIMEDOUT), "silently: {refused}");
    assert!(node.stat("denied_backstop") > dropped);
    assert_untouched(&listener);
    let own = link_local(api).to_string();
    soon(|| {
        let flows = node.refusals();
        flows
            .iter()
            .any(|flow| flow["reason"] == "UnknownAddress" && flow["destination"]["ip"] == own.as_str())
    });
    // Whoever is not of the mesh is nobody's business, and the pod itself may use it.
    outsider.tcp_connect(to(&other)).map(drop::<TcpStream>).unwrap();
    let from_within = SocketAddrV6::new(link_local(api), 8080, 0, interface(api)).into();
    api.tcp_connect(from_within).map(drop::<TcpStream>).unwrap();
}

#[test]
fn behind_a_program_that_lets_everything_pass_the_client_still_gets_a_reset() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let listener = listen(api, 8080);
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let foreign = Foreign::passing_lookup(api).unwrap();
    let _agent = node.agent();
    eventually(LOOK, || degraded(node).is_some());
    assert_reset_at_once(&outsider, api.addr(8080));
    assert_untouched(&listener);
    assert!(attached(&["link", "show"], &foreign), "ours never removes theirs");
}

#[test]
fn a_program_that_holds_the_connect_hook_alone_keeps_it_and_policy_still_holds() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let listener = listen(api, 8080);
    let foreign = Foreign::connect4(node.cgroup(), Sharing::Exclusive).unwrap();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = node.agent();
    let told = node.degradations().join("\n");
    assert!(told.contains("weft_connect4") && told.contains("foreign (id"), "{told}");
    assert!(attached(&["cgroup", "show", &node.cgroup().display().to_string()], &foreign));

    assert_reset_at_once(front, api.addr(8080));
    assert_eacces(front.tcp_connect(api.addr6(8080)));
    let socket = front.udp(([0, 0, 0, 0], 0).into()).unwrap();
    assert_eacces(socket.send_to(b"?", api.addr(8080)));
    assert_untouched(&listener);
}

#[test]
fn a_program_that_shares_the_connect_hook_changes_nothing() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let first = Foreign::connect4(node.cgroup(), Sharing::Multi).unwrap();
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = node.agent();
    assert!(node.degradations().is_empty(), "{:?}", node.degradations());
    assert_eacces(front.tcp_connect(api.addr(8080)));
    assert!(attached(&["cgroup", "show", &node.cgroup().display().to_string()], &first));

    let refused = Foreign::connect4(node.cgroup(), Sharing::Exclusive).map(drop).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
    assert_eacces(front.tcp_connect(api.addr(8080)));
}

#[test]
fn a_program_that_takes_back_our_refusal_does_not_open_the_destination() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let listener = listen(api, 8080);
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = node.agent();
    // On the pod's own group it runs before ours.
    let child = Foreign::forgiving_connect4(front.cgroup(), Sharing::Multi).unwrap();
    assert_eacces(front.tcp_connect(api.addr(8080)));
    drop(child);
    // So it does on our group, where it asks for that.
    match Foreign::forgiving_connect4(node.cgroup(), Sharing::Early) {
        Ok(_early) => assert_eacces(front.tcp_connect(api.addr(8080))),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "before kernel 6.15: {error}"),
    }
    assert_eq!((node.stat("overruled"), overruled(node)), (0, None));
    let foreign = Foreign::forgiving_connect4(node.cgroup(), Sharing::Multi).unwrap();
    let resets = assert_reset_at_once(front, api.addr(8080));
    assert_untouched(&listener);
    assert_eq!(node.stat("denied_lookup"), resets as u64);

    // And status says so, for as long as it is there.
    assert_eq!(node.stat("overruled"), resets as u64);
    eventually(LOOK, || overruled(node).is_some());
    let told = overruled(node).unwrap();
    let named = format!("foreign (id {}) on connect4 of {}", foreign.id().unwrap(), node.cgroup().display());
    assert!(told["reason"].as_str().unwrap().contains(&named), "{told}");
    assert!(told["remedy"].as_str().unwrap().contains("remove that program"), "{told}");
    let page = text(&node.weft(&["status"]));
    assert!(page.contains("refusal at connect") && page.contains(&named), "{page}");
    drop(foreign);
    eventually(LOOK * 2, || overruled(node).is_none());
    assert_eacces(front.tcp_connect(api.addr(8080)));
    assert_eq!(node.stat("overruled"), resets as u64);
}

#[test]
fn extension_headers_are_no_way_past_the_backstop() {
    let Some(stage) = Stage::open() else { return };
    let Stage { api, node, .. } = &stage;
    let outsider = node.pod("x/outsider").outsider().start();
    let listener = listen(api, 8080);
    let _agent = node.agent();
    let sniffer = Sniffer::new(&outsider, outsider.ip6().into()).unwrap();
    let mut port = 41_000;
    let mut is_answered = |headers: &[Extension], limit| {
        port += 1;
        send_syn_behind(&outsider, headers, outsider.addr6(port), api.addr6(8080)).unwrap();
        let answer = sniffer.wait(limit, |seen: &Segment| seen.destination_port == port).unwrap();
        answer.is_some_and(|answer| answer.accepts())
    };
    let (second, moment) = (Duration::from_secs(1), Duration::from_millis(100));
    let chains: [&[Extension]; 8] = [
        &[],
        &[HopByHop],
        &[Destination],
        &[Routing],
        &[Fragment],
        &[HopByHop, Destination, Routing, Fragment, Destination],
        &[Destination; 8],
        &[Destination; 9],
    ];
    // Those that this kernel takes at all: that is what a foreign program may give to the app.
    let taken: Vec<_> = chains.into_iter().filter(|chain| is_answered(chain, second)).collect();
    assert!(chains[..6].iter().all(|chain| taken.contains(chain)), "{taken:?}");

    node.apply_and_wait("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _foreign = Foreign::assigning_lookup(api, &listener).unwrap();
    eventually(LOOK, || degraded(node).is_some());
    for chain in &taken {
        let dropped = node.stat("denied_backstop");
        assert!(!is_answered(chain, moment), "{chain:?} came past");
        eventually(second, || node.stat("denied_backstop") == dropped + 1);
    }
    assert_untouched(&listener);

    // What nobody looks behind comes to no pod, whatever its policies.
    node.remove("policy.yaml");
    node.wait();
    for chain in taken {
        assert_eq!(is_answered(chain, second), chain.len() <= 8, "{chain:?}");
    }
}

/// What status says of foreign programs in pods.
fn degraded(node: &Node) -> Option<String> {
    node.degradations().into_iter().find(|line| line.starts_with("refusal by reset"))
}

/// What status says of programs that take our refusals back.
fn overruled(node: &Node) -> Option<serde_json::Value> {
    let status = node.weft_json(&["status"]);
    let all = status["degradations"].as_array().unwrap().iter();
    all.into_iter().find(|one| one["feature"] == "refusal at connect").cloned()
}

/// Whether `bpftool <list>` shows the program.
fn attached(list: &[&str], program: &Foreign) -> bool {
    let output = Command::new("bpftool").arg("-j").args(list).output().unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let id = program.id().unwrap();
    all.iter().any(|one| one["id"] == id || one["prog_id"] == id)
}

/// Foreign programs are looked for every 5 s.
const LOOK: Duration = Duration::from_secs(6);
