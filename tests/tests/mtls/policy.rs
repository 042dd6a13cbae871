//! Who may come in from another node.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use weft_tests::{Node, Pod, manifests, soon};

use crate::{
    path::SECRET,
    stage::{API, Stage, talks},
};

fn allow(accounts: &str) -> String {
    let spec = format!(
        "{{targetRefs: [{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: api}}}}}}], action: ALLOW, \
         rules: [{{sources: [{accounts}]}}]}}"
    );
    manifests::authorization_policy("shop/api-allow", &spec)
}

fn account(name: &str) -> String {
    format!("{{type: ServiceAccount, serviceAccount: {{namespace: shop, name: {name}}}}}")
}

const STRICT: &str = "{mtls: {mode: Strict}}";

#[test]
fn a_rule_that_names_a_service_account_holds_between_nodes() {
    let Some(stage) = Stage::open(&[("policy.yaml", allow(&account("web")))]) else { return };
    let other = stage.a.pod("shop/other").service_account("other").start();
    stage.settle();
    stage.echoes(API, SECRET).unwrap();
    soon(|| {
        refusals(&stage.b, &other, "NotAllowed", || talks(&other, API) == Err(ErrorKind::ConnectionReset))
    });
    // The same from the server's own node: the kernel proves who it is.
    let near = stage.b.pod("shop/near").service_account("other").start();
    stage.settle();
    assert!(near.tcp_connect(API).is_err());
    stage.echoes(API, SECRET).unwrap();
}

#[test]
fn a_policy_that_tightens_ends_the_connections_that_it_forbids_within_a_second() {
    let Some(stage) = Stage::open(&[("policy.yaml", allow(&account("web")))]) else { return };
    let mut live = stage.web.tcp_connect(API).unwrap();
    live.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    live.write_all(b"x").unwrap();
    live.read_exact(&mut [0]).unwrap();
    stage.world.apply("policy.yaml", &allow(&account("other")));
    stage.b.wait();
    let enforced = std::time::Instant::now();
    let end = live.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    assert!(enforced.elapsed() < Duration::from_secs(1), "{:?}", enforced.elapsed());
}

#[test]
fn strict_takes_mutual_tls_and_what_the_kernel_attests_and_resets_all_else() {
    let Some(stage) = Stage::open(&[("mesh.yaml", manifests::mesh_config(STRICT))]) else { return };
    stage.echoes(API, SECRET).unwrap();
    let near = stage.b.pod("shop/near").start();
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    stage.settle();
    assert_eq!(talks(&near, API), Ok(()), "on the same node, attested");
    let to = stage.api.addr(8080);
    let refused = plain.tcp_connect(to).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "it is known not to be in the mesh");
    soon(|| refusals(&stage.b, &plain, "Plaintext", || true));
    // Nobody knows who that is until it speaks.
    soon(|| {
        refusals(&stage.b, &stranger, "Plaintext", || talks(&stranger, to) == Err(ErrorKind::ConnectionReset))
    });
}

#[test]
fn permissive_takes_plaintext_of_who_is_not_in_the_mesh() {
    let Some(stage) = Stage::open(&[]) else { return };
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    stage.settle();
    for client in [&plain, &stranger] {
        assert_eq!(talks(client, stage.api.addr(8080)), Ok(()));
        assert_eq!(talks(client, stage.api.addr6(8080)), Ok(()));
    }
}

#[test]
fn a_server_that_speaks_first_need_not_wait_for_a_stranger() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_name(8080, "api")]) else { return };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    soon(|| stranger.ask(stage.api.addr(8080)).is_ok_and(|name| name == "api"));
}

/// It may be a pod that its own node alone has heard of, and whose first bytes of mutual TLS are under way.
#[test]
fn a_server_that_speaks_first_is_not_heard_at_once_by_an_address_that_nobody_knows() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_name(8080, "api")]) else { return };
    let stranger = stage.a.pod("shop/stranger").outsider().start();
    let api = stage.api.addr(8080);
    soon(|| stranger.ask(api).is_ok_and(|name| name == "api"));
    let mut stream = stranger.tcp_connect(api).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let heard = stream.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock));
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut name = [0; 4];
    stream.read_exact(&mut name).unwrap();
    assert_eq!(&name, b"api\n");
}

#[test]
fn a_server_that_speaks_first_says_no_clear_word_to_a_client_of_the_mesh_that_is_slow() {
    let Some(stage) = Stage::start(&[], |api| vec![api.serve_name(8080, "api")]) else { return };
    soon(|| stage.web.ask(API).is_ok_and(|name| name == "api"));
    // A process outside the node's cgroups, so that nobody speaks TLS for it.
    let to = stage.api.addr(8080);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let socket = stage.web.netns().outgoing(to, None).unwrap();
    let mut slow = runtime.block_on(async { socket.connect(to).await?.into_std() }).unwrap();
    slow.set_nonblocking(false).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let heard = slow.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock), "it may be about to speak");
    // It never does: it is none.
    slow.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut name = [0; 4];
    slow.read_exact(&mut name).unwrap();
    assert_eq!(&name, b"api\n");
}

/// Whether `asked` holds, and `node` has a flow that was refused for this reason from the pod.
fn refusals(node: &Node, from: &Pod, reason: &str, asked: impl Fn() -> bool) -> bool {
    let ip = from.ip().to_string();
    asked()
        && node.refusals().iter().any(|flow| flow["reason"] == reason && flow["source"]["ip"] == ip.as_str())
}
