//! What the container runtime's plugin says to an agent of another release, and is answered. Runtimes call the plugin of the
//! release that is on the disk, which may be another one than that of the agent that runs.

#[path = "../../../tests/releases/release.rs"]
mod release;

use weft_telemetry::api::{Attached, Attachment, Failure, LogChange, LogView, Sandboxes};

#[test]
fn the_plugins_words_and_the_agents_answers_are_the_same_ones() {
    let attachment = Attachment {
        namespace: "shop".to_owned(),
        pod: "web-1".to_owned(),
        uid: "u1".to_owned(),
        sandbox: "ab12".to_owned(),
        netns: "/run/netns/cni-1".into(),
        inode: 4_026_532_000,
        runtime: 4711,
        ips: vec![[10, 1, 0, 7].into()],
    };
    release::agrees("attachment.json", &attachment, &[]);
    release::agrees("sandboxes.json", &Sandboxes { sandboxes: vec!["ab12".to_owned()] }, &[]);
    release::agrees(
        "attached.json",
        &vec![Attached::Enrolled, Attached::NotEnrolled, Attached::Unknown],
        &[],
    );
    release::agrees("failure.json", &Failure::new("weft_policy is full", "start it with --map-size"), &[]);
}

#[test]
fn the_filter_of_the_log_is_changed_by_the_same_words() {
    release::agrees("log.json", &LogView { filter: "weft_datapath=debug,info".to_owned() }, &[]);
    release::agrees("log-change.json", &LogChange { filter: "info".to_owned() }, &[]);
}
