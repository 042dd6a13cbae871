//! `weft top`: the requests of the last seconds, live.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    Error, Exit, Screen,
    ask::Ask,
    output::Format,
    traffic::{self, Line},
};

/// Which requests, and how they are shown.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The busiest routes of the last ten seconds, seen from pods of the nodes asked. On
a terminal the screen is drawn anew until interrupted; into a pipe, with -o json
or with --once it is written once.

Examples:
  weft top
  weft top -n shop --once")]
pub struct Args {
    /// Only Services of this namespace
    #[arg(long, short)]
    namespace: Option<String>,
    /// Services of all namespaces, which is the default
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Write it once
    #[arg(long)]
    once: bool,
    /// Time between two drawings
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(50..))]
    interval: u64,
    /// At most so many routes
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    ask: Ask,
}

pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let agents = args.ask.agents().await?;
    let read = async |screen: &mut Screen| -> Result<Vec<Line>, Error> {
        let mut list = traffic::of_last(&agents, SECONDS, args.namespace.as_deref(), screen).await?;
        list.truncate(args.limit);
        Ok(list)
    };
    let live = screen.width().is_some() && !args.once && args.ask.output == Format::Table;
    if !live {
        let list = read(screen).await?;
        args.ask.output.write(screen, &list, |list, screen| traffic::table(list, screen.width()))?;
        return Ok(Exit::Yes);
    }
    let mut list = read(screen).await?; // an agent that is not there is an error; one that ends is the end
    screen.write(CLEAR)?;
    loop {
        screen.write(&drawn(&list, screen.width()))?;
        sleep(Duration::from_millis(args.interval)).await;
        list = match read(screen).await {
            Ok(list) => list,
            Err(error) => {
                screen.note(&format!("weft: {error}"))?;
                return Ok(Exit::NotAsked);
            }
        };
    }
}

/// Over what stands there: each line ends the old one, the last ends the rest. Nothing flickers.
fn drawn(list: &[Line], width: Option<u16>) -> String {
    let table = traffic::table(list, width);
    let total: f64 = list.iter().map(|line| line.view.rps()).sum();
    let text = format!("{total:.1} requests/s in the last {SECONDS} s\n\n{table}");
    format!("{HOME}{}{REST}", text.replace('\n', &format!("{ERASE}\n")))
}

/// Seconds that are looked back.
const SECONDS: u64 = 10;

/// To the upper left corner (ECMA-48: CUP); erase the screen, a line's rest, all that is below (ED, EL).
const CLEAR: &str = "\u{1b}[2J";
const HOME: &str = "\u{1b}[H";
const ERASE: &str = "\u{1b}[K";
const REST: &str = "\u{1b}[J";
