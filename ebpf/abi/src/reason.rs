//! Why a connection or a request did not get what it asked for: the one closed list.
//!
//! `docs/reasons.md` is this list (`cargo xtask codegen`).

abi_struct! {
    /// Why a connection or a request was refused or broke off. The same words stand in metrics, flows, logs, the
    /// `x-weft-reason` header and the command line; a word and a code never change.
    pub struct Reason {
        /// Index into the list.
        pub code: u8,
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $constant:ident = $code:literal, $word:literal, $errno:ident, $status:literal, $flag:literal;)*) => {
        impl Reason {
            $($(#[doc = $doc])* pub const $constant: Self = Self { code: $code };)*

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// The word that users see.
            pub const fn word(self) -> &'static str {
                match self.code { $($code => $word,)* _ => "Unknown" }
            }

            /// What `connect(2)` and `sendmsg(2)` return for it, where the kernel refuses.
            #[inline(always)]
            pub const fn errno(self) -> i32 {
                match self.code { $($code => $errno,)* _ => EACCES }
            }

            /// The status of the proxy's answer; `None` where the connection is reset, or never reached the proxy.
            pub const fn status(self) -> Option<u16> {
                match self.code { $($code => if $status == 0 { None } else { Some($status) },)* _ => None }
            }

            /// Envoy's short response flag, as `response_flags` shows it; `-` where Envoy has none.
            pub const fn flag(self) -> &'static str {
                match self.code { $($code => $flag,)* _ => "-" }
            }

            /// What it means, in a sentence or two.
            pub const fn meaning(self) -> &'static str {
                match self.code { $($code => concat!($($doc),*).trim_ascii(),)* _ => "" }
            }
        }
    };
}

const EACCES: i32 = 13;
const ECONNREFUSED: i32 = 111;

