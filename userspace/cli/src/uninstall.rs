//! `weft uninstall`: the mesh is taken out of a cluster, without a pod's noticing.

use std::{path::PathBuf, time::Duration};

use weft_kubernetes::{Cluster, Connection, Uninstalled, uninstall};

use crate::{Error, Exit, Screen, install, status::duration};

/// From which cluster, and how much.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Deletes what `weft install` makes, agents first, and waits: each agent withdraws redirection from its node, lets its
proxy finish what it carries, for 5 min at the most, and leaves nothing there. Pods go on speaking with each other,
in clear and without policies. The kinds of policies stay, and the policies, unless --crds is given.

Exit code: 0 all is gone; 1 not yet, ask again; 2 could not ask.

Examples:
  weft uninstall
  weft uninstall --kubeconfig /etc/kubernetes/admin.conf --crds")]
pub struct Args {
    /// The cluster, by the current context of a kubeconfig [default: $KUBECONFIG, else that of the pod which this runs in,
    /// else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The definitions of our kinds as well, and with them every policy
    #[arg(long)]
    crds: bool,
    /// How long everything may take
    #[arg(long, value_name = "TIME", default_value = "7m", value_parser = duration)]
    timeout: Duration,
}

/// Runs `weft uninstall`.
pub(crate) async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let connection = Connection::found(args.kubeconfig);
    let cluster = Cluster::connect(&connection).await?;
    let objects = install::installed(args.crds);
    let mut lines = Vec::new();
    let done = uninstall(&cluster, &objects, args.timeout, |what| {
        // Whoever waits wants to know for what.
        let line = match what {
            Uninstalled::Deleting(what) => format!("deleting {what}\n"),
            Uninstalled::Gone(what) => format!("gone     {what}\n"),
        };
        lines.push(screen.write(&line));
    });
    let done = done.await;
    lines.into_iter().collect::<Result<Vec<()>, _>>()?;
    match done {
        Ok(()) => Ok(Exit::Yes),
        Err(error) => {
            screen.note(&format!("weft: {error}"))?;
            Ok(Exit::No)
        }
    }
}
