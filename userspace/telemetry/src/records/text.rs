//! Text with an end.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use super::shared;

/// Text of at most `MAX` bytes without control characters: what is longer is cut before a character, and what would
/// move a terminal's cursor or begin a line in a log is shown as `?`.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(Arc<str>);

impl<const MAX: usize> From<&str> for Text<MAX> {
    fn from(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(MAX)];
        if has_control(text) {
            return Self(text.replace(char::is_control, "?").into());
        }
        Self(text.into())
    }
}

impl<const MAX: usize> Text<MAX> {
    /// The same text, which mostly comes again: then it is shared with the last one that this thread has made.
    pub fn again(text: &str) -> Self {
        let fits = text.len() <= MAX && !has_control(text);
        if fits { Self(shared::text(text)) } else { text.into() }
    }

    /// The text itself, without a copy.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// Of most texts all bytes are looked at together.
fn has_control(text: &str) -> bool {
    let plain = text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte));
    !plain && text.contains(char::is_control)
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Arc<str> = shared::deserialize(deserializer)?;
        let fits = text.len() <= MAX && !has_control(&text);
        Ok(if fits { Self(text) } else { Self::from(&*text) })
    }
}
