//! The lines of a head or of trailers, one after the other, however they arrive.

use super::{super::Malformed, Limits};

/// How far a section has been read. Its bytes stay with the caller, who hands in all of them again, and more.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Where the next line begins.
    at: usize,
    /// So far there is no LF: each byte is searched once.
    searched: usize,
    fields: usize,
}

impl Section {
    /// The next line of `bytes` without its CR LF, once it is whole. `too_long` says what a line is that exceeds
    /// [`Limits::line`]. The limits come first: whatever a line holds, its length decides the same for every split.
    pub(super) fn line<'a>(
        &mut self,
        bytes: &'a [u8],
        limits: &Limits,
        too_long: Malformed,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        let (end, excess) = match self.at + limits.line {
            end if end <= limits.head => (end, too_long),
            _ => (limits.head, Malformed::HeadTooLarge),
        };
        let window = &bytes[..bytes.len().min(end)];
        let Some(found) = memchr::memchr(b'\n', window.get(self.searched..).unwrap_or_default()) else {
            self.searched = window.len();
            return if window.len() == end { Err(excess) } else { Ok(None) };
        };
        let lf = self.searched + found;
        let line = &bytes[self.at..lf];
        (self.at, self.searched) = (lf + 1, lf + 1);
        line.strip_suffix(b"\r").map(Some).ok_or(Malformed::BareLf)
    }

    /// Counts a field line.
    pub(super) fn field(&mut self, limits: &Limits) -> Result<(), Malformed> {
        self.fields += 1;
        if self.fields > limits.fields { Err(Malformed::TooManyFields) } else { Ok(()) }
    }

    /// Bytes of all lines so far.
    pub(super) fn len(&self) -> usize {
        self.at
    }
}
