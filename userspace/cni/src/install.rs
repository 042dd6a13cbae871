//! The plugin on a node: its program, and its place in the configuration of the node's network.
//!
//! The program is there before any configuration names it, and goes after the last has let go of it.

mod files;
mod watch;

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::watch as latest,
    time::{Instant, timeout},
};
use weft_runtime::{Backoff, Stop};

pub(crate) use self::files::networks;
use self::watch::Watch;
use crate::{NAME, conflist::NotANetwork};

/// Puts the plugin on a node, and keeps it there.
#[derive(Clone, Debug)]
pub struct Installer {
    /// Where runtimes look for plugins, as this process sees it.
    pub bin_dir: PathBuf,
    /// Where they look for networks, as this process sees it.
    pub conf_dir: PathBuf,
    /// The program that is the plugin, too.
    pub program: PathBuf,
    /// What the plugin is told.
    pub settings: Settings,
}

/// What the plugin is told, in its part of the list; paths as runtimes see them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The agent's socket.
    pub agent: PathBuf,
    /// By which the API server is asked where there is no agent.
    pub kubeconfig: PathBuf,
    /// What the agent keeps of its node's pods, for when there is neither.
    pub members: PathBuf,
    /// Namespaces whose pods start without the mesh rather than not at all.
    pub never_wait: Vec<String>,
}

/// How the plugin is on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// That is being found out.
    #[default]
    Unknown,
    /// There is no network to be a part of yet.
    NoNetwork,
    /// It is a part of the network that runtimes use.
    Placed {
        /// The file that says so.
        file: PathBuf,
    },
    /// Somebody writes the file again and again, without the plugin.
    Contested {
        /// The file.
        file: PathBuf,
    },
    /// It cannot be put there.
    Failed {
        /// Why.
        error: String,
    },
}

/// Why the plugin cannot be put on the node, or taken off it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error(
        "cannot {attempt} {path}: {source}; are the node's CNI directories mounted, and may they be written?"
    )]
    File {
        /// What was to be done.
        attempt: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The plugin cannot be taken out of a list.
    #[error("cannot take weft-cni out of {path}: {source}; remove it by hand, then {program}")]
    List {
        /// The list.
        path: PathBuf,
        /// Why.
        source: NotTaken,
        /// What stays until then.
        program: PathBuf,
    },
}

/// Why.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotTaken(#[from] NotANetwork);

/// What [`Installer::ensure`] has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ensured {
    NoNetwork,
    /// It is a part of this file; whether it had to be made that.
    In {
        file: PathBuf,
        anew: bool,
    },
}

impl Installer {
    /// Has the program where runtimes look for it, and in the network that they use.
    fn ensure(&self) -> Result<Ensured, Error> {
        files::place(&self.program, &self.bin_dir.join(NAME))?;
        let entry = Entry { kind: NAME, settings: &self.settings };
        let entry = serde_json::to_string(&entry).expect("settings have string keys only");
        files::join(&self.conf_dir, &entry)
    }
}

/// Keeps the plugin in the node's network until `stop`, whoever writes its configuration anew; `placement` says how that goes.
/// It stays there afterwards: see [`uninstall`].
pub async fn keep(
    installer: Installer,
    placement: latest::Sender<Placement>,
    stop: Stop,
) -> Result<(), Infallible> {
    let mut watch = Watch::of([&installer.conf_dir, &installer.bin_dir]);
    let mut backoff = Backoff::new(Duration::from_millis(500), LOOK);
    let mut repairs: Vec<Instant> = Vec::new();
    loop {
        let now = tokio::task::block_in_place(|| installer.ensure());
        let wait = match now {
            Ok(Ensured::In { file, anew }) => {
                repairs.retain(|at| at.elapsed() < CONTEST);
                repairs.extend(anew.then(Instant::now));
                let contested = repairs.len() > MANY;
                if anew {
                    tracing::info!(file = %file.display(), "weft-cni is a part of the node's network");
                }
                placement.send_replace(if contested {
                    Placement::Contested { file }
                } else {
                    Placement::Placed { file }
                });
                // Whoever writes it all the time shall not be answered in kind.
                if contested { backoff.step() } else { Duration::ZERO }
            }
            Ok(Ensured::NoNetwork) => {
                placement.send_replace(Placement::NoNetwork);
                Duration::ZERO
            }
            Err(error) => {
                let error = error.to_string();
                let told = Placement::Failed { error: error.clone() };
                if placement.send_replace(told.clone()) != told {
                    tracing::error!(
                        error,
                        "pods start before they are in the mesh: weft-cni is not in the node's network"
                    );
                }
                backoff.step()
            }
        };
        if wait.is_zero() {
            backoff.reset();
        }
        let next = async {
            tokio::time::sleep(wait).await;
            // What is not told, such as a folder that was made again, is looked for.
            let _ = timeout(LOOK, watch.changed()).await;
        };
        tokio::select! {
            () = next => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Takes the plugin out of every network below `conf_dir`, then its program out of `bin_dir`. What other plugins wrote is as
/// it was.
pub fn uninstall(bin_dir: &Path, conf_dir: &Path) -> Result<(), Error> {
    let program = bin_dir.join(NAME);
    files::leave(conf_dir, &program)?;
    files::remove(&program)
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    settings: &'a Settings,
}

/// How often it is looked after without a reason.
const LOOK: Duration = Duration::from_secs(30);
/// More repairs than that within so long are a contest.
const MANY: usize = 5;
const CONTEST: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
