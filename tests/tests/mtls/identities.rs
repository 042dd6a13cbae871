//! Whom one node believes about another: trust domains and their aliases, modes of a namespace and of its pods, and a
//! server that is somebody else than who was chosen.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use weft_tests::wire::Wire;
use weft_tests::{Node, eventually, manifests, soon, text};

use crate::path::SECRET;
use crate::stage::{API, Stage, talks};

#[test]
fn a_node_of_another_trust_domain_is_believed_by_its_alias_and_without_one_neither_end_believes_it() {
    let allow = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}], action: ALLOW, rules: \
                 [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}]}]}";
    let policy = ("policy.yaml", manifests::authorization_policy("shop/api", allow));
    let Some(stage) = Stage::start_with(["ca", "other"], &[policy], |api| vec![api.serve_echo(8080)]) else {
        return;
    };
    // Of two meshes that become one: both roots are trusted, and each knows the other's name.
    let [ours, theirs] = ["ca", "other"].map(|folder| stage.world.dir().join(folder));
    fs::remove_dir_all(&theirs).unwrap();
    let dir = theirs.display().to_string();
    let made = stage.b.weft_alone(&["ca", "init", "--trust-domain", "old.example", "--dir", &dir]);
    assert!(made.status.success(), "{}", text(&made));
    let both: String =
        [&ours, &theirs].map(|folder| fs::read_to_string(folder.join("roots.pem")).unwrap()).concat();
    for folder in [&ours, &theirs] {
        fs::write(folder.join("roots.pem"), &both).unwrap();
    }
    let mesh = |node: &Node, domain: &str, aliases: &str| {
        let spec = format!("{{trustDomain: {domain}, trustDomainAliases: [{aliases}]}}");
        node.apply_and_wait("mesh.yaml", &manifests::mesh_config(&spec));
    };
    mesh(&stage.a, "cluster.local", "old.example");
    mesh(&stage.b, "old.example", "cluster.local");
    eventually(LOOKED, || stage.echoes(API, SECRET).is_ok());
    let server = &stage.b.weft_json(&["get", "certificates"])["certificates"][0]["identity"];
    assert_eq!(server, "spiffe://old.example/ns/shop/sa/api");

    // The server knows no alias, then the client: each refuses the other, and says why.
    mesh(&stage.b, "old.example", "");
    is_refused(&stage, &stage.b);
    mesh(&stage.b, "old.example", "cluster.local");
    eventually(LOOKED, || stage.echoes(API, SECRET).is_ok());
    mesh(&stage.a, "cluster.local", "");
    is_refused(&stage, &stage.a);
}

/// Waits until `web` comes no further, and `by` says that it is for the trust domain.
#[track_caller]
fn is_refused(stage: &Stage, by: &Node) {
    let counted = || by.metric("weft_proxy_rejected_total", &["reason=\"TrustDomain\""]);
    let before = counted();
    eventually(LOOKED, || stage.echoes(API, SECRET).is_err() && counted() > before);
    soon(|| says(by, "TrustDomain"));
    soon(|| stage.echoes(API, SECRET).is_err());
}

#[test]
fn a_mode_of_a_namespace_holds_for_its_pods_and_a_pods_own_counts_before_it() {
    let mode = |name: &str, target: &str, mode: &str| {
        let spec = format!(
            "{{targetRefs: [{{group: \"\", kind: Pod, selector: {target}}}], mtls: {{mode: {mode}}}}}"
        );
        manifests::authentication_policy(name, &spec)
    };
    let of_api = mode("shop/api", "{matchLabels: {app: api}}", "Permissive");
    let documents = [("namespace-mode.yaml", mode("shop/all", "{}", "Strict")), ("api-mode.yaml", of_api)];
    let Some(stage) = Stage::open(&documents) else { return };
    let db = stage.b.pod("shop/db").service_account("db").start();
    let elsewhere = stage.b.pod("bank/db").service_account("db").start();
    let _servers = [&db, &elsewhere].map(|pod| pod.serve_echo(8080));
    let plain = stage.a.pod("field/plain").enrolled(false).start();
    stage.settle();
    let [of_api, of_db, of_elsewhere] = [&stage.api, &db, &elsewhere].map(|pod| pod.addr(8080));
    for (to, wanted) in [(of_api, Ok(())), (of_elsewhere, Ok(())), (of_db, Err(ErrorKind::ConnectionRefused))]
    {
        soon(|| talks(&plain, to) == wanted);
    }
    soon(|| says(&stage.b, "Plaintext"));
    soon(|| talks(&stage.web, of_db).is_ok());

    // The other way around: the namespace is without, and one pod of it with.
    let wires = [&stage.api, &db].map(Wire::new);
    stage.world.apply("namespace-mode.yaml", &mode("shop/all", "{}", "Disabled"));
    stage.settle();
    soon(|| {
        assert_eq!(talks(&stage.web, of_db), Ok(()));
        wires[1].streams().iter().any(|stream| stream.contains(SECRET))
    });
    for _ in 0..20 {
        stage.echoes(API, SECRET).unwrap();
    }
    assert!(
        wires[0].streams().iter().all(|stream| !stream.contains(SECRET)),
        "the pod has a mode of its own"
    );
    assert_eq!(talks(&plain, of_db), Ok(()));
}

#[test]
fn a_server_that_proves_to_be_another_workload_than_the_chosen_one_is_not_spoken_to() {
    let Some(stage) = Stage::open(&[]) else { return };
    let wire = Wire::new(&stage.api);
    // Its own node has another account for the pod at that address.
    let mut swapped = None;
    stage.api.update(|manifest| {
        manifest.service_account = "other".into();
        swapped = Some((manifest.file(), manifest.yaml()));
        manifest.service_account = "api".into();
    });
    let (file, other) = swapped.unwrap();
    stage.b.apply_and_wait(&file, &other);
    eventually(LOOKED, || {
        let _ = stage.echoes(API, SECRET);
        says(&stage.a, "AnotherIdentity")
    });
    soon(|| stage.a.metric("weft_proxy_rejected_total", &["reason=\"AnotherIdentity\""]) >= 1.0);
    // Both names stand in the log: who was expected, who is there.
    let log = fs::read_to_string(stage.a.run_dir().join("proxy.log")).unwrap();
    let line = log.lines().rfind(|line| line.contains("a TLS handshake is refused")).unwrap_or_default();
    for name in ["/ns/shop/sa/api", "/ns/shop/sa/other"] {
        assert!(line.contains(name), "{line}");
    }
    soon(|| says(&stage.b, "TlsRefused"));
    soon(|| stage.echoes(API, SECRET).is_err());
    let all_sealed = || wire.streams().iter().all(|stream| !stream.contains(SECRET));
    assert!(all_sealed());
    // Once both nodes say the same, it is who was chosen.
    stage.api.update(|manifest| manifest.service_account = "other".into());
    stage.settle();
    eventually(LOOKED, || stage.echoes(API, SECRET).is_ok());
    assert!(all_sealed());
}

/// Whether a flow of the node has been refused for this reason.
fn says(node: &Node, reason: &str) -> bool {
    node.flows(&[]).iter().any(|flow| flow["reason"] == reason)
}

/// An authority's directory is looked at every 10 s, and what fails is tried again later and later.
const LOOKED: Duration = Duration::from_secs(90);
