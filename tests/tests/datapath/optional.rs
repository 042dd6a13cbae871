//! What a kernel may lack: it is there and works, or status says that it is off, and why.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use weft_abi::names::program;
use weft_tests::foreign::Foreign;
use weft_tests::{Node, eventually, kernel, manifests};

use super::stage::{NOBODY, Stage, listen, policy};
use crate::lifecycle::{entries, pins};

/// By what this kernel does, and by its real version: the matrix asks kernels older and newer than each bound.
#[test]
fn each_optional_program_is_attached_or_off_with_a_reason_and_all_others_are_attached() {
    let Some(stage) = Stage::open() else { return };
    let Stage { front, api, node, .. } = &stage;
    let _listener = listen(api, 8080);
    let spec = "{clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80, targetPort: 8080}]}";
    let annotations = "{weft.dev/accelerate: same-node}";
    node.apply("fast.yaml", &manifests::annotated_service("shop/fast", annotations, spec));
    node.apply("policy.yaml", &policy("shop/api", "ALLOW", NOBODY));
    let _agent = node.agent();

    let status = node.weft_json(&["status"]);
    for name in program::ALL.iter().filter(|name| ![program::BACKSTOP, program::SK_MSG].contains(*name)) {
        assert_eq!(state(&status, name), "attached", "{name} is required");
    }
    assert_eq!(state(&status, program::BACKSTOP), "not needed", "nobody else's program is here");
    // Of those of the cgroup, the pins tell what status says.
    let on_cgroup = program::ALL.iter().filter(|name| !NOT_ON_CGROUP.contains(*name));
    assert_eq!(links(node), on_cgroup.map(ToString::to_string).collect());

    // `sk_msg` needs fixes of 6.18.14; a newer kernel proves by the self-test that it has them.
    let off = degradation(&status, "same-node acceleration");
    if kernel() >= (6, 18, 14) {
        assert_eq!((state(&status, program::SK_MSG), off), ("attached", None));
    } else {
        let off = off.unwrap_or_else(|| panic!("it is off, and nobody says so: {status:#}"));
        assert_eq!(state(&status, program::SK_MSG), "off");
        assert!(off["reason"].as_str().unwrap().contains("is older than 6.18.14"), "{off}");
        assert!(off["remedy"].as_str().unwrap().contains("6.18.14"), "{off}");
    }

    // `bpf_set_retval` is 5.18: the app sees what status says.
    let errno = front.tcp_connect(api.addr(8080)).map(drop).unwrap_err().raw_os_error();
    match degradation(&status, "EACCES at connect") {
        None => assert_eq!(errno, Some(libc::EACCES)),
        Some(off) => {
            assert_eq!(errno, Some(libc::EPERM), "{off}");
            assert!(!off["reason"].as_str().unwrap().is_empty(), "{off}");
        }
    }

    // The backstop is attached once it is needed, and off again once it is not.
    let foreign = Foreign::passing_lookup(api).unwrap();
    eventually(LOOK, || links(node).contains(program::BACKSTOP));
    eventually(LOOK, || state(&node.weft_json(&["status"]), program::BACKSTOP) == "attached");
    assert!(degradation(&node.weft_json(&["status"]), "refusal by reset").is_some());
    drop(foreign);
    eventually(LOOK, || !links(node).contains(program::BACKSTOP));
    eventually(LOOK, || state(&node.weft_json(&["status"]), program::BACKSTOP) == "not needed");
}

/// The programs whose links to the cgroup are pinned.
fn links(node: &Node) -> BTreeSet<String> {
    entries(&pins(node).join(format!("v{}", weft_abi::SCHEMA)).join("links"))
}

#[track_caller]
fn state<'a>(status: &'a Value, name: &str) -> &'a str {
    let programs = status["programs"].as_array().unwrap();
    let found = programs.iter().find(|program| program["name"] == name);
    found.and_then(|program| program["state"].as_str()).unwrap_or_else(|| panic!("no {name} in {status:#}"))
}

fn degradation<'a>(status: &'a Value, feature: &str) -> Option<&'a Value> {
    status["degradations"].as_array().unwrap().iter().find(|one| one["feature"] == feature)
}

/// Foreign programs are looked for every 5 s; a machine that emulates another is slow.
const LOOK: Duration = Duration::from_secs(20);
const NOT_ON_CGROUP: [&str; 3] = [program::SK_LOOKUP, program::BACKSTOP, program::SK_MSG];