reasons! {
    /// Not refused.
    NONE = 0, "None", EACCES, 0, "-";
    /// A DENY rule matches. Fails closed.
    POLICY_DENIED = 1, "PolicyDenied", EACCES, 403, "UAEX";
    /// ALLOW policies protect the port and none of their rules matches. Fails closed.
    NOT_ALLOWED = 2, "NotAllowed", EACCES, 403, "UAEX";
    /// An ALLOW rule names the client's identity, or mode Strict takes it for a pod of the server's node, by its address
    /// alone: nothing proves it, neither a certificate nor the kernel of that node. Fails closed.
    IDENTITY_UNPROVEN = 3, "IdentityUnproven", EACCES, 403, "UAEX";
    /// The Service, or the share of it that was drawn, has no endpoint that takes connections.
    NO_ENDPOINTS = 4, "NoEndpoints", ECONNREFUSED, 503, "UH";
    /// The connection is to go through the node's proxy, which is not there. Fails closed, unless the Service
    /// says `weft.dev/proxy-failure: open`.
    PROXY_UNAVAILABLE = 5, "ProxyUnavailable", ECONNREFUSED, 0, "UF";
    /// The connection is to the port of a pod's own listener, to which only hooks send: nobody may use it directly. Fails
    /// closed.
    DIRECT_TO_LISTENER = 6, "DirectToListener", ECONNREFUSED, 0, "-";
    /// The packet came to an address that a link gave the pod, and nothing says whose it is: it would be a way round the
    /// pod's policies. Fails closed.
    UNKNOWN_ADDRESS = 7, "UnknownAddress", ECONNREFUSED, 0, "-";

    // The http path: what the proxy refuses, and what breaks on the way.

    /// No hook redirected the connection: nobody may use a pod's listener directly. Fails closed.
    NO_ORIGIN = 16, "NoOrigin", ECONNREFUSED, 0, "-";
    /// The dialled address is no port of a Service any more. Fails closed.
    NO_SERVICE = 17, "NoService", ECONNREFUSED, 503, "NR";
    /// The pod has as many connections through the proxy as it may.
    POD_CONNECTIONS = 18, "PodConnections", ECONNREFUSED, 0, "UO";
    /// The pod has as many requests under way as it may.
    POD_REQUESTS = 19, "PodRequests", ECONNREFUSED, 503, "UO";
    /// No TLSRoute has the server name that the client asks for.
    NO_TLS_ROUTE = 20, "NoTlsRoute", ECONNREFUSED, 0, "NR";
    /// No rule of the routes matches the request.
    NO_RULE = 21, "NoRule", ECONNREFUSED, 404, "NR";
    /// The path of the request has no agreed meaning.
    PATH_INVALID = 22, "PathInvalid", ECONNREFUSED, 400, "DPE";
    /// CONNECT without a protocol that is carried.
    CONNECT_UNSUPPORTED = 23, "ConnectUnsupported", ECONNREFUSED, 501, "DPE";
    /// `grpc-timeout` is malformed.
    GRPC_TIMEOUT_INVALID = 24, "GrpcTimeoutInvalid", ECONNREFUSED, 400, "DPE";
    /// The backendRef that was drawn leads nowhere, or none has a weight.
    INVALID_BACKEND = 25, "InvalidBackend", ECONNREFUSED, 500, "NR";
    /// No connection to an endpoint came about.
    CONNECT_FAILED = 26, "ConnectFailed", ECONNREFUSED, 503, "UF";
    /// Connecting took longer than `timeouts.connect`.
    CONNECT_TIMEOUT = 27, "ConnectTimeout", ECONNREFUSED, 503, "UF";
    /// The server ended the connection or the stream before it answered.
    UPSTREAM_RESET = 28, "UpstreamReset", ECONNREFUSED, 502, "UC";
    /// What the server answered is malformed.
    UPSTREAM_MALFORMED = 29, "UpstreamMalformed", ECONNREFUSED, 502, "UPE";
    /// The server takes no WebSocket: its HTTP/2 does not say that it does, or it answers as if none were asked for.
    UPGRADE_UNSUPPORTED = 30, "UpgradeUnsupported", ECONNREFUSED, 501, "UPE";
    /// The request took longer than `timeouts.request` or `grpc-timeout`, tries included.
    REQUEST_TIMEOUT = 31, "RequestTimeout", ECONNREFUSED, 504, "UT";
    /// The last try took longer than `timeouts.backendRequest`.
    BACKEND_TIMEOUT = 32, "BackendTimeout", ECONNREFUSED, 504, "UT";
    /// The backend has as many connections as `circuitBreaker.maxConnections` allows.
    BREAKER_CONNECTIONS = 33, "BreakerConnections", ECONNREFUSED, 503, "UO";
    /// As many requests wait for the backend as `circuitBreaker.maxPendingRequests` allows.
    BREAKER_PENDING = 34, "BreakerPending", ECONNREFUSED, 503, "UO";
    /// As many requests are under way as `circuitBreaker.maxParallelRequests` allows.
    BREAKER_REQUESTS = 35, "BreakerRequests", ECONNREFUSED, 503, "UO";
    /// As many retries are under way as `circuitBreaker.maxParallelRetries` allows.
    BREAKER_RETRIES = 36, "BreakerRetries", ECONNREFUSED, 503, "UO";
    /// A rule of `rateLimit` has no token left for the request.
    RATE_LIMITED = 37, "RateLimited", ECONNREFUSED, 429, "RL";
    /// `faultInjection.abort` answered.
    FAULT_INJECTED = 38, "FaultInjected", ECONNREFUSED, 503, "FI";
    /// The client left before it had its answer.
    CLIENT_GONE = 39, "ClientGone", ECONNREFUSED, 499, "DC";
    /// The head of a request took too long.
    SLOW_HEAD = 40, "SlowHead", ECONNREFUSED, 0, "DT";
    /// The body of a request stood still for too long, or the client did not take its answer.
    SLOW_BODY = 41, "SlowBody", ECONNREFUSED, 408, "DT";
    /// No byte moved either way for `timeouts.idle`.
    IDLE = 42, "Idle", ECONNREFUSED, 0, "SI";
    /// The server ended the connection in the middle of its answer.
    ANSWER_BROKEN = 43, "AnswerBroken", ECONNREFUSED, 0, "UC";
    /// The proxy ended the connection: its drain deadline, the pod went away, or the proxy itself died.
    CUT = 44, "Cut", ECONNREFUSED, 0, "LR";
    /// The peer floods the connection with HTTP/2 frames that carry nothing, with resets or with CONTINUATION. A server's
    /// requests under way are answered with the status.
    FLOOD = 45, "Flood", ECONNREFUSED, 502, "DPE";
    /// The proxy cannot open a socket or enter a namespace; its log says why.
    PROXY_FAILED = 46, "ProxyFailed", ECONNREFUSED, 503, "UF";
    /// A retry that the policy asks for is over the budget of `retryConstraint`.
    RETRY_BUDGET = 47, "RetryBudget", ECONNREFUSED, 503, "UO";

    // Framing of HTTP/1: what the guard refuses on the raw bytes. Each ends the connection.

    /// A line ends with LF alone, not with CR LF.
    BARE_LF = 64, "BareLf", ECONNREFUSED, 400, "DPE";
    /// A CR stands inside a line.
    BARE_CR = 65, "BareCr", ECONNREFUSED, 400, "DPE";
    /// Too many empty lines stand before the message.
    EMPTY_LINES = 66, "EmptyLines", ECONNREFUSED, 400, "DPE";
    /// The request line is not method, target and version with one space between them.
    REQUEST_LINE = 67, "RequestLine", ECONNREFUSED, 400, "DPE";
    /// The method is not a token.
    METHOD = 68, "Method", ECONNREFUSED, 400, "DPE";
    /// The request target has a character that no target has.
    TARGET = 69, "Target", ECONNREFUSED, 400, "DPE";
    /// The form of the request target does not go with the method.
    TARGET_FORM = 70, "TargetForm", ECONNREFUSED, 400, "DPE";
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    VERSION = 71, "Version", ECONNREFUSED, 505, "DPE";
    /// The status line is not version, status and reason.
    STATUS_LINE = 72, "StatusLine", ECONNREFUSED, 400, "DPE";
    /// A field's name is not a token.
    FIELD_NAME = 73, "FieldName", ECONNREFUSED, 400, "DPE";
    /// Whitespace stands between a field's name and its colon.
    SPACE_BEFORE_COLON = 74, "SpaceBeforeColon", ECONNREFUSED, 400, "DPE";
    /// A field is folded over several lines.
    FOLDED = 75, "Folded", ECONNREFUSED, 400, "DPE";
    /// A field's value has a control character.
    FIELD_VALUE = 76, "FieldValue", ECONNREFUSED, 400, "DPE";
    /// The request has no Host.
    HOST_MISSING = 77, "HostMissing", ECONNREFUSED, 400, "DPE";
    /// The request has several Host lines.
    HOST_REPEATED = 78, "HostRepeated", ECONNREFUSED, 400, "DPE";
    /// The Host is not a name or an address with an optional port.
    HOST_INVALID = 79, "HostInvalid", ECONNREFUSED, 400, "DPE";
    /// The Host is another than the request target's.
    HOST_CONFLICT = 80, "HostConflict", ECONNREFUSED, 400, "DPE";
    /// The Content-Length is not a decimal number.
    CONTENT_LENGTH = 81, "ContentLength", ECONNREFUSED, 400, "DPE";
    /// The message has several Content-Length.
    CONTENT_LENGTH_REPEATED = 82, "ContentLengthRepeated", ECONNREFUSED, 400, "DPE";
    /// The message has both Content-Length and Transfer-Encoding.
    LENGTH_AND_ENCODING = 83, "LengthAndEncoding", ECONNREFUSED, 400, "DPE";
    /// The Transfer-Encoding does not end with chunked, once.
    ENCODING = 84, "Encoding", ECONNREFUSED, 400, "DPE";
    /// The Transfer-Encoding names a coding other than chunked.
    ENCODING_UNSUPPORTED = 85, "EncodingUnsupported", ECONNREFUSED, 501, "DPE";
    /// A message of HTTP/1.0 has a Transfer-Encoding.
    ENCODING_IN_HTTP10 = 86, "EncodingInHttp10", ECONNREFUSED, 400, "DPE";
    /// The message announces a body where it can have none.
    BODY_FORBIDDEN = 87, "BodyForbidden", ECONNREFUSED, 400, "DPE";
    /// A field's name can be taken for Content-Length or Transfer-Encoding.
    LOOKALIKE = 88, "Lookalike", ECONNREFUSED, 400, "DPE";
    /// The request expects something other than 100-continue.
    EXPECTATION = 89, "Expectation", ECONNREFUSED, 417, "DPE";
    /// A chunk's size is not a hexadecimal number.
    CHUNK_SIZE = 90, "ChunkSize", ECONNREFUSED, 400, "DPE";
    /// A chunk's extension is malformed.
    CHUNK_EXTENSION = 91, "ChunkExtension", ECONNREFUSED, 400, "DPE";
    /// A chunk does not end where its size says.
    CHUNK_END = 92, "ChunkEnd", ECONNREFUSED, 400, "DPE";
    /// A chunk's extensions are too long.
    CHUNK_LINE_TOO_LONG = 93, "ChunkLineTooLong", ECONNREFUSED, 400, "DPE";
    /// A field stands in the trailers that may not stand there.
    TRAILER = 94, "Trailer", ECONNREFUSED, 400, "DPE";
    /// The request line is too long, or a rewrite makes it so.
    TARGET_TOO_LONG = 95, "TargetTooLong", ECONNREFUSED, 414, "DPE";
    /// A field line is too long.
    FIELD_TOO_LONG = 96, "FieldTooLong", ECONNREFUSED, 431, "DPE";
    /// The message has too many fields.
    TOO_MANY_FIELDS = 97, "TooManyFields", ECONNREFUSED, 431, "DPE";
    /// The head is too large.
    HEAD_TOO_LARGE = 98, "HeadTooLarge", ECONNREFUSED, 431, "DPE";
    /// Bytes came that no request and no answer calls for.
    OUT_OF_TURN = 99, "OutOfTurn", ECONNREFUSED, 400, "DPE";

    // Mutual TLS: what one end refuses about the other. Each ends the connection before a byte of the app passes.

    /// The other end speaks no TLS 1.3. Fails closed.
    TLS_VERSION = 128, "TlsVersion", ECONNREFUSED, 503, "UF";
    /// The two ends have no cipher suite, key exchange or signature in common. Fails closed.
    TLS_PARAMETERS = 129, "TlsParameters", ECONNREFUSED, 503, "UF";
    /// The other end does not agree to weft's protocol (ALPN) inside TLS. Fails closed.
    TLS_PROTOCOL = 130, "TlsProtocol", ECONNREFUSED, 503, "UF";
    /// What came is no TLS, or broken TLS. Fails closed.
    TLS_MALFORMED = 131, "TlsMalformed", ECONNREFUSED, 503, "UF";
    /// The connection ended in the middle of the TLS handshake.
    TLS_BROKEN = 132, "TlsBroken", ECONNREFUSED, 503, "UF";
    /// The TLS handshake took too long. Fails closed.
    TLS_TIMEOUT = 133, "TlsTimeout", ECONNREFUSED, 503, "UF";
    /// The other end refused the TLS handshake; its own log says why.
    TLS_REFUSED = 134, "TlsRefused", ECONNREFUSED, 503, "UF";
    /// The other end shows no certificate. Fails closed.
    CERTIFICATE_MISSING = 135, "CertificateMissing", ECONNREFUSED, 503, "UF";
    /// The other end's certificate has expired. Fails closed.
    CERTIFICATE_EXPIRED = 136, "CertificateExpired", ECONNREFUSED, 503, "UF";
    /// The other end's certificate is not valid yet: do the nodes' clocks agree? Fails closed.
    CERTIFICATE_NOT_YET_VALID = 137, "CertificateNotYetValid", ECONNREFUSED, 503, "UF";
    /// No root that is trusted vouches for the other end's certificate. Fails closed.
    CERTIFICATE_UNTRUSTED = 138, "CertificateUntrusted", ECONNREFUSED, 503, "UF";
    /// The other end's certificate is malformed, or not meant for this: an authority's, or without the usage. Fails
    /// closed.
    CERTIFICATE_INVALID = 139, "CertificateInvalid", ECONNREFUSED, 503, "UF";
    /// The other end's certificate does not carry exactly one SPIFFE ID of the form
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<name>`. Fails closed.
    IDENTITY_MALFORMED = 140, "IdentityMalformed", ECONNREFUSED, 503, "UF";
    /// The other end is of a trust domain that is neither the mesh's own nor an alias of it. Fails closed.
    TRUST_DOMAIN = 141, "TrustDomain", ECONNREFUSED, 503, "UF";
    /// The server is another workload than the one that was chosen. Fails closed.
    ANOTHER_IDENTITY = 142, "AnotherIdentity", ECONNREFUSED, 503, "UF";
    /// This node has no certificate for the pod that is valid now; `weft get certificates` says why. Fails closed.
    NO_CERTIFICATE = 143, "NoCertificate", ECONNREFUSED, 503, "UF";
    /// The server takes mutual TLS only (mode Strict), and the client speaks none. Fails closed.
    PLAINTEXT = 144, "Plaintext", ECONNREFUSED, 503, "UF";
    /// This node knows no workload at the address that it is to reach by mutual TLS. Fails closed.
    UNKNOWN_WORKLOAD = 145, "UnknownWorkload", ECONNREFUSED, 503, "UF";
    /// A record of the TLS handshake does not open with this connection's keys: it was recorded of another connection and
    /// sent again, or changed on its way. Fails closed.
    TLS_DECRYPT = 146, "TlsDecrypt", ECONNREFUSED, 503, "UF";

    // Tokens (AuthenticationPolicy, `jwt`): why a request that has one is not taken with it. Each fails closed.

    /// The token is no well-formed JWT, longer than 8 KiB, without an end (`exp`), or one of several in one header.
    TOKEN_MALFORMED = 160, "TokenMalformed", EACCES, 401, "UAEX";
    /// The token names another algorithm than its key's, or none of RS256, ES256 and EdDSA, or has critical extensions.
    TOKEN_UNSUPPORTED = 161, "TokenUnsupported", EACCES, 401, "UAEX";
    /// Nobody whose tokens are taken here is the token's issuer.
    TOKEN_ISSUER = 162, "TokenIssuer", EACCES, 401, "UAEX";
    /// The token is for another audience.
    TOKEN_AUDIENCE = 163, "TokenAudience", EACCES, 401, "UAEX";
    /// The token has expired, more than 60 s ago.
    TOKEN_EXPIRED = 164, "TokenExpired", EACCES, 401, "UAEX";
    /// The token is not valid yet, nor in 60 s: do the clocks agree? Refused.
    TOKEN_NOT_YET_VALID = 165, "TokenNotYetValid", EACCES, 401, "UAEX";
    /// The token's provider has no key of the name (`kid`) that the token gives.
    TOKEN_KEY = 166, "TokenKey", EACCES, 401, "UAEX";
    /// The token's signature is not its provider's.
    TOKEN_SIGNATURE = 167, "TokenSignature", EACCES, 401, "UAEX";
    /// The keys of the token's provider have never been had on this node; `weft status` says why.
    TOKEN_KEYS_UNAVAILABLE = 168, "TokenKeysUnavailable", EACCES, 503, "UAEX";

    /// A code that this build does not know.
    UNKNOWN = 255, "Unknown", EACCES, 0, "-";
}

impl Reason {
    /// The reason of this word; `None` for a word that is not in the list.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.word() == word)
    }
}

impl From<u8> for Reason {
    /// An unknown code is [`Reason::UNKNOWN`], never a panic: it may come from another version.
    fn from(code: u8) -> Self {
        if Self::ALL.contains(&Self { code }) { Self { code } } else { Self::UNKNOWN }
    }
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn a_word_and_a_code_are_one_reasons_own() {
        for reason in Reason::ALL {
            let same = |other: &&Reason| other.word() == reason.word() || other.code == reason.code;
            assert_eq!(Reason::ALL.iter().filter(same).count(), 1, "{reason}");
            assert_eq!(Reason::from_word(reason.word()), Some(*reason));
            assert_eq!(Reason::from(reason.code), *reason);
        }
        assert_eq!(Reason::from(254), Reason::UNKNOWN);
        assert_eq!(Reason::from_word("unknown"), None);
    }

    #[test]
    fn every_reason_has_a_meaning_and_a_flag_that_envoy_has() {
        let envoys = [
            "-", "UH", "UF", "UO", "NR", "URX", "DC", "UT", "LR", "UR", "UC", "DI", "FI", "RL", "UAEX", "SI",
            "DPE", "UPE", "DT",
        ];
        for reason in Reason::ALL {
            assert!(envoys.contains(&reason.flag()), "{reason}: {}", reason.flag());
            assert!(reason.meaning().ends_with('.') && !reason.meaning().contains('|'), "{reason}");
        }
    }
}
