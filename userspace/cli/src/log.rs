//! `weft log`: what an agent logs, and another choice of it.

use weft_telemetry::api::{LogChange, LogView};

use crate::{Error, Exit, Screen, ask::Ask};

/// Which agent's log.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Lasts until the agent ends; the next one begins with its --log. The node's proxy
has a log of its own, in the run directory.

Examples:
  weft log
  weft log --set weft_datapath=debug,info
  weft log --set info")]
pub struct Args {
    /// What the agent is to log from now on: a level, or levels by target
    #[arg(long, value_name = "FILTER")]
    set: Option<String>,
    #[command(flatten)]
    ask: Ask,
}

/// Runs `weft log`.
pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let client = args.ask.client();
    let view: LogView = match args.set {
        Some(filter) => client.post(&format!("/v1/log?{}", query(filter))).await?,
        None => client.get("/v1/log").await?,
    };
    args.ask.output.write(screen, &view, |view, _| format!("{}\n", view.filter))?;
    Ok(Exit::Yes)
}

fn query(filter: String) -> String {
    serde_urlencoded::to_string(LogChange { filter }).expect("one text is a query")
}
