//! What an API server says instead of an answer.

/// Why a question had no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It forgot the version that was asked for: all has to be listed anew.
    #[error("the API server no longer has the changes since then")]
    Expired,
    /// It cannot send what there is as a watch.
    #[error("the API server sends no lists by watch: {0}")]
    NoStreamedLists(String),
    /// RBAC.
    #[error("{0}")]
    Forbidden(String),
    /// It is not there, or does not answer in time.
    #[error("{0}")]
    Away(String),
    /// Anything else that it said.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    /// What became of a request.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::said(status.code, &status.message),
            kube::Error::Auth(error) => {
                Self::Refused(format!("the agent's credentials cannot be used: {error}"))
            }
            kube::Error::Service(error) => Self::Away(innermost(error.as_ref())),
            kube::Error::HyperError(error) => Self::Away(innermost(error)),
            other => Self::Refused(other.to_string()),
        }
    }

    /// A connection that broke in the middle of an answer.
    pub(crate) fn broken(error: &std::io::Error) -> Self {
        Self::Away(format!("the connection to the API server broke: {}", innermost(error)))
    }

    /// What a status of the API server means.
    pub(crate) fn said(code: u16, message: &str) -> Self {
        match code {
            410 => Self::Expired,
            // "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled".
            400 | 422 if message.contains("sendInitialEvents") => Self::NoStreamedLists(message.to_owned()),
            401 => Self::Refused("the API server does not know the agent's credentials (401)".to_owned()),
            403 => Self::Forbidden(message.to_owned()),
            429 | 500.. => Self::Away(format!("the API server answers {code}: {message}")),
            _ => Self::Refused(format!("the API server answers {code}: {message}")),
        }
    }
}

/// The cause behind all wrappers: "connection refused", not "client error (Connect)".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_told_apart_by_what_is_to_be_done() {
        let gate = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList \
                    feature gate is enabled";
        assert_eq!(Trouble::said(410, "too old resource version"), Trouble::Expired);
        assert_eq!(Trouble::said(422, gate), Trouble::NoStreamedLists(gate.to_owned()));
        assert!(matches!(Trouble::said(422, "spec: Invalid value"), Trouble::Refused(_)));
        assert!(matches!(Trouble::said(403, "pods is forbidden"), Trouble::Forbidden(_)));
        assert!(matches!(Trouble::said(503, "etcd leader changed"), Trouble::Away(_)));
        assert!(matches!(Trouble::said(404, "404 page not found"), Trouble::Refused(_)));
    }

    #[test]
    fn a_refused_connection_is_told_in_its_own_words() {
        let refused = std::io::Error::from_raw_os_error(111);
        let wrapped = std::io::Error::other(std::io::Error::other(refused));
        let error = kube::Error::Service(Box::new(wrapped));
        assert_eq!(Trouble::of(&error), Trouble::Away("Connection refused (os error 111)".to_owned()));
    }
}
