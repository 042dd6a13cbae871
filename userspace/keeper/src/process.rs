//! One proxy process that this agent has started.

use std::convert::Infallible;
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use weft_runtime::{Stop, Tasks};

use crate::event::Event;
use crate::log::Log;
use crate::{Error, Program};

/// A child. Dropped, it lives on: whoever drops it is an agent that ends.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its process id, which is its own until [`Event::Exited`] has come.
    pub pid: u32,
    /// When it was started.
    pub started: Instant,
    /// How long the log was then.
    pub log_length: u64,
    /// Whether it has connected.
    pub met: bool,
    /// Whether it was told to finish: its end is no failure.
    pub retired: bool,
    /// Why it was killed.
    pub doom: Option<String>,
    kill: Stop,
}

impl Process {
    /// Starts `program`; how it ends will be an event.
    ///
    /// It has no pipe to the agent, and no death signal: it lives on when the agent is killed, and gets its
    /// own session in [`crate::enter`].
    pub(crate) fn start(
        program: &Program,
        log: &Log,
        tasks: &Tasks,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Start { path: program.path.clone(), source };
        let output = log.open().map_err(failed)?;
        let log_length = output.metadata().map_or(0, |log| log.len());
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed)?).stderr(output);
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().expect("it was not waited for");
        let kill = Stop::new();
        let stop = tasks.stop_signal();
        tasks.spawn("proxy process", reap(child, pid, kill.clone(), stop, events));
        let (started, met, retired, doom) = (Instant::now(), false, false, None);
        Ok(Self { pid, started, log_length, met, retired, doom, kill })
    }

    /// Ends it at once, for this reason; the first one stays.
    pub(crate) fn kill(&mut self, why: impl Into<String>) {
        self.doom.get_or_insert_with(|| why.into());
        self.kill.cancel();
    }
}

async fn reap(
    mut child: Child,
    pid: u32,
    kill: Stop,
    stop: Stop,
    events: mpsc::Sender<Event>,
) -> Result<(), Infallible> {
    let exited = tokio::select! {
        exited = child.wait() => exited,
        () = kill.cancelled() => child.kill().await.and(child.wait().await),
        // It is the next agent's.
        () = stop.cancelled() => return Ok(()),
    };
    let ending = exited.map_or_else(|error| format!("cannot be waited for: {error}"), ending);
    // Nobody listens when the agent ends.
    let _ = events.send(Event::Exited { pid, ending }).await;
    Ok(())
}

/// `ended with exit status: 1`, `was ended by signal: 9 (SIGKILL)`.
fn ending(status: ExitStatus) -> String {
    if status.code().is_some() { format!("ended with {status}") } else { format!("was ended by {status}") }
}
