//! Arguments that many commands share.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use clap::Args;
use weft_model::ObjectName;

use crate::{Error, agents::Agents, output::Format};

/// Which agents are asked, and how their answers are shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// How the answer is written: table, json or yaml
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) output: Format,
}

/// Which agents are asked.
#[derive(Args, Clone, Debug, Default)]
pub struct Whom {
    /// Run directory of the agent that is asked; may be given several times [default: all agents of the cluster that a
    /// kubeconfig or this pod names, else /run/weft]
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Vec<PathBuf>,
    /// The cluster whose agents are asked [default: as KUBECONFIG, this pod or ~/.kube/config says]
    #[arg(long, value_name = "FILE", conflicts_with = "run_dir")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Only the agent of this node; may be given several times
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Vec<String>,
}

/// `NAMESPACE/NAME` of a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) ObjectName);

/// `NAMESPACE/NAME:PORT` of a Service.
#[derive(Clone, Debug)]
pub(crate) struct ServicePort {
    pub(crate) service: Name,
    pub(crate) port: u16,
}

/// `KEY=VALUE` of a label.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    key: String,
    value: String,
}

impl Label {
    pub(crate) fn is_of(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.key) == Some(&self.value)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl Whom {
    /// The agents of these nodes, or of all where none is named, of the cluster that this kubeconfig or the environment means.
    pub fn of_cluster(kubeconfig: Option<PathBuf>, node: Vec<String>) -> Self {
        Self { run_dir: Vec::new(), kubeconfig, node }
    }
}

impl Ask {
    /// Those that are to be asked.
    pub(crate) async fn agents(&self) -> Result<Agents, Error> {
        Agents::of(&self.whom).await
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-./".contains(c);
        let name = ObjectName::parse(text).filter(|_| text.chars().all(plain));
        name.map(Self).ok_or("write NAMESPACE/NAME, like shop/web")
    }
}

impl FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, like app=web")?;
        Ok(Self { key: key.to_owned(), value: value.trim_start_matches('=').to_owned() })
    }
}

impl FromStr for ServicePort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write NAMESPACE/NAME:PORT, like shop/api:80";
        let (service, port) = text.rsplit_once(':').ok_or(wrong)?;
        let (service, port) = (service.parse().map_err(|_| wrong)?, port.parse().map_err(|_| wrong)?);
        Ok(Self { service, port })
    }
}
