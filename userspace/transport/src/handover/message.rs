//! The messages as they are written on the wire.

use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};
use weft_model::ServiceAccount;

use super::{Hello, Role};
use crate::Transparent;

/// One message, before its descriptors are looked at.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub id: u64,
    #[serde(flatten)]
    pub body: Body,
}

/// What every message has, of any version.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub id: u64,
    pub kind: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Body {
    Hello(Hello),
    Held(PodFields),
    HeldAll {
        pods: usize,
    },
    Pod(PodFields),
    PodGone {
        cookie: u64,
    },
    Snapshot {
        version: u64,
    },
    Maps {},
    OlderMaps {},
    Identities {
        version: u64,
    },
    Drain {
        within_ms: u64,
    },
    Ack {
        of: u64,
    },
    Nack(Nack),
    Report(Report),
    Records {},
    /// A kind of a later version.
    #[serde(other, skip_serializing)]
    Unknown,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PodFields {
    pub name: String,
    pub cookie: u64,
    pub addresses: Vec<IpAddr>,
    /// Nobody of version 2 says it.
    #[serde(default)]
    pub service_account: Option<ServiceAccount>,
    pub listeners: Vec<Role>,
    /// An older peer does not say it.
    #[serde(default)]
    pub transparent: Transparent,
}

impl Envelope {
    /// Its bytes.
    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("keys are strings, and nothing fails")
    }
}

/// A message was not taken; the state is that before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// The id of the message.
    pub of: u64,
    /// Why, for programs.
    pub reason: NackReason,
    /// Why, for people; what is longer than 4 KiB is cut when it is sent.
    #[serde(serialize_with = "cut")]
    pub error: String,
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NackReason {
    /// The receiver is of a version that has no such message: do without.
    UnknownKind,
    /// Fields or descriptors are not those that the kind has.
    Malformed,
    /// It was understood, but could not be done.
    Failed,
    /// A reason of a later version.
    #[serde(other)]
    Unlisted,
}

/// How a proxy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Connections that it carries.
    pub connections: u64,
    /// Pods whose connections it accepts.
    pub pods: u64,
    /// The version of the snapshot in force, if it has one.
    pub snapshot: Option<u64>,
    /// Whether it was told to finish.
    pub draining: bool,
    /// Identities of which it has a certificate that is valid.
    #[serde(default)]
    pub certificates: u64,
    /// Where apps do not see their clients' addresses though their namespaces are ready; [`MOST_UNHEARD`] at most.
    #[serde(default)]
    pub unheard: Vec<Unheard>,
}

/// A port of a pod whose app does not answer by the way that its namespace has for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unheard {
    /// The cookie of the pod's namespace.
    pub cookie: u64,
    /// The port.
    pub port: u16,
}

/// It may quote what the other end has said, which fits a message, but not twice.
fn cut<S: Serializer>(error: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&error[..error.floor_char_boundary(LONGEST_ERROR)])
}

/// Bytes of an error. With each of them escaped it still fits a message.
const LONGEST_ERROR: usize = 4 << 10;

/// More than these a [`Report`] does not name.
pub const MOST_UNHEARD: usize = 256;
