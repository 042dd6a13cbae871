//! Who gets a certificate, and who has one again.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{eventually, text};

use crate::stage::{SOON, Stage, certificates, proxy_pid, serial, valid, wait, wait_for_proxy};

#[test]
fn each_node_has_certificates_of_its_own_enrolled_pods_and_of_nobody_elses() {
    let Some(stage) = Stage::open("24h") else { return };
    let Stage { near, other, .. } = &stage;
    let _outside =
        near.pod("shop/outside").service_account("outside").label("weft.dev/mesh", "disabled").start();
    let twin = near.pod("shop/web-2").service_account("web").start();
    wait(near);
    eventually(SOON, || valid(near) == ["api", "web"] && valid(other) == ["far"]);
    wait_for_proxy(near, 2);
    wait_for_proxy(other, 1);

    let view = certificates(near);
    let web = &view["certificates"][1];
    assert_eq!(web["identity"], "spiffe://mesh.example/ns/shop/sa/web");
    let left = web["expiresInSeconds"].as_u64().unwrap();
    assert!((23 * 3600..=24 * 3600).contains(&left), "{left}");
    assert_eq!((&web["renewals"], &view["roots"], &view["failure"]), (&0.into(), &1.into(), &().into()));
    assert!(
        view["issuer"]["warning"].is_null()
            && view["issuer"]["expiresInSeconds"].as_u64() > Some(300 * 86_400)
    );
    let identity = ["identity=\"spiffe://mesh.example/ns/shop/sa/web\""];
    let expiry = near.metric("weft_certificate_expiry_seconds", &identity);
    assert!((f64::from(23 * 3600)..=f64::from(24 * 3600)).contains(&expiry), "{expiry}");
    assert!(near.metric("weft_issuer_expiry_seconds", &[]) > f64::from(300 * 86_400));

    // Two pods of one account have one identity, which lasts as long as one of them.
    let first = serial(near, "web");
    twin.delete();
    wait(near);
    assert_eq!(serial(near, "web"), first);
}

#[test]
fn a_pod_that_comes_gets_a_certificate_and_one_that_goes_takes_its_own_along() {
    let Some(stage) = Stage::open("24h") else { return };
    let near = &stage.near;
    wait_for_proxy(near, 2);
    let cart = near.pod("shop/cart").service_account("cart").start();
    wait(near);
    eventually(SOON, || valid(near) == ["api", "cart", "web"]);
    wait_for_proxy(near, 3);
    cart.delete();
    wait(near);
    eventually(SOON, || valid(near) == ["api", "web"]);
    wait_for_proxy(near, 2);
    assert!(near.metric("weft_certificate_expiry_seconds", &["sa/cart"]) == 0.0, "its series is gone");
}

#[test]
fn a_restarted_agent_and_every_next_proxy_have_certificates_again() {
    let Some(mut stage) = Stage::open("24h") else { return };
    wait_for_proxy(&stage.near, 2);
    let (first, proxy) = (serial(&stage.near, "web"), proxy_pid(&stage.near));
    stage.agents[0].kill();
    stage.agents[0].start();
    wait(&stage.near);
    let near = &stage.near;
    wait_for_proxy(near, 2);
    assert_ne!(serial(near, "web"), first, "keys are in memory only: it is another certificate");
    assert_eq!(proxy_pid(near), proxy);

    let upgrade = near.weft(&["proxy", "upgrade"]);
    assert!(upgrade.status.success(), "{}", text(&upgrade));
    wait_for_proxy(near, 2);
    let upgraded = proxy_pid(near).unwrap();
    assert_ne!(Some(upgraded), proxy);

    kill(Pid::from_raw(upgraded), Signal::SIGKILL).unwrap();
    eventually(Duration::from_secs(20), || proxy_pid(near).is_some_and(|pid| pid != upgraded));
    wait_for_proxy(near, 2);
}

#[test]
fn an_agent_without_an_authority_says_so_and_its_proxy_gives_up_what_it_had() {
    let Some(mut stage) = Stage::open("24h") else { return };
    wait_for_proxy(&stage.near, 2);
    stage.agents[0].restart_with(&[]);
    let near = &stage.near;
    wait_for_proxy(near, 0);
    let answer = near.weft(&["get", "certificates"]);
    assert_eq!(answer.status.code(), Some(2));
    assert!(text(&answer).contains("start it with --ca-dir"), "{}", text(&answer));
}
