//! `weft stat`: the requests of the last minute, once.

use weft_telemetry::window::Window;

use crate::{Error, Exit, Screen, ask::Ask, traffic};

/// Which requests, and of how long.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Requests that took the http path from pods of the nodes asked, by Service and
route. SUCCESS are answers below 500 and, for gRPC calls, OK.

Examples:
  weft stat
  weft stat -n shop --window 10 -o json")]
pub struct Args {
    /// Only Services of this namespace
    #[arg(long, short)]
    namespace: Option<String>,
    /// Services of all namespaces, which is the default
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Seconds to look back
    #[arg(long, value_name = "SECONDS", default_value_t = Window::LONGEST.as_secs(),
          value_parser = clap::value_parser!(u64).range(2..=Window::LONGEST.as_secs()))]
    window: u64,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let agents = args.ask.agents().await?;
    let list = traffic::of_last(&agents, args.window, args.namespace.as_deref(), screen).await?;
    args.ask.output.write(screen, &list, |list, screen| traffic::table(list, screen.width()))?;
    Ok(Exit::Yes)
}
