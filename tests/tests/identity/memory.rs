//! What is in a process's memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// The secret numbers of all ECDSA P-256 keys in PKCS#8 that the process holds.
pub(crate) fn private_keys(pid: u32) -> BTreeSet<[u8; 32]> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it lives");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("root may read it");
    let mut found = BTreeSet::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")))
    {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).expect("a hexadecimal address"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("an address space")];
        // Some are given back meanwhile.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            found.extend(keys_in(&bytes));
        }
    }
    found
}

/// The secret numbers of keys in PKCS#8 among these bytes.
pub(crate) fn keys_in(bytes: &[u8]) -> impl Iterator<Item = [u8; 32]> {
    let starts = bytes.windows(BEFORE.len()).enumerate().filter(|(_, window)| *window == BEFORE);
    starts.filter_map(|(at, _)| bytes.get(at + BEFORE.len()..)?.first_chunk().copied())
}

/// What stands before the number: the object identifier of the curve, and the heads of `ECPrivateKey` (RFC 5915).
const BEFORE: &[u8] =
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20];
