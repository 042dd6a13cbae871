//! Two agents of one node: the second stands by, and takes over in the moment that the first one ends.
//!
//! A DaemonSet with a surge starts the next agent beside the one that runs, and ends that one once the next is ready. So
//! who stands by is ready as soon as it could do the work: this kernel takes its programs, and it has read what there is.
//! Until it has the node to itself it writes nothing, neither to the kernel nor to a file.

use std::{convert::Infallible, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use weft_datapath::{Tenancy, TenancyError};
use weft_kubernetes::Options;
use weft_runtime::{Shutdown, Stop, Tasks};
use weft_telemetry::{
    admin::{self, Probes},
    api::{Check, Failure, Outcome},
};

use crate::{
    settings::AgentArgs,
    source::{self, Opened, Place, Told},
};

/// The right to be the agent of `node`, once that is free; `None` if this process was asked to end before.
///
/// Without `--stand-by` another agent is an error.
pub(crate) async fn tenancy(
    args: &AgentArgs,
    node: &str,
    place: &Place,
    probes: &Probes,
    shutdown: &mut Shutdown,
) -> Result<Option<Tenancy>> {
    let take = || Tenancy::take(&args.run_dir, node, &args.state_dir);
    match take() {
        Err(TenancyError::Running { .. }) if args.stand_by => {}
        taken => return Ok(Some(taken?)),
    }
    tracing::info!(run_dir = %args.run_dir.display(), "another agent has the node; this one stands by");
    let tasks = Tasks::new();
    let trial = Trial::start(args, node, place, &tasks).await?;
    probes.ready_when(Arc::new(move || trial.outcome()));
    let taken = tokio::select! {
        taken = once_free(take) => Some(taken?),
        signal = shutdown.asked() => {
            tracing::info!(signal, "an agent that stood by ends; the one that runs goes on");
            None
        }
        failed = tasks.failed() => bail!("{failed}; the agent that runs goes on"),
    };
    tasks.drain(DRAIN).await;
    Ok(taken)
}

/// The agent's addresses. One that has just been killed may hold them for a moment longer than its lock.
pub(crate) async fn listen(args: &AgentArgs) -> Result<(tokio::net::UnixListener, tokio::net::TcpListener)> {
    let until = Instant::now() + if args.stand_by { LINGERS } else { Duration::ZERO };
    loop {
        let error = match admin::bind(&args.run_dir) {
            Ok(socket) => match admin::listen(args.metrics).await {
                Ok(health) => return Ok((socket, health)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !is_in_use(&error) || Instant::now() > until {
            return Err(error.into());
        }
        sleep(LOOK).await;
    }
}

fn is_in_use(error: &admin::Error) -> bool {
    match error {
        admin::Error::Running { .. } => true,
        admin::Error::Listen { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
        _ => false,
    }
}

/// Tries again and again, as long as another agent has the node.
async fn once_free(take: impl Fn() -> Result<Tenancy, TenancyError>) -> Result<Tenancy, TenancyError> {
    loop {
        match take() {
            // Of one that was killed, the locks go one after the other.
            Err(TenancyError::Running { .. } | TenancyError::NodeTaken { .. }) => sleep(LOOK).await,
            taken => return taken,
        }
    }
}

/// Whether the work could be done here.
struct Trial {
    /// What this kernel says to the programs.
    machine: watch::Receiver<Result<(), Failure>>,
    /// How the source is.
    told: Told,
}

impl Trial {
    async fn start(args: &AgentArgs, node: &str, place: &Place, tasks: &Tasks) -> Result<Self> {
        // Nothing of it is kept: the agent that runs keeps what is in force.
        let options = Options::of(node);
        // Whether the kubelet is found is the concern of who enforces.
        let kubelet = watch::channel(true).1;
        let Opened { source, snapshots, told } = source::open(args, place, kubelet, options).await?;
        let stopped = tasks.stop_signal().cancelled_owned();
        tasks.spawn("source on trial", async move {
            source.run(Box::pin(stopped)).await;
            drop(snapshots);
            Ok::<_, Infallible>(())
        });
        let (found, machine) = watch::channel(Err(Failure::new("the programs are not tried yet", "")));
        tasks.spawn("programs on trial", try_machine(place.cgroup.clone(), found, tasks.stop_signal()));
        Ok(Self { machine, told })
    }

    fn outcome(&self) -> Result<(), Failure> {
        self.machine.borrow().clone()?;
        let source = self.told.view();
        if source.synced {
            return Ok(());
        }
        let why = source.failure.unwrap_or_else(|| format!("unlisted: {}", source.unlisted.join(", ")));
        Err(Failure::new(format!("not all of {} is read yet: {why}", source.location), ""))
    }
}

/// Loads the programs under a name of their own until this kernel takes them.
async fn try_machine(
    cgroup: Option<PathBuf>,
    found: watch::Sender<Result<(), Failure>>,
    stop: Stop,
) -> Result<(), Infallible> {
    loop {
        let lines = tokio::task::block_in_place(|| weft_datapath::check(cgroup.as_deref()));
        let outcome = judge(&lines);
        let fine = outcome.is_ok();
        if let Err(missing) = &outcome {
            tracing::warn!(%missing, "this agent could not do the work; the one that runs goes on");
        }
        found.send_modify(|now| *now = outcome);
        tokio::select! {
            // Memory and others' programs come and go.
            () = sleep(AGAIN), if !fine => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// What is missing, of a preflight.
fn judge(lines: &[Check]) -> Result<(), Failure> {
    match lines.iter().find(|line| line.outcome == Outcome::Failed) {
        Some(line) => Err(Failure::new(format!("{}: {}", line.name, line.detail), line.remedy.clone())),
        None => Ok(()),
    }
}

/// How often it is looked whether the node is free: nobody notices so short a time without an agent.
const LOOK: Duration = Duration::from_millis(50);
const AGAIN: Duration = Duration::from_secs(10);
/// How long the addresses of an agent that was killed may be in use.
const LINGERS: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_cannot_do_keeps_an_agent_from_being_ready_and_a_warning_does_not() {
        let line = |name: &str, outcome| Check {
            name: name.to_owned(),
            outcome,
            detail: "too old".to_owned(),
            remedy: "update it".to_owned(),
        };
        assert_eq!(judge(&[line("BTF", Outcome::Warning), line("kernel", Outcome::Ok)]), Ok(()));
        let missing = judge(&[line("BTF", Outcome::Warning), line("kernel", Outcome::Failed)]).unwrap_err();
        assert_eq!(missing.to_string(), "kernel: too old; update it");
    }
}
