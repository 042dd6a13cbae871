//! The plugin on this node: the agent installs it, gives it a kubeconfig, and looks after both.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use weft_cni::{Installer, Placement, Settings};
use weft_kubernetes::Connection;
use weft_model::ServiceAccount;
use weft_runtime::{Backoff, Stop, Tasks};
use weft_telemetry::api::Degradation;

use crate::settings::AgentArgs;

/// How the plugin is.
pub(crate) struct Plugin {
    placement: watch::Receiver<Placement>,
    credentials: watch::Receiver<Option<String>>,
    conf_dir: PathBuf,
}

impl Plugin {
    /// Installs it, where the arguments say where; `last_good` is what the agent keeps for the next one.
    pub(crate) fn start(args: &AgentArgs, last_good: &Path, tasks: &Tasks) -> Result<Option<Self>> {
        let (Some(bin_dir), Some(conf_dir)) = (&args.cni_bin_dir, &args.cni_conf_dir) else {
            return Ok(None);
        };
        let own = absolute(&args.state_dir)?.join("cni");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&own)?;
        let installer = Installer {
            bin_dir: absolute(bin_dir)?,
            conf_dir: absolute(conf_dir)?,
            // Whatever is at its path by then, this is what runs.
            program: "/proc/self/exe".into(),
            settings: Settings {
                agent: absolute(&args.run_dir)?.join(weft_telemetry::admin::SOCKET),
                kubeconfig: own.join("kubeconfig"),
                members: weft_kubernetes::members_file(&absolute(last_good)?),
                never_wait: NEVER_WAIT.map(ToOwned::to_owned).into(),
            },
        };
        let record =
            Installed { bin_dir: installer.bin_dir.clone(), conf_dir: installer.conf_dir.clone(), own };
        record.write(&args.run_dir).context("cannot note where the CNI plugin is")?;
        let (placed, placement) = watch::channel(Placement::Unknown);
        let (lent, credentials) = watch::channel(None);
        let connection = args.connection();
        let kubeconfig = installer.settings.kubeconfig.clone();
        tasks.spawn("cni credentials", lend(connection, kubeconfig, lent, tasks.stop_signal()));
        let conf_dir = installer.conf_dir.clone();
        tasks.spawn("cni plugin", weft_cni::keep(installer, placed, tasks.stop_signal()));
        Ok(Some(Self { placement, credentials, conf_dir }))
    }

    /// What it lacks.
    pub(crate) fn degradations(&self) -> Vec<Degradation> {
        let feature = "pods in the mesh from their first packet on";
        let degradation = |feature: &str, reason: String, remedy: &str| Degradation {
            feature: feature.to_owned(),
            reason,
            remedy: remedy.to_owned(),
        };
        let placed = match &*self.placement.borrow() {
            Placement::Unknown | Placement::Placed { .. } => None,
            Placement::NoNetwork => Some(degradation(
                feature,
                format!(
                    "there is no CNI configuration in {} that weft-cni could be a part of",
                    self.conf_dir.display()
                ),
                "install the cluster's CNI plugin, or say where its configuration is: --cni-conf-dir",
            )),
            Placement::Contested { file } => Some(degradation(
                feature,
                format!("somebody writes {} again and again, without weft-cni", file.display()),
                "let only one write it; of Cilium, set cni.exclusive=false",
            )),
            Placement::Failed { error } => {
                Some(degradation(feature, error.clone(), "mount the node's CNI directories writable"))
            }
        };
        let lent = self.credentials.borrow().as_ref().map(|error| {
            let feature = "starting pods while the agent is away";
            degradation(feature, error.clone(), "apply what `weft install` prints")
        });
        placed.into_iter().chain(lent).collect()
    }
}

