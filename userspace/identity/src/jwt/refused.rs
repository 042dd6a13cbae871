//! Why a token is not good.

use weft_abi::Reason;

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// Too long to be looked at.
    #[error("it is longer than {} bytes", super::LONGEST_TOKEN)]
    TooLong,
    /// Not three parts of base64url with JSON in the first two, or claims of a wrong form.
    #[error("it is no well-formed JWT")]
    Malformed,
    /// It never ends.
    #[error("it has no exp, so it would be good for ever")]
    Endless,
    /// It has extensions that must be understood.
    #[error("it has critical extensions (crit), and none is understood")]
    Critical,
    /// It names another algorithm than its key's, or one that is not taken.
    #[error("it names an algorithm other than RS256, ES256 and EdDSA, or other than its key's own")]
    Algorithm,
    /// Nobody issues such tokens.
    #[error("its issuer is none whose tokens are taken here")]
    Issuer,
    /// It is for somebody else.
    #[error("it is for another audience")]
    Audience,
    /// It has ended.
    #[error("it has expired")]
    Expired,
    /// It begins later.
    #[error("it is not valid yet")]
    NotYetValid,
    /// Its key is unknown.
    #[error("its provider has no key of the name (kid) that it gives")]
    Key,
    /// Nobody's key verifies it.
    #[error("its signature is not its provider's")]
    Signature,
}

impl TokenRefused {
    /// The reason that users see.
    pub fn reason(self) -> Reason {
        match self {
            Self::TooLong | Self::Malformed | Self::Endless => Reason::TOKEN_MALFORMED,
            Self::Critical | Self::Algorithm => Reason::TOKEN_UNSUPPORTED,
            Self::Issuer => Reason::TOKEN_ISSUER,
            Self::Audience => Reason::TOKEN_AUDIENCE,
            Self::Expired => Reason::TOKEN_EXPIRED,
            Self::NotYetValid => Reason::TOKEN_NOT_YET_VALID,
            Self::Key => Reason::TOKEN_KEY,
            Self::Signature => Reason::TOKEN_SIGNATURE,
        }
    }
}
