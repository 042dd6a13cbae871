//! `weft log`: what an agent logs, and another choice of it.

use std::collections::BTreeMap;

use weft_telemetry::api::{LogChange, LogView};

use crate::{
    Client, Error, Exit, Screen,
    ask::Ask,
    table::{Column, Table},
};

/// Which agent's log.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Of a cluster, of all its agents. Lasts until an agent ends; the next one begins
with its --log. The node's proxy has a log of its own, in the run directory.

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
    let path = args.set.map_or_else(|| "/v1/log".to_owned(), |filter| format!("/v1/log?{}", query(filter)));
    let change = path.contains('?');
    let ask = async |client: &Client| -> Result<LogView, Error> {
        if change { client.post(&path).await } else { client.get(&path).await }
    };
    let agents = args.ask.agents().await?;
    if let Some(client) = agents.alone() {
        let view = ask(client).await?;
        args.ask.output.write(screen, &view, |view, _| format!("{}\n", view.filter))?;
        return Ok(Exit::Yes);
    }
    let views: BTreeMap<_, _> = agents.each(screen, ask).await?.into_iter().collect();
    args.ask.output.write(screen, &views, |views, screen| {
        let mut table = Table::new([Column::whole("NODE"), Column::folding("FILTER")]);
        for (node, view) in views {
            table.row([node.to_string(), view.filter.clone()]);
        }
        table.render(screen.width())
    })?;
    Ok(Exit::Yes)
}

fn query(filter: String) -> String {
    serde_urlencoded::to_string(LogChange { filter }).expect("one text is a query")
}
