//! The kernel asks whether a connection is the proxy's only while the requests of some pod are read: who has no such policy
//! pays nothing for it.

use weft_abi::config_flags::READS;

use crate::stage::Stage;

#[test]
fn the_kernel_looks_for_requests_while_policies_read_them_and_not_a_moment_longer() {
    let by_path = "httpAttributes: {paths: [{type: PathPrefix, value: /admin}]}";
    let read = format!("action: DENY, rules: [{{{by_path}}}]");
    let Some(mut stage) = Stage::open(&read) else { return };
    let looks = |stage: &Stage| stage.node.config_flags() & READS != 0;
    assert!(looks(&stage));
    stage.apply("action: DENY, rules: [{networkAttributes: {ports: [9999]}}]");
    assert!(!looks(&stage), "a port is known without any request");
    stage.apply(&format!("mode: Audit, {read}"));
    assert!(looks(&stage), "what is audited is read, too");
    // What changed while nobody was there to see it.
    stage.agent.kill();
    stage.node.remove("policy.yaml");
    assert!(looks(&stage), "programs go on with the last state");
    stage.agent.restart();
    assert!(!looks(&stage));
    stage.apply(&read);
    assert!(looks(&stage));
    stage.api.update(|manifest| manifest.enrol_as("disabled"));
    stage.node.wait();
    assert!(!looks(&stage), "no enrolled pod of this node has the policy");
}
