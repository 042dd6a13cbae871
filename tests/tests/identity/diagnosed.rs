//! What is written for whoever helps has no key in it, and holds what both agents tell.

use std::{fs, process::Command};

use weft_tests::{text, weft};

use crate::{
    memory::{keys_in, private_keys},
    secret::{forms, has},
    stage::{Stage, proxy_pid, wait_for_proxy},
};

#[test]
fn an_archive_of_two_agents_has_none_of_their_keys() {
    let Some(stage) = Stage::open_with("24h", &["--log", "trace,aya=info,aya_obj=info"]) else { return };
    let (near, other) = (&stage.near, &stage.other);
    wait_for_proxy(near, 2);
    let (agent, proxy) = (stage.agents[0].pid().unwrap(), proxy_pid(near).unwrap().unsigned_abs());
    let keys = &private_keys(agent) & &private_keys(proxy);
    assert!(keys.len() >= 2, "one of `web` and one of `api`: {}", keys.len());
    let path = stage.world.dir().join("mesh.tar");
    let both = |arguments: &[&str]| {
        let mut command = Command::new(weft());
        command.args(arguments).arg("--run-dir").arg(near.run_dir()).arg("--run-dir").arg(other.run_dir());
        command.output().expect("weft can be run")
    };
    let told = both(&["diagnose", "--file", path.to_str().expect("a path of text")]);
    assert!(told.status.success(), "{}", text(&told));
    let archive = fs::read(&path).unwrap();
    for node in [near, other] {
        let file = format!("weft-diagnose/nodes/{}/certificates.json", node.name());
        assert!(has(&archive, file.as_bytes()), "{file}");
    }
    assert!(has(&archive, b"spiffe://mesh.example/"), "it tells whose the certificates are");
    assert!(!has(&archive, b"PRIVATE KEY"));
    assert_eq!(keys_in(&archive).count(), 0);
    for form in keys.iter().flat_map(forms) {
        assert!(!has(&archive, &form), "{}", String::from_utf8_lossy(&form));
    }

    let status = both(&["status"]);
    assert!(status.status.success(), "{}", text(&status));
    for command in
        [&["get", "services"][..], &["get", "certificates"], &["observe"], &["describe", "pod", "shop/web"]]
    {
        let told = both(command);
        assert!(told.status.success(), "{command:?}: {}", text(&told));
        assert!(text(&told).contains("shop") || command[0] == "observe", "{command:?}: {}", text(&told));
    }
}
