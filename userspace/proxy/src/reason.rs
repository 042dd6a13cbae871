//! Why a connection or a request on the `http` path did not get what it asked for: the one closed list.
//!
//! A word is the same in the answer's `x-weft-reason`, in metrics, flows and logs, and never changes.

use http::StatusCode;

use crate::http1::Malformed;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $status:literal, $flag:literal, $text:literal;)*) => {
        /// See the module. A connection is reset for those that have no status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// The message's framing: its own list.
            Malformed(Malformed),
        }

        impl Reason {
            /// All of them, but for [`Reason::Malformed`].
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that users see.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)*
                    Self::Malformed(why) => why.word(),
                }
            }

            /// Envoy's short response flag; empty where Envoy has none.
            pub fn flag(self) -> &'static str {
                match self {
                    $(Self::$variant => $flag,)*
                    Self::Malformed(_) => "DPE",
                }
            }

            /// What happened and the remedy, for people.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Malformed(_) => "the request is malformed",
                }
            }

            fn code(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                    Self::Malformed(why) => why.status(),
                }
            }
        }
    };
}

reasons! {
    /// Nobody may use a pod's listener directly. Fails closed.
    NoOrigin = 0, "", "no hook redirected this connection";
    /// The dialled address is no Service port that the proxy serves. Fails closed.
    NoService = 503, "NR", "the dialled address is no Service port of the mesh any more; look it up again";
    /// The pod has as many connections through the proxy as it may.
    PodConnections = 0, "UO", "the pod has as many connections through the proxy as it may";
    /// The pod has as many requests under way as it may.
    PodRequests = 503, "UO", "the pod has as many requests under way as it may; try again later";
    /// No TLSRoute has the name that the client asks for.
    NoTlsRoute = 0, "NR", "no TLSRoute has this server name";
    /// No rule of the port's routes matches.
    NoRule = 404, "NR", "no rule of the routes of this Service matches the request";
    /// The path has no agreed meaning.
    PathInvalid = 400, "DPE", "the path of the request has no agreed meaning";
    /// CONNECT without a protocol that is carried.
    ConnectUnsupported = 501, "DPE", "CONNECT is carried for WebSocket over HTTP/2 alone";
    /// `grpc-timeout` is malformed.
    GrpcTimeoutInvalid = 400, "DPE", "grpc-timeout is not one to eight digits and a unit";
    /// The backendRef that was drawn leads nowhere, or there is none with a weight.
    InvalidBackend = 500, "NR", "the route has no valid backend for its share of requests; see its conditions";
    /// The backend has no endpoint that takes requests.
    NoEndpoints = 503, "UH", "no endpoint of the backend is ready";
    /// The L4 policy of the endpoint does not allow the client.
    NotAllowed = 403, "UAEX", "the policy of the server does not allow this client";
    /// No connection to the endpoint came about.
    ConnectFailed = 503, "UF", "no connection to an endpoint of the backend came about";
    /// It took longer than `timeouts.connect`.
    ConnectTimeout = 503, "UF", "connecting to an endpoint took too long; see timeouts.connect";
    /// The endpoint broke the connection or stream before it answered.
    UpstreamReset = 502, "UC", "the server ended the connection before it answered";
    /// What the endpoint answered is malformed.
    UpstreamMalformed = 502, "UPE", "what the server answered is malformed";
    /// The request took longer than `timeouts.request` or `grpc-timeout`.
    RequestTimeout = 504, "UT", "the request took longer than its timeout";
    /// The last try took longer than `timeouts.backendRequest`.
    BackendTimeout = 504, "UT", "the server did not answer within the backendRequest timeout";
    /// `maxConnections` of the circuit breaker.
    BreakerConnections = 503, "UO", "the backend has as many connections as its circuit breaker allows";
    /// `maxPendingRequests` of the circuit breaker.
    BreakerPending = 503, "UO", "as many requests wait for the backend as its circuit breaker allows";
    /// `maxParallelRequests` of the circuit breaker.
    BreakerRequests = 503, "UO", "as many requests are under way as the circuit breaker allows";
    /// `maxParallelRetries` of the circuit breaker.
    BreakerRetries = 503, "UO", "as many retries are under way as the circuit breaker allows";
    /// The budget of `retryConstraint`.
    RetryBudget = 503, "UO", "too many requests are retries already; see retryConstraint";
    /// A rule of the rate limit has no token.
    RateLimited = 429, "RL", "the rate limit is reached; try again later";
    /// `faultInjection.abort`.
    FaultInjected = 503, "FI", "a fault was injected";
    /// The client left before it had its answer.
    ClientGone = 499, "DC", "the client left";
    /// A head took longer than [`Limits::head_time`](crate::Limits::head_time).
    SlowHead = 0, "DT", "the head of a request took too long";
    /// Not a byte either way for [`Limits::idle`](crate::Limits::idle).
    Idle = 0, "SI", "no byte moved for too long";
    /// The server broke off in the middle of its answer.
    AnswerBroken = 0, "UC", "the server ended the connection in its answer";
    /// The proxy's drain deadline, or the pod went away.
    Cut = 0, "LR", "the proxy ended the connection";
    /// The proxy itself cannot go on: a socket or a namespace.
    ProxyFailed = 503, "UF", "the proxy cannot open a connection; its log says why";
}

impl Reason {
    /// The status of the answer; `None` where the connection is reset.
    pub fn status(self) -> Option<StatusCode> {
        StatusCode::from_u16(self.code()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_own_and_none_is_a_malformed_ones() {
        for reason in Reason::ALL {
            let same = Reason::ALL.iter().filter(|other| other.word() == reason.word()).count();
            assert_eq!(same, 1, "{}", reason.word());
            assert!(Malformed::ALL.iter().all(|malformed| malformed.word() != reason.word()));
        }
    }

    #[test]
    fn a_reason_without_a_status_is_a_reset() {
        assert_eq!(Reason::NoOrigin.status(), None);
        assert_eq!(Reason::NoRule.status(), Some(StatusCode::NOT_FOUND));
        assert_eq!(
            Reason::Malformed(Malformed::HeadTooLarge).status().map(|status| status.as_u16()),
            Some(431)
        );
    }
}
