//! Both versions of the spec that runtimes speak today (<https://www.cni.dev/docs/spec/>).

use serde_json::{Value, json};
use weft_tests::soon;

use crate::stage::{Sandboxed, Stage, previous};

/// What the plugins before this one have done, in this version's form.
fn result(version: &str, pod: &Sandboxed) -> Value {
    let mut result = previous(&pod.pod);
    result["cniVersion"] = version.into();
    if version == "1.1.0" {
        // What that version has more.
        result["interfaces"][1]["mtu"] = 1450.into();
        result["interfaces"][1]["socketPath"] = "/run/x.sock".into();
        result["routes"] = json!([{"dst": "0.0.0.0/0", "mtu": 1400, "priority": 10, "table": 5, "scope": 0}]);
    }
    result
}

#[test]
fn every_command_of_both_versions_is_answered_in_that_version() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    for (round, version) in ["1.0.0", "1.1.0"].into_iter().enumerate() {
        let pod = stage.pod(&format!("web/front-{round}"));
        let result = result(version, &pod);
        let of_runtime = json!({"cniVersion": version, "prevResult": result});
        let added = stage.call_with("ADD", &pod, &of_runtime);
        assert!(added.is_good, "{added:?}");
        assert_eq!(added.json(), result, "as it came");
        assert!(stage.is_enforced(&format!("web/front-{round}")));
        let checked = stage.call_with("CHECK", &pod, &of_runtime);
        assert!(checked.is_good && checked.text.is_empty(), "{checked:?}");
        let versions = stage.call_with("VERSION", &pod, &json!({"cniVersion": version})).json();
        assert_eq!(versions["cniVersion"], version);
        for known in ["1.0.0", "1.1.0"] {
            assert!(versions["supportedVersions"].as_array().unwrap().contains(&known.into()), "{versions}");
        }
        // DEL has no result where the runtime does not remember one, and comes again where it was not sure.
        for _ in 0..2 {
            let deleted = stage.call_with("DEL", &pod, &json!({"cniVersion": version}));
            assert!(deleted.is_good && deleted.text.is_empty(), "{deleted:?}");
        }
        pod.pod.vanish();
        stage.delete(&stage.object(&format!("web/front-{round}")));
    }
    let pod = stage.pod("web/front-9");
    let refused =
        stage.call_with("ADD", &pod, &json!({"cniVersion": "2.0.0", "prevResult": previous(&pod.pod)}));
    assert!(!refused.is_good && refused.json()["code"] == 1, "an unknown version: {refused:?}");
    let alone = stage.call_with("ADD", &pod, &json!({"cniVersion": "1.1.0"}));
    assert!(!alone.is_good && alone.json()["code"] == 7, "it makes no network by itself: {alone:?}");
}

#[test]
fn what_the_runtime_does_not_know_any_more_is_let_go_of_and_nothing_else() {
    let Some(stage) = Stage::open() else { return };
    let _agent = stage.agent();
    // Neither has a process yet, so that their namespaces are known by what the runtime has told alone.
    let [lost, kept] = ["web/lost", "web/kept"].map(|full| stage.pod(full));
    for pod in [&lost, &kept] {
        stage.add(pod);
    }
    let attachments = json!([{"containerID": kept.sandbox, "ifname": "eth0"}]);
    let collected = stage.call_with(
        "GC",
        &kept,
        &json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": attachments}),
    );
    assert!(collected.is_good && collected.text.is_empty(), "{collected:?}");
    soon(|| !stage.is_enforced("web/lost"));
    assert!(stage.is_enforced("web/kept"));
    assert!(stage.call("CHECK", &kept).is_good);
    let checked = stage.call("CHECK", &lost);
    assert!(!checked.is_good && checked.json()["code"] == 100, "it is not protected: {checked:?}");
    let status = stage.call_with("STATUS", &kept, &json!({"cniVersion": "1.1.0"}));
    assert!(status.is_good && status.text.is_empty(), "{status:?}");
}
