//! Conformance cases: what policies mean, as objects, connections and verdicts.
//!
//! The files in `tests/conformance/cases` hold them. Each case is run through `weft_policy::decide`,
//! through rows and the hooks' logic, and through the real kernel; all have to say the same.

pub mod asked;
pub mod placing;

use std::{collections::BTreeMap, fs, net::IpAddr, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::json;
use serde_yaml::Value;
use weft_abi::Reason;
use weft_model::Protocol;

use crate::TokenKey;

/// Objects, and what they mean for some connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What holds, as a sentence.
    pub name: String,
    /// The mistake that the case catches.
    pub why: String,
    /// Kubernetes objects, those of the file included.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// The connections, each tried by itself.
    pub connections: Vec<Connection>,
}

/// A connection and what becomes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The client.
    pub from: Client,
    /// What the client dials.
    pub to: Server,
    /// The addresses used, where there are several.
    #[serde(default)]
    pub family: Family,
    /// The protocol.
    #[serde(default = "tcp", with = "ProtocolName")]
    pub protocol: Protocol,
    /// What is asked on it; without it, bytes that are no request.
    #[serde(default)]
    pub request: Option<Asked>,
    /// Why it is refused, by its word; `allow` is [`Reason::NONE`].
    #[serde(deserialize_with = "verdict")]
    pub verdict: Reason,
    /// Whether the audited policies would have refused it.
    #[serde(default)]
    pub audit: bool,
}

/// A request of HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its target, as it is sent.
    pub path: String,
    /// Its host; the address that is dialled where nothing is said.
    #[serde(default)]
    pub host: Option<String>,
    /// Its other headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The tokens that it carries.
    #[serde(default)]
    pub tokens: Vec<AskedToken>,
}

/// A token of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedToken {
    /// Whose [`TokenKey::known`] signs it.
    pub by: String,
    /// What it says beside `iss: https://<by>.example`, `aud: shop` and five minutes, or in place of that.
    #[serde(default)]
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// The header that has it; without it, `authorization` behind `Bearer`.
    #[serde(default)]
    pub header: Option<String>,
}

impl Asked {
    /// All headers but the host's.
    pub fn lines(&self) -> Vec<(String, String)> {
        let others = self.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
        others.chain(self.tokens.iter().map(AskedToken::line)).collect()
    }
}

impl AskedToken {
    fn line(&self) -> (String, String) {
        let Self { by, claims, header } = self;
        let mut all = json!({"iss": format!("https://{by}.example"), "aud": "shop"});
        for (name, value) in claims {
            all[name] = value.clone();
        }
        let token = TokenKey::known(by).sign(&all);
        match header {
            Some(name) => (name.clone(), token),
            None => ("authorization".to_owned(), format!("Bearer {token}")),
        }
    }
}

/// A client. Pods of this node that are in the mesh have a proven identity, other pods the one of
/// their address, and an address that is no pod's has none.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Client {
    /// A pod of the case.
    Pod {
        /// `namespace/name`.
        pod: String,
    },
    /// An address of no pod.
    Ip {
        /// The address.
        ip: IpAddr,
    },
}

/// What a client dials.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Server {
    /// A pod by its address.
    Pod {
        /// `namespace/name`.
        pod: String,
        /// The pod's port.
        port: u16,
    },
    /// A Service by its ClusterIP.
    Service {
        /// `namespace/name`.
        service: String,
        /// The Service's port.
        port: u16,
    },
}

/// An address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Family {
    /// IPv4.
    #[default]
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

impl Case {
    /// Whether a policy asks for what only requests say, or whether they carry good tokens, of a connection of the case
    /// that could carry some.
    pub fn reads_requests(&self) -> bool {
        let asks = |rule: &Value| rule.get("httpAttributes").is_some() || rule.get("jwt").is_some();
        let mut rules =
            self.objects.iter().filter_map(|object| object["spec"]["rules"].as_sequence()).flatten();
        let tokens = self.objects.iter().any(|object| object["spec"].get("jwt").is_some());
        (tokens || rules.any(asks))
            && self.connections.iter().any(|connection| connection.protocol == Protocol::Tcp)
    }

    /// The objects as one manifest.
    pub fn manifest(&self) -> Result<String> {
        let documents: Result<Vec<_>, _> = self.objects.iter().map(serde_yaml::to_string).collect();
        Ok(documents.with_context(|| format!("write the objects of \"{}\"", self.name))?.join("---\n"))
    }
}

impl Family {
    /// The first of these addresses that is of this family.
    pub fn of(self, ips: &[IpAddr]) -> Option<IpAddr> {
        ips.iter().copied().find(|ip| ip.is_ipv6() == (self == Self::V6))
    }
}

/// All cases, by file and in the order of each file.
pub fn cases() -> Result<Vec<Case>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases");
    let entries = fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        cases.extend(read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(cases)
}

/// A file of cases that share some objects.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    objects: Vec<Value>,
    cases: Vec<Case>,
}

fn read(path: &Path) -> Result<Vec<Case>> {
    let File { objects, mut cases } = serde_yaml::from_str(&fs::read_to_string(path)?)?;
    for case in &mut cases {
        case.objects.splice(0..0, objects.iter().cloned());
        ensure!(!case.connections.is_empty(), "\"{}\" tries no connection", case.name);
    }
    Ok(cases)
}

#[derive(Deserialize)]
#[serde(remote = "Protocol")]
enum ProtocolName {
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

fn verdict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
    let word = String::deserialize(deserializer)?;
    if word == "allow" {
        return Ok(Reason::NONE);
    }
    let refusals = Reason::ALL.iter().filter(|reason| **reason != Reason::NONE);
    let found = refusals.copied().find(|reason| reason.word() == word);
    found.ok_or_else(|| D::Error::custom(format!("\"{word}\" is neither allow nor a reason to refuse")))
}
