//! What the agent is told. Nothing is read from the environment.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use weft_telemetry::logging;

/// What `weft agent` is given.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Several agents can run on one machine: give each its own --node, --run-dir,
--cgroup and --metrics.

Examples:
  weft agent --manifests /etc/weft/manifests
  weft agent --manifests ./n1 --node n1 --run-dir /run/weft-n1 \\
    --cgroup /sys/fs/cgroup/n1 --metrics 127.0.0.1:9471")]
pub(crate) struct AgentArgs {
    /// Directory of Kubernetes YAML and JSON files, read now and whenever it changes
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: PathBuf,
    /// Name of this node, as in spec.nodeName [default: the host's name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node: Option<String>,
    /// Where the agent's socket is, by which `weft status` and the others find it
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    pub(crate) run_dir: PathBuf,
    /// Where the agent keeps what must outlive a reboot
    #[arg(long, value_name = "DIR", default_value = "/var/lib/weft")]
    pub(crate) state_dir: PathBuf,
    /// The cgroup v2 whose sockets are in reach [default: the root of the tree]
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9470")]
    pub(crate) metrics: SocketAddr,
    /// Whose connections to Services are balanced
    #[arg(long, value_name = "SCOPE", value_enum, default_value_t)]
    service_scope: ServiceScope,
    /// The cgroup whose connections pass all policies, as the kubelet's probes must [default: none]
    #[arg(long, value_name = "PATH")]
    probe_cgroup: Option<PathBuf>,
    /// What is logged: a level, or levels by target like `weft_datapath=debug,info`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Whose connections to Services are balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ServiceScope {
    /// Those of enrolled pods
    #[default]
    Enrolled,
    /// Those of every socket under the cgroup: for machines without kube-proxy
    Node,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

impl AgentArgs {
    /// The node's name: the given one, else the host's.
    pub(crate) fn node(&self) -> io::Result<String> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let host = fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_lowercase();
        node_name(&host).map_err(|hint| {
            let message = format!("the host's name {host:?} is no node name ({hint}); give one with --node");
            io::Error::other(message)
        })
    }

    /// What the data path must know, on `node`.
    pub(crate) fn datapath(&self, node: String) -> weft_datapath::Settings {
        weft_datapath::Settings {
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cgroup: self.cgroup.clone(),
            balance_everyone: self.service_scope == ServiceScope::Node,
            probe_cgroup: self.probe_cgroup.clone(),
            map_sizes: weft_datapath::MapSizes::default(),
        }
    }

    /// How log lines look.
    pub(crate) fn log_format(&self) -> logging::Format {
        match self.log_format {
            LogFormat::Text => logging::Format::Text,
            LogFormat::Json => logging::Format::Json,
        }
    }
}

/// Kubernetes' rule for names of nodes (RFC 1123 subdomains), which keeps them safe in paths.
fn node_name(text: &str) -> Result<String, &'static str> {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(end) && label.ends_with(end) && label.chars().all(|c| end(c) || c == '-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("lower-case letters, digits, '-' and '.', like worker-1.example")
    }
}

#[cfg(test)]
mod tests {
    use super::node_name;

    #[test]
    fn a_node_name_is_safe_in_a_path() {
        for good in ["n1", "worker-1.example.com", "1"] {
            assert_eq!(node_name(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "a/b", "N1", "-a", "a-", "a..b", &"a".repeat(254)] {
            assert!(node_name(bad).is_err(), "{bad}");
        }
    }
}
