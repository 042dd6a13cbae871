//! `weft install`: what a cluster is given, as YAML for `kubectl apply`.
//!
//! The texts are `deploy/crds` and `deploy/install`, with `${name}` where a flag decides. Reasons stand beside what they
//! are for, and stay there in what is printed. Of the same texts `cargo xtask deploy` makes `deploy/kustomize` and
//! `deploy/chart`.

mod chart;
mod kustomize;
mod texts;

use std::{fmt, sync::Arc};

use serde::Deserialize as _;
use weft_model::{SpiffeError, SpiffeId};

use self::texts::{CRDS, OBJECTS, Text, fill};
use crate::{Error, Exit, Screen};

/// What `weft install` is given.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Prints objects and changes nothing: look at them, or hand them to kubectl. None of them is of a kind that they
define, so that one `kubectl apply` does.

Examples:
  weft install | kubectl apply -f -
  weft install --trust-domain mesh.example | kubectl apply -f -
  weft install --service-scope node --api-server 192.0.2.7:6443 | kubectl apply -f -   # a cluster without kube-proxy
  weft install --without-crds | kubectl delete -f -        # policies stay")]
pub struct Args {
    /// The image of agent and proxy
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    image: String,
    /// Whose connections to Services are balanced: `enrolled` pods', or everybody's on each `node`, where there is no
    /// kube-proxy
    #[arg(long, value_name = "SCOPE", default_value = SCOPE, value_parser = [SCOPE, "node"])]
    service_scope: String,
    /// The trust domain of all identities of the mesh, which stays as it is: the authority is made for it
    #[arg(long, value_name = "NAME", default_value = TRUST_DOMAIN, value_parser = trust_domain)]
    trust_domain: Arc<str>,
    /// Where the API server is, for agents and controllers: in a cluster without kube-proxy the address of its Service leads
    /// nowhere before weft runs [default: that address]
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true, value_parser = api_server)]
    api_server: String,
    /// Where /metrics, /healthz and /readyz are served, on each node's own addresses
    #[arg(long, value_name = "PORT", default_value_t = METRICS_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    metrics_port: u16,
    /// Where nodes' container runtimes look for CNI plugins
    #[arg(long, value_name = "DIR", default_value = CNI_BIN_DIR, value_parser = absolute)]
    cni_bin_dir: String,
    /// Where they look for networks
    #[arg(long, value_name = "DIR", default_value = CNI_CONF_DIR, value_parser = absolute)]
    cni_conf_dir: String,
    /// What is logged: a level, or levels by target like `weft_datapath=debug,info`
    #[arg(long, value_name = "FILTER", default_value = LOG)]
    log: String,
    /// Also a `ServiceMonitor`, alert rules and a dashboard: for clusters that have the Prometheus operator
    #[arg(long)]
    monitoring: bool,
    /// Without the definitions of policies' kinds, which others may have installed, or are to stay
    #[arg(long)]
    without_crds: bool,
}

/// Prints the objects.
pub fn run(args: &Args, screen: &mut Screen) -> Result<Exit, Error> {
    screen.write(&objects(args))?;
    Ok(Exit::Yes)
}

/// All that any choice of flags prints, in the order in which it is made; with the definitions of our kinds if `crds`.
pub(crate) fn installed(crds: bool) -> Vec<serde_json::Value> {
    let defaults = defaults();
    let value = |name: &str| {
        defaults
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.to_string())
            .unwrap_or_default()
    };
    let crds = CRDS.iter().filter(|_| crds);
    let texts = crds.chain(OBJECTS).map(|text| fill(text.yaml, value));
    let parsed = |text: String| {
        let documents = serde_yaml::Deserializer::from_str(&text);
        let objects = documents.map(serde_json::Value::deserialize);
        objects.collect::<Result<Vec<_>, _>>().expect("the texts are YAML, which a test shows")
    };
    texts.flat_map(parsed).collect()
}

/// A file of `deploy` that is made of the same texts; `None` where there is no such file.
pub fn generated(path: &str) -> Option<String> {
    kustomize::file(path).or_else(|| chart::file(path))
}

/// All objects, in the order in which they are made.
fn objects(args: &Args) -> String {
    let port = args.metrics_port.to_string();
    let values = [
        ("image", args.image.as_str()),
        ("service-scope", &args.service_scope),
        ("trust-domain", &args.trust_domain),
        ("api-server", &args.api_server),
        ("metrics-port", &port),
        ("cni-bin-dir", &args.cni_bin_dir),
        ("cni-conf-dir", &args.cni_conf_dir),
        ("log", &args.log),
    ];
    let crds = CRDS.iter().filter(|_| !args.without_crds).map(|text| text.yaml.to_owned());
    let wanted = |text: &&Text| text.only_with.is_none() || args.monitoring;
    let objects = OBJECTS.iter().filter(wanted).map(|text| fill(text.yaml, value_of(&values)));
    crds.chain(objects).collect::<Vec<_>>().join("---\n")
}

fn value_of<'a>(values: &'a [(&str, &str)]) -> impl Fn(&str) -> String + use<'a> {
    |name| {
        let value = values.iter().find(|(known, _)| *known == name);
        value.expect("the texts name what there are flags for, which a test shows").1.to_owned()
    }
}

/// The default values, by name of the flag.
fn defaults() -> [(&'static str, Default); 8] {
    [
        ("image", Default::Text(IMAGE)),
        ("service-scope", Default::Text(SCOPE)),
        ("trust-domain", Default::Text(TRUST_DOMAIN)),
        ("api-server", Default::Text("")),
        ("metrics-port", Default::Number(METRICS_PORT)),
        ("cni-bin-dir", Default::Text(CNI_BIN_DIR)),
        ("cni-conf-dir", Default::Text(CNI_CONF_DIR)),
        ("log", Default::Text(LOG)),
    ]
}

/// What a flag says where nobody says otherwise.
#[derive(Clone, Copy)]
enum Default {
    Text(&'static str),
    Number(u16),
}

impl fmt::Display for Default {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Where an API server is; the empty text is its Service's address.
pub fn api_server(address: &str) -> Result<String, &'static str> {
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match address.rsplit_once(':') {
        None if address.is_empty() => Ok(String::new()),
        Some((host, port)) if is_host(host) && is_port(port) => Ok(address.to_owned()),
        _ => Err("write HOST:PORT, like 192.0.2.7:6443 or [2001:db8::7]:6443"),
    }
}

/// A trust domain.
pub fn trust_domain(name: &str) -> Result<Arc<str>, SpiffeError> {
    SpiffeId::domain(name)
}

/// A directory of nodes.
fn absolute(path: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let good = path.starts_with('/') && !path.ends_with('/') && path.chars().all(plain);
    if good {
        Ok(path.to_owned())
    } else {
        Err("an absolute path of letters, digits, '.', '_' and '-', like /opt/cni/bin")
    }
}

/// The name that `cargo xtask image` gives what it builds.
pub const IMAGE: &str = concat!("ghcr.io/weft-mesh/weft:v", env!("CARGO_PKG_VERSION"));
const SCOPE: &str = "enrolled";
const TRUST_DOMAIN: &str = "cluster.local";
const METRICS_PORT: u16 = 9470;
const CNI_BIN_DIR: &str = "/opt/cni/bin";
const CNI_CONF_DIR: &str = "/etc/cni/net.d";
const LOG: &str = "info";

#[cfg(test)]
mod tests;
