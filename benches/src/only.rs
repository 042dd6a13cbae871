//! Which cases run.

/// The name of a group of cases, or a word that they have in their own names; without one, all of them run.
pub struct Only(pub Option<String>);

impl Only {
    /// Whether a case of `group` runs.
    pub(crate) fn takes(&self, group: &str, case: &str) -> bool {
        self.0.as_deref().is_none_or(
            |word| {
                if GROUPS.contains(&word) { group == word } else { case.contains(word) }
            },
        )
    }
}

/// Cases that share their pods.
const GROUPS: [&str; 3] = ["traffic", "connect", "scale"];

#[cfg(test)]
mod tests {
    use super::Only;

    #[test]
    fn a_word_takes_the_cases_that_have_it_or_a_whole_group() {
        let takes = |word: &str| {
            let only = Only(Some(word.into()));
            [
                ("connect", "connect, 10 services"),
                ("connect", "connect, 10 policy rules"),
                ("traffic", "connections"),
            ]
            .map(|(group, case)| only.takes(group, case))
        };
        assert_eq!(takes("policy"), [false, true, false]);
        assert_eq!(takes("connect"), [true, true, false]);
        assert_eq!(takes("traffic"), [false, false, true]);
        assert!(Only(None).takes("scale", "scale"));
    }
}
