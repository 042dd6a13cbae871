//! The processes that this crate's tests start and kill.
//!
//! ```text
//! weft-keeper-trial proxy --run-dir DIR                              a proxy: answers each line by who it is
//! weft-keeper-trial agent --run-dir DIR --cgroup DIR NAME=NETNS ...  an agent: a keeper, and nothing else
//! ```
#![forbid(unsafe_code)]

mod agent;
mod proxy;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["proxy", "--run-dir", run_dir] => proxy::run(Path::new(run_dir)),
        ["agent", "--run-dir", run_dir, "--cgroup", cgroup, pods @ ..] => {
            agent::run(Path::new(run_dir), Path::new(cgroup), pods)
        }
        _ => Err("see the head of tests/support/trial/main.rs".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trial: {error}");
            ExitCode::FAILURE
        }
    }
}

/// These processes are tests: whatever goes wrong is told and ends them.
type Done = Result<(), Box<dyn std::error::Error>>;