/// Keeps a kubeconfig at `file` whose token is good for at least half of the time for which the API server gives one.
async fn lend(
    connection: Connection,
    file: PathBuf,
    told: watch::Sender<Option<String>>,
    stop: Stop,
) -> Result<(), Infallible> {
    let account = ServiceAccount::new(SYSTEM, ACCOUNT);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
    loop {
        let wait = match weft_kubernetes::lend(&connection, &account, &file).await {
            Ok(valid) => {
                told.send_replace(None);
                backoff.reset();
                (valid / 2).clamp(Duration::from_mins(1), LONGEST)
            }
            Err(error) => {
                let error = error.to_string();
                if told.send_replace(Some(error.clone())).as_ref() != Some(&error) {
                    tracing::warn!(error, "weft-cni cannot ask the API server while the agent is away");
                }
                backoff.step()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Where the plugin is, for whoever takes it off the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    bin_dir: PathBuf,
    conf_dir: PathBuf,
    /// What the agent keeps for it.
    own: PathBuf,
}

impl Installed {
    /// What an agent has noted in its run directory; `None` where it has installed nothing.
    pub(crate) fn read(run_dir: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(run_dir.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let mut lines = text.lines().map(PathBuf::from);
        let mut next = || lines.next().ok_or_else(|| io::Error::other("it is not whole"));
        Ok(Some(Self { bin_dir: next()?, conf_dir: next()?, own: next()? }))
    }

    fn write(&self, run_dir: &Path) -> io::Result<()> {
        let Self { bin_dir, conf_dir, own } = self;
        let lines = [bin_dir, conf_dir, own].map(|path| [path.as_os_str().as_bytes(), b"\n"].concat());
        fs::write(run_dir.join(RECORD), lines.concat())
    }

    /// Takes the plugin off the node: out of the configuration first.
    pub(crate) fn remove(self, run_dir: &Path) -> Result<()> {
        let Self { bin_dir, conf_dir, own } = self;
        weft_cni::uninstall(&seen(&bin_dir), &seen(&conf_dir))?;
        for path in [own.join("kubeconfig"), own.join("kubeconfig.draft"), run_dir.join(RECORD)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        // Others may keep files there, and beside it.
        let _ = fs::remove_dir(&own);
        for folder in own.parent().into_iter().chain([run_dir]) {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// A directory of the node as the agent's pod saw it, from without that pod.
fn seen(path: &Path) -> PathBuf {
    match path.strip_prefix("/host") {
        Ok(inside) if !path.exists() => Path::new("/").join(inside),
        _ => path.to_owned(),
    }
}

/// Whose pods start without the mesh rather than not at all: the cluster's own, and the mesh's.
const NEVER_WAIT: [&str; 2] = ["kube-system", SYSTEM];
const SYSTEM: &str = "weft-system";
/// The plugin's own ServiceAccount.
const ACCOUNT: &str = "weft-cni";
/// The file in the run directory that says where the plugin is.
const RECORD: &str = "cni";
const LONGEST: Duration = Duration::from_hours(6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_installed_is_taken_away_by_what_was_noted() {
        let root = tempfile::tempdir().unwrap();
        let [run, bin, conf, state] = ["run", "bin", "net.d", "state"].map(|name| root.path().join(name));
        for folder in [&run, &bin, &conf, &state.join("cni")] {
            fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(Installed::read(&run).unwrap(), None);
        let list = conf.join("10-x.conflist");
        let network = r#"{"name": "n", "plugins": [{"type": "bridge"}]}"#;
        let with = network.replace("}]}", "}, {\"type\":\"weft-cni\"}]}");
        for (path, text) in
            [(&list, &*with), (&bin.join("weft-cni"), "x"), (&state.join("cni/kubeconfig"), "{}")]
        {
            fs::write(path, text).unwrap();
        }
        let installed = || Installed { bin_dir: bin.clone(), conf_dir: conf.clone(), own: state.join("cni") };
        installed().write(&run).unwrap();
        let read = Installed::read(&run).unwrap().unwrap();
        assert_eq!(read, installed());
        read.remove(&run).unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap(), network);
        assert!(!bin.join("weft-cni").exists() && !state.exists() && !run.exists());
    }

    #[test]
    fn a_directory_of_the_node_is_found_from_within_the_agents_pod_and_from_without() {
        assert_eq!(seen(Path::new("/host/no/such/cni")), Path::new("/no/such/cni"));
        assert_eq!(seen(Path::new("/opt/cni/bin")), Path::new("/opt/cni/bin"));
    }
}
