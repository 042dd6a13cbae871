//! Network namespaces for tests. Needs root.

use nix::sched::{CloneFlags, unshare};
use weft_transport::Netns;

/// A new namespace with `lo` up, alive as long as the value.
pub(crate) fn namespace() -> Netns {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
        Netns::current().unwrap()
    });
    let netns = made.join().unwrap();
    netns.run(loopback_up).unwrap();
    netns
}

fn loopback_up() {
    let status = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(status.success());
}
