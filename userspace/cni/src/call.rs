//! What a container runtime asks of a plugin: by variables, and by a configuration on standard input.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use weft_model::ObjectName;

use crate::error::{Code, Error};

/// One call of a plugin.
#[derive(Clone, Debug)]
pub struct Call {
    /// What to do.
    pub command: Command,
    /// The runtime's id of the sandbox.
    pub sandbox: String,
    /// Where its network namespace is.
    pub netns: Option<PathBuf>,
    /// The interface that the pod's own plugin makes.
    pub interface: String,
    /// Whose sandbox it is; `None` for one that no kubelet has asked for.
    pub pod: Option<Pod>,
    /// How the plugin is to work.
    pub config: Config,
}

/// A pod, as the kubelet names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// Its UID; that of a static pod is the hash of its file.
    pub uid: String,
}

/// The spec's commands, section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A sandbox has got its network.
    Add,
    /// Is it as it was?
    Check,
    /// It goes.
    Del,
    /// There are no sandboxes but those that the configuration names.
    Gc,
    /// Can there be new ones?
    Status,
    /// Which versions are spoken?
    Version,
}

/// The configuration: the plugin's own, and what the runtime adds to it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The spec's version.
    #[serde(default)]
    pub cni_version: Option<String>,
    /// The agent's socket.
    #[serde(default)]
    pub agent: PathBuf,
    /// By which the API server is asked where there is no agent.
    #[serde(default)]
    pub kubeconfig: PathBuf,
    /// What the agent keeps of its node's pods, for when there is neither.
    #[serde(default)]
    pub members: PathBuf,
    /// Namespaces whose pods start without the mesh rather than not at all.
    #[serde(default)]
    pub never_wait: Vec<String>,
    /// What the plugins before this one have done.
    #[serde(default)]
    prev_result: Option<Box<RawValue>>,
    /// GC: the sandboxes that there are.
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<ValidAttachment>>,
}

#[derive(Clone, Debug, Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
}

impl Call {
    /// Reads the call: `variable` gives those that the runtime has set.
    pub fn read(variable: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Self, Error> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let command = command(set("CNI_COMMAND").as_deref())?;
        let config = match serde_json::from_slice(input) {
            Ok(config) => config,
            // VERSION may be asked with nothing on standard input.
            Err(_) if command == Command::Version => Config::default(),
            Err(error) => {
                let message = "the plugin's configuration on standard input cannot be read";
                return Err(Error::new(Code::Undecodable, message, error.to_string()));
            }
        };
        let call = Self {
            command,
            sandbox: set("CNI_CONTAINERID").unwrap_or_default(),
            netns: set("CNI_NETNS").map(PathBuf::from),
            interface: set("CNI_IFNAME").unwrap_or_default(),
            pod: set("CNI_ARGS").as_deref().and_then(pod),
            config,
        };
        call.check()?;
        Ok(call)
    }

    fn check(&self) -> Result<(), Error> {
        if self.command != Command::Version
            && let Some(version) = &self.config.cni_version
            && !VERSIONS.contains(&version.as_str())
        {
            let details = format!("weft-cni speaks {}", VERSIONS.join(", "));
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!("there is no CNI {version} here"),
                details,
            ));
        }
        let of_a_sandbox = matches!(self.command, Command::Add | Command::Check | Command::Del);
        let missing = [
            ("CNI_CONTAINERID", of_a_sandbox && self.sandbox.is_empty()),
            // A namespace that has gone is named no more.
            ("CNI_NETNS", of_a_sandbox && self.command != Command::Del && self.netns.is_none()),
            ("CNI_IFNAME", of_a_sandbox && self.interface.is_empty()),
        ];
        if let Some((name, _)) = missing.iter().find(|(_, is_missing)| *is_missing) {
            return Err(Error::new(
                Code::InvalidVariables,
                format!("{name} is not set"),
                "the runtime sets it",
            ));
        }
        Ok(())
    }
}

