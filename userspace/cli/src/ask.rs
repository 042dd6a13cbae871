//! Arguments that many commands share.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use weft_model::ObjectName;

use crate::{Client, output::Format};

/// Which agent is asked, and how its answer is shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct Ask {
    /// Run directory of the agent that is asked
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    pub(crate) run_dir: PathBuf,
    /// How the answer is written: table, json or yaml
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) output: Format,
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

impl Ask {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.run_dir)
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

impl FromStr for ServicePort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write NAMESPACE/NAME:PORT, like shop/api:80";
        let (service, port) = text.rsplit_once(':').ok_or(wrong)?;
        let (service, port) = (service.parse().map_err(|_| wrong)?, port.parse().map_err(|_| wrong)?);
        Ok(Self { service, port })
    }
}
