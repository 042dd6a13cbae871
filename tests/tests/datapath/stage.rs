//! The set-up of the tests of policy: `web/front` and `web/cron` may ask `shop/api`, all on one node.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use weft_tests::{Node, Pod, World, manifests, slowness};

/// Pods of two namespaces. Every pod's ServiceAccount is called like the pod.
pub(super) struct Stage {
    pub(super) front: Pod,
    pub(super) cron: Pod,
    pub(super) api: Pod,
    pub(super) node: Node,
    pub(super) world: World,
}

impl Stage {
    /// None when end-to-end tests are left out.
    pub(super) fn open() -> Option<Self> {
        let world = World::new()?;
        for name in ["shop", "web"] {
            world.apply(&format!("namespace-{name}.yaml"), &manifests::namespace(name, true));
        }
        let node = world.node("a");
        let front = pod(&node, "web/front");
        let cron = pod(&node, "web/cron");
        let api = pod(&node, "shop/api");
        Some(Self { front, cron, api, node, world })
    }

    /// Puts a policy on `shop/api`, in force at the return.
    #[track_caller]
    pub(super) fn protect(&self, action: &str, rules: &str) {
        self.node.apply_and_wait(FILE, &policy("shop/api", action, rules));
    }

    /// Takes it away.
    #[track_caller]
    pub(super) fn unprotect(&self) {
        self.node.remove(FILE);
        self.node.wait();
    }
}

/// A new pod with the label `app` and a ServiceAccount like its name.
pub(super) fn pod(node: &Node, name: &str) -> Pod {
    let (_, short) = name.split_once('/').expect("a namespaced name");
    node.pod(name).label("app", short).service_account(short).start()
}

/// An `AuthorizationPolicy`, `namespace/app`, on the pods with that label.
pub(super) fn policy(name: &str, action: &str, rules: &str) -> String {
    let (_, app) = name.split_once('/').expect("a namespaced name");
    let target = format!("{{group: \"\", kind: Pod, selector: {{matchLabels: {{app: {app}}}}}}}");
    manifests::authorization_policy(
        name,
        &format!("{{targetRefs: [{target}], action: {action}, rules: {rules}}}"),
    )
}

/// Rules that match a ServiceAccount, `namespace/name`.
pub(super) fn from(account: &str) -> String {
    let (namespace, name) = account.split_once('/').expect("a namespaced name");
    format!(
        "[{{sources: [{{type: ServiceAccount, serviceAccount: {{namespace: {namespace}, name: \"{name}\"}}}}]}}]"
    )
}

/// Rules that match a block.
pub(super) fn from_block(cidr: &str) -> String {
    format!("[{{sources: [{{type: CIDR, cidr: \"{cidr}\"}}]}}]")
}

/// The connect hook refused it: the app knows why.
#[track_caller]
pub(super) fn assert_eacces<T>(result: io::Result<T>) {
    let errno = result.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno, Some(libc::EACCES), "connect says why it is refused");
}

/// The server's side refused it, at once: within 10 ms.
///
/// A test shares two processors with others and asks by another process, so one of a few tries has to be
/// as quick as promised; each has to be a reset. An emulated machine is ten times slower. Returns how many
/// tries it took: each is a refusal of its own.
#[track_caller]
pub(super) fn assert_reset_at_once(client: &Pod, to: SocketAddr) -> usize {
    let promised = Duration::from_millis(10) * slowness();
    let attempt = || {
        let began = Instant::now();
        let error = client.tcp_connect(to).map(drop).expect_err("the client is denied");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        began.elapsed()
    };
    let took: Vec<_> = std::iter::repeat_with(attempt).take(5).take_while(|took| *took >= promised).collect();
    assert!(took.len() < 5, "the resets took {took:?}");
    took.len() + 1
}

/// The app's listener: what it accepts is what policy let in.
pub(super) fn listen(pod: &Pod, port: u16) -> TcpListener {
    let listener = pod.tcp_listen((std::net::Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// Nothing has come to the app.
#[track_caller]
pub(super) fn assert_untouched(listener: &TcpListener) {
    let accepted = listener.accept().map(|(_, from)| from);
    assert_eq!(accepted.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
}

/// Rules that match nobody: an ALLOW policy with them denies everybody.
pub(super) const NOBODY: &str = "[{sources: []}]";
const FILE: &str = "policy.yaml";
