//! Why a connection was refused: the one closed list.

abi_struct! {
    /// Why a connection was refused. The same words stand in metrics, logs, flows and the command line.
    pub struct Reason {
        /// Index into the list.
        pub code: u8,
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $word:literal, $errno:ident;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $constant: Self = Self { code: $code };)*

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// The word that users see.
            pub const fn word(self) -> &'static str {
                match self.code { $($code => $word,)* _ => "Unknown" }
            }

            /// What `connect(2)` and `sendmsg(2)` return for it.
            #[inline(always)]
            pub const fn errno(self) -> i32 {
                match self.code { $($code => $errno,)* _ => EACCES }
            }
        }
    };
}

const EACCES: i32 = 13;
const ECONNREFUSED: i32 = 111;

reasons! {
    /// Not refused.
    NONE = 0, "None", EACCES;
    /// A DENY rule matches. Fails closed.
    POLICY_DENIED = 1, "PolicyDenied", EACCES;
    /// ALLOW policies protect the port and none of their rules matches. Fails closed.
    NOT_ALLOWED = 2, "NotAllowed", EACCES;
    /// An ALLOW rule names the client's identity, but nothing proves it: neither a certificate nor the
    /// kernel of the server's node. Fails closed.
    IDENTITY_UNPROVEN = 3, "IdentityUnproven", EACCES;
    /// The Service, or the share of it that was drawn, has no endpoint that takes connections.
    NO_ENDPOINTS = 4, "NoEndpoints", ECONNREFUSED;
    /// The connection is to go through the node's proxy, which is not there. Fails closed, unless the Service
    /// says `weft.dev/proxy-failure: open`.
    PROXY_UNAVAILABLE = 5, "ProxyUnavailable", ECONNREFUSED;
    /// A code that this build does not know.
    UNKNOWN = 255, "Unknown", EACCES;
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
