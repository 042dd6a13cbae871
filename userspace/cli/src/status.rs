//! `weft status`: how the agent is doing.

mod nodes;
mod show;

use std::time::Duration;

pub(crate) use show::show;
use tokio::time::{Instant, sleep, timeout};
use weft_telemetry::api::{ProxyState, Status, Synced};

use crate::{Client, Error, Exit, Screen, agents::Agents, ask::Ask};

/// Which agent, and whether to wait for it.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
With --wait, everything that is in the manifests now is read and enforced before
the answer. Documents with errors are listed and hold nothing back. Of a cluster,
a line for each node; --node N shows all of one.

Exit code: 0 healthy, or enforced in time; 1 not, or not on each node;
2 could not ask.

Examples:
  weft status
  weft status --wait 10s --run-dir /run/weft-n1")]
pub struct Args {
    /// Wait so long until all manifests are enforced, and for the agent to come up
    #[arg(long, value_name = "TIME", value_parser = duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let began = Instant::now();
    let agents = found(&args, began).await?;
    let Some(client) = agents.alone() else { return nodes::run(agents, &args, began, screen).await };
    let Some(patience) = args.wait else {
        let status: Status = client.get("/v1/status").await?;
        args.ask.output.write(screen, &status, |status, screen| show(status, screen.width()))?;
        return Ok(if is_healthy(&status) { Exit::Yes } else { Exit::No });
    };
    match timeout(patience, enforced(client)).await {
        Ok(status) => {
            args.ask.output.write(screen, &status?, |status, screen| show(status, screen.width()))?;
            Ok(Exit::Yes)
        }
        Err(_) => late(&args, client, patience, screen).await,
    }
}

/// The agents, once there are some.
async fn found(args: &Args, began: Instant) -> Result<Agents, Error> {
    loop {
        match args.ask.agents().await {
            Err(Error::NoAgents { .. }) if args.wait.is_some_and(|patience| began.elapsed() < patience) => {
                sleep(BETWEEN_LONG).await;
            }
            found => return found,
        }
    }
}

fn is_healthy(status: &Status) -> bool {
    let failing = status.proxy.as_ref().is_some_and(|proxy| proxy.state == ProxyState::Failing);
    let unissued = status.certificates.as_ref().is_some_and(|certificates| certificates.failure.is_some());
    // Where there are last good keys, these serve.
    let without_keys = status.jwks.iter().any(|jwks| jwks.failure.is_some() && jwks.keys == 0);
    status.failure.is_none() && !failing && !unissued && !without_keys
}

/// Waits until all that is in the manifests now is enforced.
async fn enforced(client: &Client) -> Result<Status, Error> {
    loop {
        match synced(client).await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {} // another agent answers now, which counts its versions anew
            Err(error) if error.may_pass() => {}
            Err(error) => return Err(error),
        }
        sleep(between(client)).await;
    }
}

async fn synced(client: &Client) -> Result<Option<Status>, Error> {
    let Synced { version } = client.post("/v1/sync").await?;
    loop {
        let status: Status = client.get("/v1/status").await?;
        // Of a version that is written, a pod may still be without its program.
        if status.enforced_version >= version && status.failure.is_none() {
            return Ok(Some(status));
        }
        if status.snapshot_version < version {
            return Ok(None);
        }
        sleep(between(client)).await;
    }
}

/// Shows what there is, and says that it is not what was waited for.
async fn late(args: &Args, client: &Client, patience: Duration, screen: &mut Screen) -> Result<Exit, Error> {
    let answer: Result<Status, Error> =
        timeout(LAST_ANSWER, client.get("/v1/status")).await.unwrap_or_else(|_| {
            let failure = weft_telemetry::api::Failure::new("the agent does not answer", "see its log");
            Err(Error::Refused(failure))
        });
    match answer {
        Ok(status) => {
            args.ask.output.write(screen, &status, |status, screen| show(status, screen.width()))?;
            screen.note(&format!("weft: not enforced within {patience:?}"))?;
        }
        Err(error) => screen.note(&format!("weft: not enforced within {patience:?}: {error}"))?,
    }
    Ok(Exit::No)
}

/// A time as people write it: `10s`, `500ms`, `1m30s`.
///
/// # Errors
/// How to write one.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<Duration> = text.parse::<jiff::SignedDuration>().ok().and_then(|d| d.try_into().ok());
    parsed.ok_or_else(|| "write a time like 10s, 500ms or 1m30s".to_owned())
}

/// Between two questions.
fn between(client: &Client) -> Duration {
    if client.way().is_long() { BETWEEN_LONG } else { BETWEEN }
}

const BETWEEN: Duration = Duration::from_millis(20);
/// Where each goes through an API server.
const BETWEEN_LONG: Duration = Duration::from_millis(300);

/// How long the last answer may take.
const LAST_ANSWER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use weft_telemetry::api::{CertificateFailure, JwksView, Time};

    use super::*;

    #[test]
    fn keys_that_cannot_be_fetched_are_unhealthy_where_there_are_none() {
        let with = |keys| {
            let failure = CertificateFailure { error: "away".into(), since: Time::now(), tries: 1 };
            let location = "https://idp.example/jwks".into();
            let jwks = JwksView { location, keys, fetched: None, age_seconds: None, failure: Some(failure) };
            Status { jwks: vec![jwks], ..Status::default() }
        };
        assert!(is_healthy(&Status::default()) && is_healthy(&with(1)));
        assert!(!is_healthy(&with(0)));
    }
}
