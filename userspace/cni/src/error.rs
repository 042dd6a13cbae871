//! What a plugin says that could not do what it was asked.

use serde_json::json;

use crate::call::NEWEST;

/// A refusal in the CNI's words. The runtime shows `message` and `details`; of a pod's ADD the kubelet makes an event of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct Error {
    /// What kind of refusal it is.
    pub code: Code,
    /// What could not be done.
    pub message: String,
    /// Why, and what helps.
    pub details: String,
}

/// The spec's codes, section 5; from 100 on a plugin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A version of the spec that the plugin does not speak.
    IncompatibleVersion = 1,
    /// A variable that the runtime has to set is missing or wrong.
    InvalidVariables = 4,
    /// Something cannot be read.
    Io = 5,
    /// The configuration is no JSON.
    Undecodable = 6,
    /// The configuration cannot be used.
    InvalidConfiguration = 7,
    /// It may work later.
    TryAgainLater = 11,
    /// CHECK: the pod is not as ADD has left it.
    NotEnrolled = 100,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    /// The machine does not let the plugin work.
    pub fn system(error: &std::io::Error) -> Self {
        Self::new(Code::Io, "weft-cni cannot work on this machine", error.to_string())
    }

    /// As a runtime reads it, in the version that it has asked in.
    pub fn to_json(&self, version: Option<&str>) -> String {
        let Self { code, message, details } = self;
        let version = version.unwrap_or(NEWEST);
        json!({"cniVersion": version, "code": *code as u32, "msg": message, "details": details}).to_string()
    }
}
