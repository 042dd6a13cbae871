//! Where the figures come from.

use std::fmt;
use std::fs;

use rustix::system::uname;
use serde::Serialize;

/// The machine, without its name.
#[derive(Serialize)]
pub(crate) struct Machine {
    kernel: String,
    architecture: String,
    cores: usize,
    /// How many threads wanted to run before the bench began, over a minute.
    load: f64,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let system = uname();
        let release = system.release().to_string_lossy();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            // What follows the number is the name of a build.
            kernel: release.split(['-', '+']).next().unwrap_or_default().to_owned(),
            architecture: system.machine().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, architecture, cores, load } = self;
        write!(f, "Linux {kernel}, {architecture}, {cores} cores, load {load:.2} before")?;
        if *load > QUIET { write!(f, ": not a quiet machine, mind the spread") } else { Ok(()) }
    }
}

const QUIET: f64 = 0.5;
