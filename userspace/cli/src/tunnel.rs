//! `weft tunnel`: joins standard input and output with an agent's socket. Commands for a whole cluster run it in the pods of
//! agents, by the API server's exec; the socket stays root's, and no port is open.

use std::path::PathBuf;

use tokio::{
    io::{self, AsyncWriteExt},
    net::UnixStream,
};
use weft_telemetry::admin::SOCKET;

use crate::{Error, Exit};

/// Whose socket.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Run directory of the agent
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    run_dir: PathBuf,
}

/// Carries bytes until either end is done: the agent, or whoever asks.
pub async fn run(args: Args) -> Result<Exit, Error> {
    let socket = args.run_dir.join(SOCKET);
    let stream = UnixStream::connect(&socket)
        .await
        .map_err(|source| Error::NoAgent { socket: socket.clone(), source })?;
    let (mut from_agent, mut to_agent) = stream.into_split();
    let (mut input, mut output) = (io::stdin(), io::stdout());
    let asked = async {
        io::copy(&mut input, &mut to_agent).await?;
        to_agent.shutdown().await
    };
    let answered = async {
        io::copy(&mut from_agent, &mut output).await?;
        output.flush().await
    };
    tokio::pin!(asked, answered);
    // Who asks and goes away without a word leaves its input open, perhaps: the agent's end is the end. Whose input ends may
    // still want the answer.
    tokio::select! {
        done = &mut answered => done?,
        asked = &mut asked => {
            asked?;
            answered.await?;
        }
    }
    Ok(Exit::Yes)
}
