//! Which bytes may stand where: RFC 9110 5.6, RFC 3986 and what is said of its exceptions here.

use super::super::Malformed;

/// RFC 9110 5.6.2.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// The method of a request line, or one byte of it: enough to tell HTTP from something else at once.
pub(super) fn begins_token(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

/// RFC 3986's characters of path and query, and `[ ] { } | ^`: browsers and curl send these as they are, and every
/// reader takes them for themselves.
pub(super) fn is_target(bytes: &[u8]) -> bool {
    all(bytes, TARGET)
}

/// Letters, digits, `-`, `.`, `_` and `~`.
pub(super) fn is_unreserved(bytes: &[u8]) -> bool {
    all(bytes, UNRESERVED)
}

/// RFC 9110 5.5: a field's value, obs-text included.
pub(super) fn check_value(bytes: &[u8]) -> Result<(), Malformed> {
    // Without a way out in the middle the compiler makes vectors of it.
    let control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == DEL;
    let bad = bytes.iter().fold(0, |bad, &byte| bad | u8::from(control(byte)));
    match bad {
        0 => Ok(()),
        _ if bytes.contains(&b'\r') => Err(Malformed::BareCr),
        _ => Err(Malformed::FieldValue),
    }
}

/// RFC 9110 5.6.3: spaces and tabs around, nothing else.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A decimal number below 2^63 without leading zeros.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits
        .iter()
        .try_fold(0_u64, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
        .filter(|number| *number <= LONGEST)
}

/// A body or a chunk is at most this long: the largest number that signed arithmetic reads as well.
pub(super) const LONGEST: u64 = i64::MAX.unsigned_abs();

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&byte| CLASS[usize::from(byte)] & class != 0)
}

const DEL: u8 = 0x7f;
const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const UNRESERVED: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let letter = byte as u8;
        if letter.is_ascii_alphanumeric() {
            class[byte] = TOKEN | TARGET | UNRESERVED;
        }
        byte += 1;
    }
    class = mark(class, b"!#$%&'*+-.^_`|~", TOKEN);
    class = mark(class, b"-._~", UNRESERVED);
    mark(class, b"-._~!$&'()*+,;=:@/?%[]{}|^", TARGET)
};

const fn mark(mut class: [u8; 256], bytes: &[u8], with: u8) -> [u8; 256] {
    let mut at = 0;
    while at < bytes.len() {
        class[bytes[at] as usize] |= with;
        at += 1;
    }
    class
}
