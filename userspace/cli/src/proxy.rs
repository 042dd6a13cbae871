//! `weft proxy upgrade`: the next generation of the node's proxy.

use weft_telemetry::api::ProxyUpgraded;

use crate::{Error, Exit, Screen, ask::Ask, describe::fields, units};

/// Which agent's proxy.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The agent starts the program that lies at its own path by now, gives it all pods
and the configuration, and lets it accept new connections; the proxy before
finishes those that it carries. If the new one fails, the one before stays.

Exit code: 0 upgraded; 1 not, the proxy before goes on; 2 could not ask.

Examples:
  weft proxy upgrade --run-dir /run/weft-n1
  weft proxy upgrade --node n1")]
pub struct UpgradeArgs {
    #[command(flatten)]
    ask: Ask,
}

/// Runs `weft proxy upgrade`.
pub async fn upgrade(args: UpgradeArgs, screen: &mut Screen) -> Result<Exit, Error> {
    let agents = args.ask.agents().await?;
    match agents.only("an upgrade")?.post::<ProxyUpgraded>("/v1/proxy/upgrade").await {
        Ok(upgraded) => {
            args.ask.output.write(screen, &upgraded, |upgraded, _| show(upgraded))?;
            Ok(Exit::Yes)
        }
        Err(error @ Error::Refused(_)) => {
            screen.note(&format!("weft: {error}"))?;
            Ok(Exit::No)
        }
        Err(error) => Err(error),
    }
}

fn show(upgraded: &ProxyUpgraded) -> String {
    let draining: Vec<_> = upgraded.draining.iter().map(ToString::to_string).collect();
    let within = units::span(std::time::Duration::from_secs(upgraded.drain_seconds));
    let draining = match draining.as_slice() {
        [] => "none".to_owned(),
        pids => format!("pid {}, within {within}", pids.join(", ")),
    };
    fields(&[("In force", format!("pid {} (weft {})", upgraded.pid, upgraded.build)), ("Draining", draining)])
}
