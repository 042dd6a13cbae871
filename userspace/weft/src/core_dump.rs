//! What a core dump of this process holds.

use std::{fs, io::ErrorKind};

/// Leaves the memory out of it (core(5)): private keys are there, and a dump is a file. What remains are registers.
pub(crate) fn leave_memory_out() {
    match fs::write(FILTER, "0") {
        // A kernel that writes no dumps at all.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "cannot write {FILTER}: a core dump would hold private keys"),
        Ok(()) => {}
    }
}

const FILTER: &str = "/proc/self/coredump_filter";
