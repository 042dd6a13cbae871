//! Keys that are rotated, and a provider that goes away.

use serde_json::json;
use weft_tests::soon;

use crate::{
    provider::Key,
    stage::{READERS, Stage},
};

#[test]
fn keys_are_fetched_anew_and_the_last_good_ones_outlive_their_provider() {
    let Some(mut stage) = Stage::open(Some(READERS)) else { return };
    let readers = json!({"realm": {"groups": ["readers"]}});
    stage.gets(&stage.web, Some(&stage.key.token(&readers)), (200, ""));
    let keys = stage.keys();
    assert_eq!((&keys["location"], &keys["keys"]), (&json!(stage.provider.uri()), &json!(1)));
    assert!(keys["failure"].is_null() && keys["ageSeconds"].is_u64(), "{keys}");

    // An agent that starts fetches at once; nobody waits five minutes here.
    let next = Key::new("second");
    stage.provider.rotates_to(&next);
    stage.agent.restart();
    stage.node.wait();
    stage.gets(&stage.web, Some(&next.token(&readers)), (200, ""));
    stage.gets(&stage.web, Some(&stage.key.token(&readers)), (401, "TokenKey"));

    stage.provider.breaks();
    stage.agent.restart();
    stage.node.wait();
    soon(|| {
        stage.keys()["failure"]["error"].as_str().is_some_and(|error| error.contains("the answer is 500"))
    });
    assert_eq!(stage.keys()["keys"], 1, "the last good one");
    stage.gets(&stage.web, Some(&next.token(&readers)), (200, ""));
    stage.gets(&stage.web, Some(&stage.key.token(&readers)), (401, "TokenKey"));
    let status = String::from_utf8(stage.node.weft(&["status"]).stdout).unwrap();
    assert!(status.contains("Token keys:     of 1 of 1 places they cannot be fetched"), "{status}");
}
