//! The way to the API server.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::Error;

/// Which API server to read, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// As the current context of this kubeconfig says.
    Kubeconfig(PathBuf),
    /// As every pod is told: by `KUBERNETES_SERVICE_HOST`, and the token of its ServiceAccount.
    InCluster,
    /// The same at this `HOST:PORT`: where nothing but weft would translate the Service's address.
    InClusterAt(String),
    /// As kubectl finds it: by `KUBECONFIG` or `~/.kube/config`; where there is none, as a pod.
    AsKubectl,
}

impl Connection {
    /// As [`Connection::meant`]; where nothing is, a pod's, whose error says what is missing.
    pub fn found(given: Option<PathBuf>) -> Self {
        Self::meant(given).unwrap_or(Self::InCluster)
    }

    /// What an agent or a controller is told: a kubeconfig, else its pod's cluster, at an address of its own where one is given.
    pub fn of_pod(kubeconfig: Option<PathBuf>, api_server: Option<String>) -> Self {
        match (kubeconfig, api_server) {
            (Some(path), _) => Self::Kubeconfig(path),
            (None, Some(address)) => Self::InClusterAt(address),
            (None, None) => Self::InCluster,
        }
    }

    /// The cluster that a person means who names no agent: the kubeconfig that he gives, else the environment's, else the
    /// cluster whose pod this is, else that of `~/.kube/config`. `None` where there is none of them.
    pub fn meant(kubeconfig: Option<PathBuf>) -> Option<Self> {
        Self::meant_by(kubeconfig, |name| env::var_os(name), Path::exists)
    }

    fn meant_by(
        kubeconfig: Option<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString>,
        exists: impl Fn(&Path) -> bool,
    ) -> Option<Self> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(path) = kubeconfig {
            return Some(Self::Kubeconfig(path));
        }
        if variable("KUBECONFIG").is_some() {
            return Some(Self::AsKubectl); // it may name several files
        }
        if variable("KUBERNETES_SERVICE_HOST").is_some() && exists(Path::new(TOKEN)) {
            return Some(Self::InCluster);
        }
        let path = Path::new(&variable("HOME")?).join(".kube/config");
        exists(&path).then_some(Self::Kubeconfig(path))
    }

    /// A client, and the address of its server. Asks nothing yet.
    pub(super) async fn client(&self) -> Result<(Client, String), Error> {
        let config = self.config().await?;
        let server = config.cluster_url.to_string();
        match Client::try_from(config) {
            Ok(client) => Ok((client, server)),
            Err(error) => Err(Error::Client { server, message: error.to_string() }),
        }
    }

    /// What is known of the server.
    pub(super) async fn config(&self) -> Result<Config, Error> {
        let mut config = match self {
            Self::Kubeconfig(path) => {
                let failed = |error: kube::config::KubeconfigError| Error::Kubeconfig {
                    path: path.clone(),
                    message: error.to_string(),
                };
                let file = Kubeconfig::read_from(path).map_err(failed)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?
            }
            Self::InCluster => in_cluster()?,
            Self::InClusterAt(address) => {
                let wrong = |error: http::uri::InvalidUri| Error::NoCluster {
                    message: format!("--api-server {address}: {error}"),
                };
                let mut config = in_cluster()?;
                config.cluster_url = format!("https://{address}/").parse().map_err(wrong)?;
                config
            }
            Self::AsKubectl => {
                Config::infer().await.map_err(|error| Error::NoCluster { message: error.to_string() })?
            }
        };
        config.connect_timeout = Some(CONNECT);
        // What fails is tried again by whoever asks, with a word in status meanwhile.
        config.default_retry = false;
        Ok(config)
    }
}

fn in_cluster() -> Result<Config, Error> {
    Config::incluster().map_err(|error| Error::NoCluster { message: error.to_string() })
}

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// The token of a pod's ServiceAccount.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_cluster_is_reached_where_it_is_said_to_be() {
        let at = || Some("192.0.2.7:6443".to_owned());
        assert_eq!(Connection::of_pod(None, None), Connection::InCluster);
        assert_eq!(Connection::of_pod(None, at()), Connection::InClusterAt("192.0.2.7:6443".into()));
        assert_eq!(Connection::of_pod(Some("/c".into()), at()), Connection::Kubeconfig("/c".into()));
    }

    #[test]
    fn a_cluster_is_meant_by_flag_then_environment_then_pod_then_home() {
        let meant = |flag: Option<&str>, variables: &[(&str, &str)], files: &[&str]| {
            Connection::meant_by(
                flag.map(PathBuf::from),
                |name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| value.into()),
                |path| files.iter().any(|file| Path::new(file) == path),
            )
        };
        let environment = ("KUBECONFIG", "/a:/b");
        let (pod, home) = (("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("HOME", "/root"));
        let files = [TOKEN, "/root/.kube/config"];
        let kubeconfig = |path: &str| Some(Connection::Kubeconfig(path.into()));
        assert_eq!(meant(Some("/c"), &[environment, pod, home], &files), kubeconfig("/c"));
        assert_eq!(meant(None, &[environment, pod, home], &files), Some(Connection::AsKubectl));
        assert_eq!(meant(None, &[pod, home], &files), Some(Connection::InCluster));
        assert_eq!(meant(None, &[pod, home], &files[1..]), kubeconfig("/root/.kube/config"));
        assert_eq!(meant(None, &[("KUBECONFIG", ""), home], &[]), None, "an empty variable is none");
        assert_eq!(meant(None, &[], &files), None);
    }
}
