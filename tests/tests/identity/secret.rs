//! Private keys are in memory, and nowhere else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use weft_tests::eventually;

use crate::memory::{keys_in, private_keys};
use crate::stage::{SOON, Stage, proxy_pid, serial, wait_for_proxy};

#[test]
fn a_private_key_is_in_the_memory_of_agent_and_proxy_and_in_no_file_log_or_core_dump() {
    let Some(stage) = Stage::open_with("30s", &["--log", "trace,aya=info,aya_obj=info"]) else { return };
    let near = &stage.near;
    wait_for_proxy(near, 2);
    let first = serial(near, "web");
    let (agent, proxy) = (stage.agents[0].pid().unwrap(), proxy_pid(near).unwrap().unsigned_abs());
    let mut keys = BTreeSet::new();
    // Those before and those after a renewal: one of `web`, one of `api` each.
    eventually(SOON, || {
        keys.extend(&private_keys(agent) & &private_keys(proxy));
        serial(near, "web") != first && keys.len() >= 4
    });
    for process in [agent, proxy] {
        let filter = fs::read_to_string(format!("/proc/{process}/coredump_filter")).unwrap();
        assert_eq!(filter.trim(), "00000000", "a core dump would have them");
    }
    let files = files(stage.world.dir(), stage.authority.dir());
    for written in [near.log(), near.run_dir().join("proxy.log")] {
        assert!(files.contains(&written), "{}", written.display());
    }
    for file in files {
        // Sockets cannot be read.
        let Ok(bytes) = fs::read(&file) else { continue };
        assert_eq!(keys_in(&bytes).count(), 0, "{}", file.display());
        for key in &keys {
            let shown = forms(key).into_iter().find(|form| has(&bytes, form));
            assert_eq!(
                shown.map(|form| String::from_utf8_lossy(&form).into_owned()),
                None,
                "{}",
                file.display()
            );
        }
        assert!(!has(&bytes, b"PRIVATE KEY"), "{}", file.display());
    }
    // The same look finds the key that is in a file.
    let issuer = fs::read(stage.authority.dir().join("issuer.pem")).unwrap();
    assert!(has(&issuer, b"PRIVATE KEY"));
}

/// A part of the secret number as it may be written: as it is, hexadecimal, or a list of numbers.
pub(crate) fn forms(key: &[u8; 32]) -> [Vec<u8>; 4] {
    let part = &key[..12];
    let hex = part.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let list = format!("{part:?}");
    let list = list.trim_matches(['[', ']']);
    [part.into(), hex.to_uppercase().into(), hex.into(), list.into()]
}

pub(crate) fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// All that agents and proxies of the world have written; the authority is not theirs.
fn files(folder: &Path, authority: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let (folders, mut found): (Vec<_>, Vec<_>) =
        entries.filter(|path| path != authority).partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files(folder, authority)));
    found
}
