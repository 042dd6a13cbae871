//! What the agent is told. Nothing is read from the environment.

use std::{
    env, ffi::OsString, fs, io, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration,
};

use clap::{Args, ValueEnum};
use weft_abi::names::map;
use weft_kubernetes::Connection;
use weft_model::{ObjectName, ROOT_NAMESPACE};
use weft_telemetry::logging;

use crate::source::Place;

/// What `weft agent` is given.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Several agents can run on one machine: give each its own --node, --run-dir,
--cgroup and --metrics.

Examples:
  weft agent --manifests /etc/weft/manifests
  weft agent --kubeconfig /etc/kubernetes/weft.conf --node worker-1
  weft agent --manifests ./n1 --node n1 --run-dir /run/weft-n1 \\
    --cgroup /sys/fs/cgroup/n1 --metrics 127.0.0.1:9471")]
pub(crate) struct AgentArgs {
    /// Directory of Kubernetes YAML and JSON files, read now and whenever it changes [default: an API server]
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,
    /// The cluster whose objects are read, by the current context of a kubeconfig [default: that of the pod which the
    /// agent runs in]
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where the API server of that pod's cluster is [default: its Service's address, which nothing may translate before weft
    /// does where there is no kube-proxy]
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    api_server: ApiServer,
    /// Name of this node, as in spec.nodeName [default: the host's name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    node: Option<String>,
    /// Where the agent's socket is, by which `weft status` and the others find it
    #[arg(long, value_name = "DIR", default_value = "/run/weft")]
    pub(crate) run_dir: PathBuf,
    /// Where the agent keeps what must outlive a reboot
    #[arg(long, value_name = "DIR", default_value = "/var/lib/weft")]
    pub(crate) state_dir: PathBuf,
    /// The cgroup v2 whose sockets are in reach [default: the root of the tree; in a pod, what is above the kubelet's pods]
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9470")]
    pub(crate) metrics: SocketAddr,
    /// Wait, ready to take over, while another agent of this run directory runs; without it that is an error
    #[arg(long)]
    pub(crate) stand_by: bool,
    /// Where this process alone says how it is, to `weft probe`: agents of one node that take turns share all else
    #[arg(long, value_name = "PATH")]
    pub(crate) probe_socket: Option<PathBuf>,
    /// Take everything out of the kernel when asked to end, so that pods go on as if there had never been a mesh
    /// [default: the kernel goes on enforcing, and the next agent takes over]
    #[arg(long)]
    pub(crate) withdraw: bool,
    /// The DaemonSet that this agent belongs to: where that is gone, or wants this node no longer, when the agent is asked
    /// to end, --withdraw is meant
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_name, conflicts_with_all = ["withdraw", "manifests"])]
    pub(crate) daemonset: Option<ObjectName>,
    /// How long other nodes may take to leave the mesh, when all do: what they speak is understood meanwhile
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = weft_cli::duration)]
    pub(crate) withdraw_over: Duration,
    /// Who issues the certificates of this node's pods [default: with an API server the mesh's controllers, which pods
    /// of other nodes are then spoken to by mutual TLS and not at all without; with --manifests nobody]
    #[arg(long, value_name = "WHO", value_enum)]
    ca: Option<Ca>,
    /// The directory of a certificate authority that issues them instead, as `weft ca init` makes it
    #[arg(long, value_name = "DIR", conflicts_with = "ca")]
    ca_dir: Option<PathBuf>,
    /// The token by which controllers know this node's agent, for the audience weft-ca: of its pod, as `weft install`
    /// mounts it
    #[arg(long, value_name = "FILE", default_value = "/var/run/secrets/weft/token")]
    pub(crate) ca_token: PathBuf,
    /// The namespace that the mesh itself lives in, with its controllers
    #[arg(long, value_name = "NAME", default_value = ROOT_NAMESPACE)]
    pub(crate) namespace: String,
    /// The trust domain of all identities of the mesh, whatever MeshConfig says [default: MeshConfig's, or cluster.local]
    #[arg(long, value_name = "NAME", value_parser = weft_cli::install::trust_domain)]
    pub(crate) trust_domain: Option<Arc<str>>,
    /// Certificates (PEM) of authorities that may vouch for the servers of tokens' keys, beside the public ones
    #[arg(long, value_name = "FILE")]
    jwks_ca_bundle: Option<PathBuf>,
    /// Whose connections to Services are balanced
    #[arg(long, value_name = "SCOPE", value_enum, default_value_t)]
    pub(crate) service_scope: ServiceScope,
    /// The cgroup whose connections pass all policies, as the kubelet's probes must [default: the kubelet's; with
    /// --manifests none]
    #[arg(long, value_name = "PATH")]
    pub(crate) probe_cgroup: Option<PathBuf>,
    /// Where the container runtime looks for plugins: weft-cni is put there, and looked after, so that pods are in the mesh from
    /// their first packet on [default: nowhere]
    #[arg(long, value_name = "DIR", requires = "cni_conf_dir", conflicts_with = "manifests")]
    pub(crate) cni_bin_dir: Option<PathBuf>,
    /// Where the container runtime looks for networks: weft-cni is put into the first one
    #[arg(long, value_name = "DIR", requires = "cni_bin_dir", conflicts_with = "manifests")]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Which connections within the node are accelerated, where this kernel passes a self-test; `off` also ends it
    /// for those that are, as soon as their readers have taken what they were sent
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    acceleration: Acceleration,
    /// Whether Services with routes for HTTP are served by the node's proxy, which the agent starts when the
    /// first one is there; `off` leaves their connections to the kernel, and lets a proxy that runs finish
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    proxy: Proxy,
    /// How long a proxy that is replaced (`weft proxy upgrade`) may finish what it carries; what is left is cut then
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = weft_cli::duration)]
    pub(crate) proxy_drain: Duration,
    /// How many entries a map may have, where the built-in limit is too small or too large; repeatable.
    /// Another size moves to new maps when the agent starts
    #[arg(long, value_name = "NAME=N", value_parser = map_size)]
    map_size: Vec<(String, u32)>,
    /// What is logged: a level, or levels by target like `weft_datapath=debug,info`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// How it is logged
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