impl Config {
    /// What the plugins before this one have done, as it came.
    pub fn previous(&self) -> Result<&str, Error> {
        let missing = || {
            let message = "there is no prevResult";
            let details = "weft-cni makes no network: it is to be behind the plugin that does, in one list";
            Error::new(Code::InvalidConfiguration, message, details)
        };
        self.prev_result.as_deref().map(RawValue::get).ok_or_else(missing)
    }

    /// The addresses that they have given to `interface` of the pod.
    pub fn addresses(&self, interface: &str) -> Result<Vec<IpAddr>, Error> {
        let previous: Previous = serde_json::from_str(self.previous()?).map_err(|error| {
            Error::new(Code::InvalidConfiguration, "prevResult cannot be read", error.to_string())
        })?;
        Ok(previous.ips.iter().filter(|ip| previous.is_of(ip, interface)).filter_map(Ip::address).collect())
    }

    /// GC: the sandboxes that there are.
    pub fn valid(&self) -> Option<Vec<String>> {
        let valid = self.valid.as_ref()?;
        Some(valid.iter().map(|attachment| attachment.container_id.clone()).collect())
    }
}

/// A result, as far as it is read. The versions from 0.3 on differ in nothing of it.
#[derive(Deserialize)]
struct Previous {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    /// Where it is; empty for one of the host.
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    /// With the length of its network's prefix.
    address: String,
    #[serde(default)]
    interface: Option<Value>,
}

impl Previous {
    /// An address without an interface is that of the only one.
    fn is_of(&self, ip: &Ip, interface: &str) -> bool {
        let index =
            ip.interface.as_ref().and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| self.interfaces.get(index));
        found.is_none_or(|found| {
            !found.sandbox.is_empty() && (found.name == interface || interface.is_empty())
        })
    }
}

impl Ip {
    fn address(&self) -> Option<IpAddr> {
        self.address.split('/').next()?.parse().ok()
    }
}

fn command(name: Option<&str>) -> Result<Command, Error> {
    let known = [
        ("ADD", Command::Add),
        ("CHECK", Command::Check),
        ("DEL", Command::Del),
        ("GC", Command::Gc),
        ("STATUS", Command::Status),
        ("VERSION", Command::Version),
    ];
    known.iter().find(|(word, _)| Some(*word) == name).map(|(_, command)| *command).ok_or_else(|| {
        let message = match name {
            None => "CNI_COMMAND is not set".to_owned(),
            Some(name) => format!("CNI_COMMAND is {name}"),
        };
        let words = known.map(|(word, _)| word).join(", ");
        Error::new(
            Code::InvalidVariables,
            message,
            format!("this is a CNI plugin; runtimes ask it for {words}"),
        )
    })
}

/// `K8S_POD_NAMESPACE` and the others, as kubelets' runtimes give them.
fn pod(arguments: &str) -> Option<Pod> {
    let all = || arguments.split(';').filter_map(|argument| argument.split_once('='));
    let value = |name: &str| all().find(|(key, _)| *key == name).map(|(_, value)| value);
    let name = ObjectName::new(value("K8S_POD_NAMESPACE")?, value("K8S_POD_NAME")?);
    Some(Pod { name, uid: value("K8S_POD_UID").unwrap_or_default().to_owned() })
}

/// A path that leads to the same from another root, too: links on the way may begin at the root, as `/var/run` does.
pub(crate) fn without_links(path: &Path) -> PathBuf {
    let real = path.parent().and_then(|parent| parent.canonicalize().ok());
    // The last part may be a link that is no path, as in /proc/<pid>/ns.
    real.zip(path.file_name()).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name))
}

/// The versions that are spoken. Older ones give results of another form.
pub(crate) const VERSIONS: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
pub(crate) const NEWEST: &str = "1.1.0";

#[cfg(test)]
mod tests;
