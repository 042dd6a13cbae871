//! What the node's proxy tells the agent of each request and connection that ended.
//!
//! The agent makes flows, metrics, access logs and `weft top` of them ([`crate::observer`]). A record names what the
//! proxy knows by itself; identities, workloads and labels are looked up by the agent. Keys on the wire are short, what
//! has its usual value is left out, and texts are cut when they are read, whatever the sender says: the proxy is
//! believed less than the agent. A field that is added needs `#[serde(default)]`: both sides may be of another version.

mod alike;
mod columns;
mod connection;
mod limits;
mod live;
mod request;
mod shared;
mod text;
mod usage;

pub use alike::{Alike, Own};
pub use connection::{ConnectionRecord, Inbound, Spoken};
pub use limits::Unreadable;
pub use live::LiveRecord;
pub use request::{Destination, RequestRecord, Rule, Security};
use serde::{Deserialize, Serialize};
pub use text::Text;
pub use usage::PodUsage;

/// What a proxy tells at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordBatch {
    /// Which proxy tells it: the same for all batches of a process, another for each process.
    #[serde(rename = "g")]
    pub generation: u64,
    /// Requests that ended, as a proxy tells them to an agent that does not know `alike`.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestRecord>,
    /// Requests that ended, each with those that are like it.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub alike: Vec<Alike>,
    /// Connections that ended.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<ConnectionRecord>,
    /// Connections that go on.
    #[serde(rename = "v", default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<LiveRecord>,
    /// What each pod has used of the proxy since that began: totals, not differences.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<PodUsage>,
    /// Records that were lost since the proxy began because they came too fast.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub lost: u64,
}

impl RecordBatch {
    /// As a proxy sends it: `MessagePack`, with names, so that either side may know more fields than the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A request has about 300 bytes, and 80 of its own.
        let alike = self.alike.iter().map(Alike::count).sum::<usize>();
        let mut bytes = Vec::with_capacity(512 * (self.requests.len() + self.alike.len() + 1) + 96 * alike);
        rmp_serde::encode::write_named(&mut bytes, self).expect("memory takes all, and no field fails");
        bytes
    }

    /// Reads what a proxy has sent. Texts are cut.
    ///
    /// # Errors
    /// It is no batch of records, or names an object by what cannot be an object's name.
    pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let batch: Self = rmp_serde::from_slice(bytes)?;
        limits::check(&batch)?;
        Ok(batch)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A reason is its code on the wire; one that this build does not know is [`weft_abi::Reason::UNKNOWN`].
mod reason {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use weft_abi::Reason;

    #[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(
        reason: &Option<Reason>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        reason.map(|reason| reason.code).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Reason>, D::Error> {
        Ok(Option::<u8>::deserialize(deserializer)?.map(Reason::from))
    }
}

#[cfg(test)]
pub(crate) mod tests;
