//! How a command ends.

use std::process::ExitCode;

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or healthy: 0.
    Yes,
    /// No: denied, errors found, time-out: 1.
    No,
    /// Could not ask, or wrong usage: 2.
    NotAsked,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Yes => 0,
            Exit::No => 1,
            Exit::NotAsked => 2,
        })
    }
}
