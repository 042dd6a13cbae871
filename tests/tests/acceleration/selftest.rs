//! The self-test before anything is accelerated: what it finds out is believed.

use serde_json::Value;
use weft_tests::foreign::Foreign;
use weft_tests::{kernel, text};

use super::stage::{FAST, Stage, pass};

/// The kernel lets a socket into one tool's map only. Here another tool takes the agent's own sockets, those of the
/// self-test among them, and no pod's: without the self-test, pods' connections would be accelerated.
#[test]
fn where_the_self_test_fails_nothing_is_accelerated_and_status_says_at_which_step() {
    let mut foreign = None;
    let beside = |node: &weft_tests::Node| foreign = Some(Foreign::sockmap(&node.agent_cgroup()).unwrap());
    let Some(mut stage) = Stage::open_beside(&[], beside) else { return };
    let status = stage.node.weft_json(&["status"]);
    let off = degradation(&status).unwrap_or_else(|| panic!("nothing is degraded: {status:#}"));
    if kernel() < (6, 18, 14) {
        assert!(off["reason"].as_str().unwrap().contains("older than 6.18.14"), "it comes first: {off}");
        return;
    }
    let reason = off["reason"].as_str().unwrap();
    let step = reason.strip_prefix("the self-test failed: ").and_then(|rest| rest.split_once(": "));
    assert!(step.is_some_and(|(step, why)| !step.is_empty() && !why.is_empty()), "{reason}");
    assert!(off["remedy"].as_str().unwrap().contains("connections go through TCP and work"), "{off}");
    assert_eq!(program(&status), "off");
    let page = text(&stage.node.weft(&["status"]));
    assert!(page.contains("same-node acceleration") && page.contains("the self-test failed"), "{page}");
    assert!(stage.agent.log().contains("same-node acceleration stays off"), "{}", stage.agent.log());

    let (mut client, mut server) = stage.connect(FAST);
    assert_eq!(pass(&mut client, &mut server, b"through TCP"), b"through TCP");
    assert_eq!(pass(&mut server, &mut client, b"and back"), b"and back");
    assert_eq!((stage.latches(), stage.count("bytes_redirected")), ([0; 3], 0));

    // Nothing else was in the way: the next agent finds the same kernel fit.
    drop(foreign);
    stage.agent.restart();
    assert_eq!(stage.why_off(), None);
    assert_eq!(program(&stage.node.weft_json(&["status"])), "attached");
    let (mut client, mut server) = stage.connect(FAST);
    assert_eq!(pass(&mut client, &mut server, b"redirected"), b"redirected");
    assert_eq!(stage.count("bytes_redirected"), 10);
}

fn degradation(status: &Value) -> Option<&Value> {
    status["degradations"].as_array()?.iter().find(|one| one["feature"] == "same-node acceleration")
}

fn program(status: &Value) -> &str {
    let programs = status["programs"].as_array().unwrap();
    programs.iter().find(|program| program["name"] == "weft_sk_msg").unwrap()["state"].as_str().unwrap()
}
