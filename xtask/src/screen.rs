//! What a developer sees: titles, finished steps with their time, the error at the end.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that writes to the terminal")]

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

/// The name of what runs now.
pub(crate) fn title(text: impl Display) {
    println!("── {text}");
}

/// Something worth knowing, below a title.
pub(crate) fn note(text: impl Display) {
    println!("  · {text}");
}

/// Something that is done.
pub(crate) fn done(what: impl Display, took: Duration) {
    println!("  ✓ {what}   {}", seconds(took));
}

/// Something that went wrong where the command goes on to the next.
pub(crate) fn failed(what: impl Display, took: Duration) {
    println!("  ✗ {what}   {}", seconds(took));
}

/// Output as it is: tables, the output of tests.
pub(crate) fn line(text: impl Display) {
    println!("{text}");
}

/// The last thing said when a command fails: what was tried, then the causes.
pub(crate) fn error(error: &Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// Runs `work` and says how long it took and whether it went well.
pub(crate) fn step<T>(what: impl Display, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let result = work();
    match &result {
        Ok(_) => done(what, started.elapsed()),
        Err(_) => failed(what, started.elapsed()),
    }
    result
}

/// `0.4s`, `12.3s`, `3m05s`.
pub(crate) fn seconds(took: Duration) -> String {
    match took.as_secs() {
        0..100 => format!("{:.1}s", took.as_secs_f64()),
        whole => format!("{}m{:02}s", whole / 60, whole % 60),
    }
}
