//! Texts that rules ask for: a value, or a regular expression for the whole of it.

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;
use weft_model::{NameMatch, REGEX_SIZE};

/// A regular expression cannot be used.
#[derive(Debug, Error)]
#[error(
    "compile the regular expression `{pattern}`: {source}; it has to be RE2 syntax, and {kib} KiB at most compiled",
    kib = REGEX_SIZE / 1024
)]
pub struct PatternError {
    /// The expression.
    pub pattern: String,
    /// What is wrong with it.
    pub source: regex::Error,
}

/// A regular expression that has to match the whole text, in linear time.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

/// What a text has to be.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Exact(Box<[u8]>),
    Pattern(Pattern),
}

impl Pattern {
    /// `\d`, `\w`, `\s` and `\b` are ASCII, as in RE2, unless the expression itself needs Unicode (`\p{Greek}`).
    pub(super) fn compile(pattern: &str) -> Result<Self, PatternError> {
        let build = |text: &str| {
            let with = |unicode| {
                RegexBuilder::new(text)
                    .unicode(unicode)
                    .size_limit(REGEX_SIZE)
                    .dfa_size_limit(REGEX_SIZE)
                    .build()
            };
            with(false).or_else(|_| with(true))
        };
        // By itself first: `a)(b` is valid only once it is wrapped.
        let whole = build(pattern).and_then(|_| build(&format!(r"\A(?:{pattern})\z")));
        whole.map(Self).map_err(|source| PatternError { pattern: pattern.to_owned(), source })
    }

    pub(super) fn matches(&self, whole: &[u8]) -> bool {
        self.0.is_match(whole)
    }
}

impl Text {
    pub(super) fn compile(wanted: &NameMatch) -> Result<Self, PatternError> {
        Ok(match wanted {
            NameMatch::Exact(value) => Self::Exact(value.as_bytes().into()),
            NameMatch::Regex(pattern) => Self::Pattern(Pattern::compile(pattern)?),
        })
    }

    pub(super) fn matches(&self, whole: &[u8]) -> bool {
        match self {
            Self::Exact(value) => **value == *whole,
            Self::Pattern(pattern) => pattern.matches(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn an_expression_is_for_the_whole_value() {
        for (pattern, text, matches) in [
            ("v[0-9]+", "v12", true),
            ("v[0-9]+", "v12a", false),
            ("v[0-9]+", "av12", false),
            ("a|ab", "ab", true),
            ("^a$", "a", true),
            ("a", "a\n", false),
            (r"\d", "٣", false),
            (r"\p{Greek}+", "αβ", true),
            (".*", "\u{e9}", true),
            ("", "", true),
        ] {
            assert_eq!(
                Pattern::compile(pattern).unwrap().matches(text.as_bytes()),
                matches,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused_with_its_text() {
        for pattern in ["(", "a)(b", "(?=a)", r"(a)\1", "(((a{100}){100}){100})"] {
            let error = Pattern::compile(pattern).unwrap_err();
            assert!(error.to_string().contains(pattern), "{error}");
        }
    }
}
