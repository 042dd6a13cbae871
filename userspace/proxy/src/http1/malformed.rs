//! Why a message is refused: one closed list.

use std::{error::Error, io};

macro_rules! malformed {
    ($($(#[$doc:meta])* $variant:ident = $status:literal, $text:literal;)*) => {
        /// What is wrong with a message. Each ends its connection: nobody can say where the next message begins.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Malformed {
            $($(#[$doc])* #[error($text)] $variant,)*
        }

        impl Malformed {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word that stands in `x-weft-reason`, metrics and logs. It never changes.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// The status of the answer to a client.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

malformed! {
    /// RFC 9112 2.2: a line ends with CR LF. A recipient may take LF alone; those that do not read another message.
    BareLf = 400, "a line ends with LF alone, not with CR LF";
    /// RFC 9112 2.2: a CR that no LF follows is invalid.
    BareCr = 400, "a CR stands inside a line";
    /// RFC 9112 2.2: a server should ignore an empty line before a request; here are more than [`Limits::empty_lines`].
    ///
    /// [`Limits::empty_lines`]: super::Limits::empty_lines
    EmptyLines = 400, "too many empty lines stand before the message";
    /// RFC 9112 3: method, one space, target, one space, version.
    RequestLine = 400, "the request line is not method, target and version with one space between them";
    /// RFC 9112 3.1, RFC 9110 5.6.2: a method is a token.
    Method = 400, "the method is not a token";
    /// RFC 9112 3.2: the target has a character that no target has.
    Target = 400, "the request target has a character that no target has";
    /// RFC 9112 3.2: the target's form does not go with the method, or is none of the four.
    TargetForm = 400, "the form of the request target does not go with the method";
    /// RFC 9112 2.3: neither HTTP/1.0 nor HTTP/1.1.
    Version = 505, "the version is neither HTTP/1.0 nor HTTP/1.1";
    /// RFC 9112 4: version, one space, three digits, reason.
    StatusLine = 400, "the status line is not version, status and reason";
    /// RFC 9112 5, RFC 9110 5.1: a field line begins with a token and a colon.
    FieldName = 400, "a field's name is not a token";
    /// RFC 9112 5.1: no whitespace between a field's name and its colon.
    SpaceBeforeColon = 400, "whitespace stands between a field's name and its colon";
    /// RFC 9112 5.2: a line that begins with whitespace.
    Folded = 400, "a field is folded over several lines";
    /// RFC 9110 5.5: a value has NUL or another control character.
    FieldValue = 400, "a field's value has a control character";
    /// RFC 9112 3.2: a request of HTTP/1.1 has a Host.
    HostMissing = 400, "the request has no Host";
    /// RFC 9112 3.2: more than one Host line.
    HostRepeated = 400, "the request has several Host lines";
    /// RFC 9112 3.2, RFC 9110 7.2: the value is no host and port. Of RFC 3986's reg-names only those that can be
    /// names in DNS are taken: a comma or a percent sign gives one Host two readings.
    HostInvalid = 400, "the Host is not a name or an address with an optional port";
    /// RFC 9112 3.2.2: the target's authority and Host differ.
    HostConflict = 400, "the Host is another than the request target's";
    /// RFC 9112 6.3, RFC 9110 8.6: not a decimal number below 2^63. A leading zero is refused, too: there are parsers
    /// that read octal.
    ContentLength = 400, "the Content-Length is not a decimal number";
    /// RFC 9112 6.3: several Content-Length, as lines or as a list, equal or not.
    ContentLengthRepeated = 400, "the message has several Content-Length";
    /// RFC 9112 6.1: Content-Length beside Transfer-Encoding, in either order.
    LengthAndEncoding = 400, "the message has both Content-Length and Transfer-Encoding";
    /// RFC 9112 6.1: Transfer-Encoding is there, and it is not `chunked` at the end and once.
    Encoding = 400, "the Transfer-Encoding does not end with chunked, once";
    /// RFC 9112 6.1: a coding before `chunked`, which weft does not decode.
    EncodingUnsupported = 501, "the Transfer-Encoding names a coding other than chunked";
    /// RFC 9112 6.1: Transfer-Encoding in HTTP/1.0, whose framing is faulty.
    EncodingInHttp10 = 400, "a message of HTTP/1.0 has a Transfer-Encoding";
    /// RFC 9112 6.3, RFC 9110 9.3.6, 15.2, 15.3.5: a body where there is none: CONNECT, 1xx, 204, 2xx to CONNECT.
    BodyForbidden = 400, "the message announces a body where it can have none";
    /// `Content_Length` and `Transfer_Encoding` are tokens (RFC 9110 5.1), but servers behind CGI read them as the
    /// fields that they look like.
    Lookalike = 400, "a field's name can be taken for Content-Length or Transfer-Encoding";
    /// RFC 9110 10.1.1: an expectation other than a single `100-continue`.
    Expectation = 417, "the request expects something other than 100-continue";
    /// RFC 9112 7.1: a chunk begins with hexadecimal digits, at most sixteen and below 2^63.
    ChunkSize = 400, "a chunk's size is not a hexadecimal number";
    /// RFC 9112 7.1.1: what follows a chunk's size is not `;name`, `;name=token` or `;name="text"`. Whitespace there is
    /// "bad" by the RFC's own word, and refused.
    ChunkExtension = 400, "a chunk's extension is malformed";
    /// RFC 9112 7.1: the data of a chunk ends where its size says, with CR LF.
    ChunkEnd = 400, "a chunk does not end where its size says";
    /// RFC 9112 7.1.1: a recipient ought to limit the length of chunk extensions.
    ChunkLineTooLong = 400, "a chunk's extensions are too long";
    /// RFC 9110 6.5.1: a field for framing, routing, authentication or content is no trailer. Refused, not dropped:
    /// bytes pass unchanged or not at all.
    Trailer = 400, "a field stands in the trailers that may not stand there";
    /// RFC 9112 3, RFC 9110 15.5.15: the request line is longer than [`Limits::line`].
    ///
    /// [`Limits::line`]: super::Limits::line
    TargetTooLong = 414, "the request line is too long";
    /// RFC 9110 5.4, RFC 6585 5: a field line is longer than [`Limits::line`].
    ///
    /// [`Limits::line`]: super::Limits::line
    FieldTooLong = 431, "a field line is too long";
    /// RFC 9110 5.4, RFC 6585 5: more fields than [`Limits::fields`].
    ///
    /// [`Limits::fields`]: super::Limits::fields
    TooManyFields = 431, "the message has too many fields";
    /// RFC 9110 5.4, RFC 6585 5: the head, or the trailers, have more bytes than [`Limits::head`].
    ///
    /// [`Limits::head`]: super::Limits::head
    HeadTooLarge = 431, "the head is too large";
    /// RFC 9112 9.2, RFC 9110 7.8: bytes that nothing calls for: an answer without a request, a switch of protocols that
    /// nobody asked for, a request behind one that may still switch.
    OutOfTurn = 400, "bytes came that no request and no answer calls for";
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

    /// The answer that ends the client's connection: status, `connection: close`, `x-weft-reason`.
    pub fn answer(self) -> Vec<u8> {
        let status = self.status();
        let phrase = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let (phrase, word) = (phrase.unwrap_or_default(), self.word());
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
    fn every_status_has_a_name_and_every_word_is_its_own() {
        for malformed in Malformed::ALL {
            assert!([400, 414, 417, 431, 501, 505].contains(&malformed.status()), "{malformed:?}");
            assert!(
                !malformed.answer().starts_with(format!("HTTP/1.1 {} \r", malformed.status()).as_bytes())
            );
            assert_eq!(Malformed::ALL.iter().filter(|other| other.word() == malformed.word()).count(), 1);
        }
    }
}