/// Who issues certificates, where that is no directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ca {
    /// The mesh's controllers, in the cluster whose API server is read
    Controller,
    /// Nobody: connections between nodes are in clear
    None,
}

/// Who issues the certificates of the node's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Issuing {
    /// The authority in a directory.
    Directory(PathBuf),
    /// The mesh's controllers.
    Controllers(Connection),
    /// Nobody.
    None,
}

/// Whose connections to Services are balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceScope {
    /// Those of enrolled pods
    #[default]
    Enrolled,
    /// Those of every socket under the cgroup: for machines without kube-proxy. Routes and what else takes the proxy
    /// are for enrolled pods all the same
    Node,
}

/// Whether same-node connections are accelerated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Acceleration {
    /// Those of Services that ask for it and the proxy's own, where the kernel can
    #[default]
    Auto,
    /// The same; status says so where the kernel cannot
    All,
    /// Those of Services that ask for it, and of the proxy's own what the proxy reads: for apps that read HTTP by
    /// splice(2) or with `MSG_WAITALL`
    Proxy,
    /// Those of Services that ask for it
    Services,
    /// None
    Off,
}

/// Whether there is a node proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Proxy {
    /// While a Service needs it, and from then on
    #[default]
    Auto,
    /// Never
    Off,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum LogFormat {
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

    /// The API server whose objects are read.
    pub(crate) fn connection(&self) -> Connection {
        Connection::of_pod(self.kubeconfig.clone(), self.api_server.0.clone())
    }

    /// What the data path must know, on `node`, which is there on the machine.
    pub(crate) fn datapath(&self, node: String, place: &Place) -> weft_datapath::Settings {
        weft_datapath::Settings {
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cgroup: place.cgroup.clone(),
            balance_everyone: self.service_scope == ServiceScope::Node,
            probe_cgroup: place.probes.clone(),
            proxy: self.has_proxy(),
            acceleration: match self.acceleration {
                Acceleration::Auto => weft_datapath::Acceleration::Auto,
                Acceleration::All => weft_datapath::Acceleration::All,
                Acceleration::Proxy => weft_datapath::Acceleration::ProxyReads,
                Acceleration::Services => weft_datapath::Acceleration::Services,
                Acceleration::Off => weft_datapath::Acceleration::Off,
            },
            kernel: None,
            map_sizes: self.map_size.iter().cloned().collect(),
            // Whatever is at its path by then, this is what runs.
            storage_maker: ["/proc/self/exe", "socket-storage"].map(Into::into).into(),
        }
    }

    /// Who issues certificates. Never does that follow from what is there: controllers that are not there yet, or whose
    /// Service somebody has deleted, would turn encryption off.
    pub(crate) fn issuing(&self) -> Result<Issuing, &'static str> {
        let connection = self.manifests.is_none().then(|| self.connection());
        match (&self.ca_dir, self.ca, connection) {
            (Some(dir), _, _) => Ok(Issuing::Directory(dir.clone())),
            (None, None | Some(Ca::Controller), Some(connection)) => Ok(Issuing::Controllers(connection)),
            (None, Some(Ca::Controller), None) => Err(
                "--ca controller needs a cluster; with --manifests give --ca-dir, as `weft ca init` makes it",
            ),
            (None, Some(Ca::None), _) | (None, None, None) => Ok(Issuing::None),
        }
    }

    /// How the keys of providers of tokens are fetched and kept, on `node`.
    pub(crate) fn jwks(&self, node: &str) -> weft_identity::JwksOptions {
        let last_good = Some(weft_datapath::last_good_jwks(&self.state_dir, node));
        weft_identity::JwksOptions { ca_bundle: self.jwks_ca_bundle.clone(), last_good }
    }

    /// Whether the agent runs the node's proxy.
    pub(crate) fn has_proxy(&self) -> bool {
        self.proxy == Proxy::Auto
    }

    /// How `weft proxy` is started: from the file that is at this program's path by then.
    pub(crate) fn proxy_program(&self) -> io::Result<weft_keeper::Program> {
        let run_dir = std::path::absolute(&self.run_dir)?;
        let words = ["proxy".into(), "--run-dir".into(), run_dir.into_os_string()];
        let format = self.log_format.to_possible_value().expect("no format is skipped");
        let log = ["--log", &self.log, "--log-format", format.get_name()].map(OsString::from);
        Ok(weft_keeper::Program {
            path: env::current_exe()?,
            arguments: words.into_iter().chain(log).collect(),
        })
    }
}

