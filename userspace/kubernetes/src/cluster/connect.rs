//! The way to the API server.

use std::{path::PathBuf, time::Duration};

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
    /// As kubectl finds it: by `KUBECONFIG` or `~/.kube/config`; where there is none, as a pod.
    AsKubectl,
}

impl Connection {
    /// As kubectl finds it: the file that is given, else that of `KUBECONFIG`, else the user's; else a pod's.
    pub fn found(given: Option<PathBuf>) -> Self {
        let users =
            || std::env::home_dir().map(|home| home.join(".kube/config")).filter(|file| file.exists());
        let named = || std::env::var_os("KUBECONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        given.or_else(named).or_else(users).map_or(Self::InCluster, Self::Kubeconfig)
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
            Self::InCluster => {
                Config::incluster().map_err(|error| Error::NoCluster { message: error.to_string() })?
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

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
