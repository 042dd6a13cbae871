//! The maps of older layouts: what one proxy was told of them, and whether it can hold them.

use super::Answer;
use crate::wishes::Older;

/// What a proxy holds beside the maps of the agent's own layout.
#[derive(Debug, Default)]
pub(super) struct HeldMaps {
    /// Those that were sent last.
    sent: Option<(u64, Answer)>,
    /// It has some, or was sent some.
    any: bool,
}

impl HeldMaps {
    /// What to say of them next.
    pub(super) fn next<'a>(&self, older: &'a Older) -> Option<&'a Older> {
        let is_said = self.sent.is_some_and(|(sent, _)| sent == older.revision);
        let is_news = self.any || !older.maps.is_empty();
        (is_news && !is_said).then_some(older)
    }

    /// Whether it has all that there are: the maps of the agent's own layout may take the place of those that it has.
    pub(super) fn are_all(&self, older: &Older) -> bool {
        older.maps.is_empty() || self.sent == Some((older.revision, Answer::Ack))
    }

    /// Whether it cannot hold them.
    pub(super) fn are_refused(&self, older: &Older) -> bool {
        !older.maps.is_empty() && self.sent == Some((older.revision, Answer::Nack))
    }

    /// Whether those that were sent last were refused.
    pub(super) fn were_refused(&self) -> bool {
        matches!(self.sent, Some((_, Answer::Nack)))
    }

    /// They were sent.
    pub(super) fn sent(&mut self, older: &Older) {
        self.sent = Some((older.revision, Answer::None));
        self.any |= !older.maps.is_empty();
    }

    /// What has come of those of this revision.
    pub(super) fn settle(&mut self, revision: u64, answer: Answer) {
        if let Some((sent, settled)) = &mut self.sent
            && *sent == revision
        {
            *settled = answer;
        }
        // Whoever refuses them has those that it had, and need not be told when they go.
        self.any &= answer != Answer::Nack;
    }
}