impl From<LogFormat> for logging::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
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

/// `HOST:PORT` of an API server; the empty text is its Service's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ApiServer(pub(crate) Option<String>);

impl FromStr for ApiServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = weft_cli::install::api_server(text)?;
        Ok(Self(Some(address).filter(|address| !address.is_empty())))
    }
}

/// A namespaced object's name.
fn object_name(text: &str) -> Result<ObjectName, &'static str> {
    ObjectName::parse(text).ok_or("write NAMESPACE/NAME, like weft-system/weft")
}

/// A map whose size is a matter of taste, and its size.
fn map_size(text: &str) -> Result<(String, u32), String> {
    let (name, entries) = text.split_once('=').ok_or("NAME=N, like weft_slot=2000000")?;
    let fixed = [map::CONFIG, map::SOCKETS, map::STATS, map::ATTESTED];
    let resizable: Vec<_> = map::ALL.iter().filter(|name| !fixed.contains(name)).copied().collect();
    if !resizable.contains(&name) {
        return Err(format!("no map of a size to choose; there are {}", resizable.join(", ")));
    }
    let entries = entries.parse().ok().filter(|entries| *entries > 0);
    let entries: u32 = entries.ok_or("the size is a whole number from 1 to 4294967295")?;
    if name == map::EVENTS && !(entries.is_power_of_two() && entries >= 4096) {
        return Err("weft_events is a ring of bytes: a power of two from 4096".to_owned());
    }
    Ok((name.to_owned(), entries))
}

#[cfg(test)]
mod tests {
    use super::{map_size, node_name};

    #[test]
    fn a_map_size_names_a_map_and_a_number_that_the_kernel_takes() {
        assert_eq!(map_size("weft_udp_rev=1024"), Ok(("weft_udp_rev".to_owned(), 1024)));
        assert_eq!(map_size("weft_events=8192"), Ok(("weft_events".to_owned(), 8192)));
        for bad in [
            "weft_slot",
            "weft_slot=",
            "weft_slot=0",
            "weft_slot=-1",
            "weft_slot=4294967296",
            "weft_nothing=1",
            "weft_cfg=2",
            "weft_attested=65536",
            "weft_events=5000",
            "weft_events=2048",
        ] {
            assert!(map_size(bad).is_err(), "{bad}");
        }
    }

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
