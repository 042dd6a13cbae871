//! `weft probe`: what a kubelet asks an agent by running a command.

use std::path::PathBuf;

use crate::{Client, Error, Exit, Screen};

/// What is asked, and where.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Exit code: 0 yes; 1 no, and why; 2 could not ask.

Example:
  weft probe ready --socket /tmp/probe.sock")]
pub struct Args {
    /// What is asked
    question: Question,
    /// The agent's --probe-socket
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Question {
    /// Whether it answers
    Alive,
    /// Whether it does its work; of one that stands by, whether it could
    Ready,
}

/// Runs `weft probe`.
pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let path = match args.question {
        Question::Alive => "/healthz",
        Question::Ready => "/readyz",
    };
    let (yes, words) = Client::at(args.socket).words(path).await?;
    screen.write(&words)?;
    Ok(if yes { Exit::Yes } else { Exit::No })
}
