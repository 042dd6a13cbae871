//! The end of an agent: an update, after which the next one goes on, or the end of the mesh on this node.

use std::{convert::Infallible, path::Path, sync::Arc, thread, time::Duration};

use anyhow::Result;
use weft_datapath::Tenancy;
use weft_kubernetes::{Fate, Installation};
use weft_runtime::Tasks;

use crate::{cni::node::Installed, settings::AgentArgs};

/// What SIGTERM means.
pub(crate) enum Removal {
    /// That the kernel goes on.
    Never,
    /// That nothing is to be left.
    Always,
    /// Whatever has become of the DaemonSet.
    Asked(Arc<Installation>),
}

impl Removal {
    /// As the arguments say; what becomes of a DaemonSet on `node` is followed from now on.
    pub(crate) async fn of(args: &AgentArgs, node: &str, tasks: &Tasks) -> Result<Self> {
        let Some(daemonset) = &args.daemonset else {
            return Ok(if args.withdraw { Self::Always } else { Self::Never });
        };
        let installation = Arc::new(Installation::open(&args.connection(), daemonset, node).await?);
        let stop = tasks.stop_signal();
        let following = installation.follow();
        tasks.spawn("installation", async move {
            tokio::select! {
                () = following => {}
                () = stop.cancelled() => {}
            }
            Ok::<_, Infallible>(())
        });
        Ok(Self::Asked(installation))
    }

    /// Whether this agent's end is the end of the mesh on its node. What is not known is no removal: the kernel goes on
    /// then, and `weft cleanup` takes it out.
    pub(crate) async fn is_due(&self) -> bool {
        let fate = match self {
            Self::Never => return false,
            Self::Always => return true,
            Self::Asked(installation) => installation.fate().await,
        };
        match fate {
            Fate::Removed { why } => {
                tracing::info!(why, "weft is removed from this node");
                true
            }
            Fate::Stays => false,
            Fate::Unknown { why } => {
                tracing::warn!(
                    why,
                    "whether weft is removed from this node is not known: the kernel goes on"
                );
                false
            }
        }
    }
}

/// Takes everything out, redirection first, and waits for `drain` at the most until the node's proxies have finished what
/// they carry. Blocks.
pub(crate) fn take_out(tenancy: Tenancy, run_dir: &Path, drain: Duration) -> Result<()> {
    tenancy.withdraw()?;
    // Pods that start from now on ask nobody any more.
    if let Some(plugin) = Installed::read(run_dir)? {
        plugin.remove(run_dir)?;
    }
    tracing::info!(?drain, "nothing is redirected any more; the proxy finishes what it carries");
    // What was on its way to a listener is there by then, a SYN that was sent again included.
    thread::sleep(IN_FLIGHT);
    weft_keeper::cleanup(run_dir, drain)?;
    tenancy.forget()?;
    tracing::info!("nothing of weft is left on this node");
    Ok(())
}

/// A SYN is sent again after a second.
const IN_FLIGHT: Duration = Duration::from_secs(2);
