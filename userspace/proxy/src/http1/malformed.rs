//! Why a message is refused: what the guard looks for, each with its place in the RFCs and its [`Reason`].

use std::{error::Error, io};

use weft_abi::Reason;

macro_rules! malformed {
    ($($(#[$doc:meta])* $variant:ident = $reason:ident;)*) => {
        /// What is wrong with a message. Each ends its connection: nobody can say where the next message begins.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
        #[error("{}", self.reason().meaning())]
        pub enum Malformed {
            $($(#[$doc])* $variant,)*
        }

        impl Malformed {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its place in the closed list.
            pub const fn reason(self) -> Reason {
                match self { $(Self::$variant => Reason::$reason,)* }
            }
        }
    };
}

malformed! {
    /// RFC 9112 2.2: a line ends with CR LF. A recipient may take LF alone; those that do not read another message.
    BareLf = BARE_LF;
    /// RFC 9112 2.2: a CR that no LF follows is invalid.
    BareCr = BARE_CR;
    /// RFC 9112 2.2: a server should ignore an empty line before a request; here are more than [`Limits::empty_lines`].
    ///
    /// [`Limits::empty_lines`]: super::Limits::empty_lines
    EmptyLines = EMPTY_LINES;
    /// RFC 9112 3: method, one space, target, one space, version.
    RequestLine = REQUEST_LINE;
    /// RFC 9112 3.1, RFC 9110 5.6.2: a method is a token.
    Method = METHOD;
    /// RFC 9112 3.2: the target has a character that no target has.
    Target = TARGET;
    /// RFC 9112 3.2: the target's form does not go with the method, or is none of the four.
    TargetForm = TARGET_FORM;
    /// RFC 9112 2.3: neither HTTP/1.0 nor HTTP/1.1.
    Version = VERSION;
    /// RFC 9112 4: version, one space, three digits, reason.
    StatusLine = STATUS_LINE;
    /// RFC 9112 5, RFC 9110 5.1: a field line begins with a token and a colon.
    FieldName = FIELD_NAME;
    /// RFC 9112 5.1: no whitespace between a field's name and its colon.
    SpaceBeforeColon = SPACE_BEFORE_COLON;
    /// RFC 9112 5.2: a line that begins with whitespace.
    Folded = FOLDED;
    /// RFC 9110 5.5: a value has NUL or another control character.
    FieldValue = FIELD_VALUE;
    /// RFC 9112 3.2: a request of HTTP/1.1 has a Host.
    HostMissing = HOST_MISSING;
    /// RFC 9112 3.2: more than one Host line.
    HostRepeated = HOST_REPEATED;
    /// RFC 9112 3.2, RFC 9110 7.2: the value is no host and port. Of RFC 3986's reg-names only those that can be
    /// names in DNS are taken: a comma or a percent sign gives one Host two readings.
    HostInvalid = HOST_INVALID;
    /// RFC 9112 3.2.2: the target's authority and Host differ.
    HostConflict = HOST_CONFLICT;
    /// RFC 9112 6.3, RFC 9110 8.6: not a decimal number below 2^63. A leading zero is refused, too: there are parsers
    /// that read octal.
    ContentLength = CONTENT_LENGTH;
    /// RFC 9112 6.3: several Content-Length, as lines or as a list, equal or not.
    ContentLengthRepeated = CONTENT_LENGTH_REPEATED;
    /// RFC 9112 6.1: Content-Length beside Transfer-Encoding, in either order.
    LengthAndEncoding = LENGTH_AND_ENCODING;
    /// RFC 9112 6.1: Transfer-Encoding is there, and it is not `chunked` at the end and once.
    Encoding = ENCODING;
    /// RFC 9112 6.1: a coding before `chunked`, which weft does not decode.
    EncodingUnsupported = ENCODING_UNSUPPORTED;
    /// RFC 9112 6.1: Transfer-Encoding in HTTP/1.0, whose framing is faulty.
    EncodingInHttp10 = ENCODING_IN_HTTP10;
    /// RFC 9112 6.3, RFC 9110 9.3.6, 15.2, 15.3.5: a body where there is none: CONNECT, 1xx, 204, 2xx to CONNECT.
    BodyForbidden = BODY_FORBIDDEN;
    /// `Content_Length` and `Transfer_Encoding` are tokens (RFC 9110 5.1), but servers behind CGI read them as the
    /// fields that they look like.
    Lookalike = LOOKALIKE;
    /// RFC 9110 10.1.1: an expectation other than a single `100-continue`.
    Expectation = EXPECTATION;
    /// RFC 9112 7.1: a chunk begins with hexadecimal digits, at most sixteen and below 2^63.
    ChunkSize = CHUNK_SIZE;
    /// RFC 9112 7.1.1: what follows a chunk's size is not `;name`, `;name=token` or `;name="text"`. Whitespace there is
    /// "bad" by the RFC's own word, and refused.
    ChunkExtension = CHUNK_EXTENSION;
    /// RFC 9112 7.1: the data of a chunk ends where its size says, with CR LF.
    ChunkEnd = CHUNK_END;
    /// RFC 9112 7.1.1: a recipient ought to limit the length of chunk extensions.
    ChunkLineTooLong = CHUNK_LINE_TOO_LONG;
    /// RFC 9110 6.5.1: a field for framing, routing, authentication or content is no trailer. Refused, not dropped:
    /// bytes pass unchanged or not at all.
    Trailer = TRAILER;
    /// RFC 9112 3, RFC 9110 15.5.15: the request line is longer than [`Limits::line`].
    ///
    /// [`Limits::line`]: super::Limits::line
    TargetTooLong = TARGET_TOO_LONG;
    /// RFC 9110 5.4, RFC 6585 5: a field line is longer than [`Limits::line`].
    ///
    /// [`Limits::line`]: super::Limits::line
    FieldTooLong = FIELD_TOO_LONG;
    /// RFC 9110 5.4, RFC 6585 5: more fields than [`Limits::fields`].
    ///
    /// [`Limits::fields`]: super::Limits::fields
    TooManyFields = TOO_MANY_FIELDS;
    /// RFC 9110 5.4, RFC 6585 5: the head, or the trailers, have more bytes than [`Limits::head`].
    ///
    /// [`Limits::head`]: super::Limits::head
    HeadTooLarge = HEAD_TOO_LARGE;
    /// RFC 9112 9.2, RFC 9110 7.8: bytes that nothing calls for: an answer without a request, a switch of protocols that
    /// nobody asked for, a request behind one that may still switch.
    OutOfTurn = OUT_OF_TURN;
}

impl Malformed {
    /// What the guard found, if that is why `error` came about: of a read, or of a body that hyper could not read to
    /// its end.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(*found);
            }
            // `io::Error::source` skips the error that it carries.
            let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match carried {
                Some(carried) => Some(carried),
                None => error.source(),
            };
        }
        None
    }

    /// The status of the answer to a client.
    pub fn status(self) -> u16 {
        self.reason()
            .status()
            .expect("every reason of a malformed message has a status; a test asks all of them")
    }

    /// The answer that ends the client's connection: status, `connection: close`, `x-weft-reason`.
    pub fn answer(self) -> Vec<u8> {
        let status = self.status();
        let phrase = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let (phrase, word) = (phrase.unwrap_or_default(), self.reason().word());
        format!(
            "HTTP/1.1 {status} {phrase}\r\nconnection: close\r\ncontent-length: 0\r\nx-weft-reason: {word}\r\n\r\n"
        )
        .into_bytes()
    }
}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the body broke off")]
    struct Body(#[source] io::Error);

    #[test]
    fn the_cause_is_found_below_other_errors() {
        let error = Body(Malformed::ChunkEnd.into());
        assert_eq!(Malformed::of(&error), Some(Malformed::ChunkEnd));
        assert_eq!(Malformed::of(&Body(io::ErrorKind::BrokenPipe.into())), None);
    }

    #[test]
    fn an_answer_says_its_status_and_reason_and_ends_the_connection() {
        let answer = String::from_utf8(Malformed::HeadTooLarge.answer()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-weft-reason: HeadTooLarge\r\n"), "{answer}");
    }

    #[test]
    fn every_status_has_a_name_and_every_word_is_the_variants() {
        for malformed in Malformed::ALL {
            assert!([400, 414, 417, 431, 501, 505].contains(&malformed.status()), "{malformed:?}");
            assert!(
                !malformed.answer().starts_with(format!("HTTP/1.1 {} \r", malformed.status()).as_bytes())
            );
            assert_eq!(malformed.reason().flag(), "DPE", "{malformed:?}");
            assert_eq!(malformed.reason().word(), format!("{malformed:?}"));
        }
    }
}
