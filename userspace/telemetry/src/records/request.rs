//! A request and its answer.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use weft_abi::Reason;
use weft_model::{ObjectName, RouteName};

use super::{Inbound, Spoken, Text, is_default, reason, shared};

/// A request and its answer. Durations are microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// When it ended, in microseconds since 1970.
    #[serde(rename = "t")]
    pub ended: u64,
    /// The client pod.
    #[serde(rename = "p", deserialize_with = "shared::deserialize")]
    pub pod: ObjectName,
    /// The client's address.
    #[serde(rename = "a")]
    pub client: SocketAddr,
    /// What is spoken with the client.
    #[serde(rename = "k")]
    pub spoken: Spoken,
    /// Whether it is a gRPC call.
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub grpc: bool,
    /// The Service that was dialled.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Destination>,
    /// The rule; `None` for plain Service behaviour and for what was refused before.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The backend that answered, or was tried last.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Destination>,
    /// Its endpoint.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The method.
    #[serde(rename = "m")]
    pub method: Text<32>,
    /// The host that was asked for.
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub authority: Text<255>,
    /// The path, normal, without the query.
    #[serde(rename = "u")]
    pub path: Text<512>,
    /// `x-request-id`.
    #[serde(rename = "i", default, skip_serializing_if = "is_default")]
    pub id: Text<64>,
    /// The trace that `traceparent` names.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub trace: Text<32>,
    /// `user-agent`.
    #[serde(rename = "g", default, skip_serializing_if = "is_default")]
    pub agent: Text<128>,
    /// The answer's status; 0 where there was none.
    #[serde(rename = "c", default, skip_serializing_if = "is_default")]
    pub status: u16,
    /// The answer's `grpc-status`.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u32>,
    /// Why it did not get what it asked for.
    #[serde(rename = "x", with = "reason", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why audited policies would have refused it.
    #[serde(rename = "xa", with = "reason", default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Reason>,
    /// Of a request that was made to the pod: who made it. Of one that the pod has made, `None`.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,
    /// A delay was injected: flag `DI`.
    #[serde(rename = "d", default, skip_serializing_if = "is_default")]
    pub delayed: bool,
    /// Every try that `retry` gives was used up: flag `URX`.
    #[serde(rename = "z", default, skip_serializing_if = "is_default")]
    pub exhausted: bool,
    /// Tries that were made.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub tries: u32,
    /// From the request's head to the answer's end.
    #[serde(rename = "l")]
    pub lasted: u64,
    /// Of that, from the last try's head to its answer's head.
    #[serde(rename = "v", default, skip_serializing_if = "is_default")]
    pub upstream: u64,
    /// Bytes of the request's body.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub received: u64,
    /// Bytes of the answer's body.
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub sent: u64,
    /// gRPC messages of the request and of the answer.
    #[serde(rename = "j", default, skip_serializing_if = "is_default")]
    pub messages: (u64, u64),
    /// How the connection to the server was secured.
    #[serde(rename = "tls", default, skip_serializing_if = "is_default")]
    pub security: Security,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Destination(
    /// The Service.
    #[serde(deserialize_with = "shared::deserialize")]
    pub ObjectName,
    /// Its port.
    pub u16,
);

/// A rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule(
    /// The route.
    #[serde(deserialize_with = "shared::deserialize")]
    pub RouteName,
    /// The rule's place in it.
    pub u16,
);

/// How a connection was secured, in Istio's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Security {
    /// Plaintext.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Both ends proved who they are.
    #[serde(rename = "mutual_tls")]
    MutualTls,
}

impl RequestRecord {
    /// Envoy's short flags, joined by a comma; `-` where there is none.
    pub fn flags(&self) -> &'static str {
        flags(self.reason, self.delayed, self.exhausted)
    }

    /// Whether the client was served: an answer below 500, for a gRPC call `OK`.
    pub fn succeeded(&self) -> bool {
        let grpc = self.grpc_status.is_none_or(|code| code == 0);
        (1..500).contains(&self.status) && grpc && self.reason != Some(Reason::CLIENT_GONE)
    }

    /// Whether weft refused it before any server saw it, or a policy did.
    pub fn is_refused(&self) -> bool {
        let policies = [Reason::POLICY_DENIED, Reason::NOT_ALLOWED, Reason::IDENTITY_UNPROVEN];
        self.reason.is_some_and(|reason| self.tries == 0 || policies.contains(&reason))
    }

    /// From the request's head to the answer's end.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.lasted)
    }
}

/// A record's flags. They are few, so each combination has its text, and a label costs no allocation.
pub(crate) fn flags(reason: Option<Reason>, delayed: bool, exhausted: bool) -> &'static str {
    macro_rules! joined {
        ($flag:expr; $($known:literal)*) => {
            match ($flag, delayed, exhausted) {
                (flag, false, false) => flag,
                $(
                    ($known, true, false) => concat!($known, ",DI"),
                    ($known, false, true) => concat!($known, ",URX"),
                    ($known, true, true) => concat!($known, ",DI,URX"),
                )*
                (_, true, false) => "DI",
                (_, false, true) => "URX",
                (_, true, true) => "DI,URX",
            }
        };
    }
    joined!(reason.map_or("-", Reason::flag);
        "UH" "UF" "UO" "NR" "DC" "UT" "LR" "UC" "FI" "RL" "UAEX" "SI" "DPE" "UPE" "DT")
}

impl Security {
    /// Istio's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}
