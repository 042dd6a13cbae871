//! How a source that reads an API server is doing, for people.

use std::{collections::BTreeMap, time::SystemTime};

use super::{follow::Told, trouble::Trouble};

/// How it is between the agent and its API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Where the API server is.
    pub server: String,
    /// Whether all that there is has been listed since the agent began.
    pub synced: bool,
    /// Kinds that have not been listed yet.
    pub unlisted: Vec<&'static str>,
    /// When what is in force was kept, where that is all that is known so far.
    pub kept: Option<SystemTime>,
    /// Since when nothing is heard from the API server, and what is heard instead.
    pub away: Option<Failing>,
    /// Kinds that the API server refuses, and so are as they were told last.
    pub refused: BTreeMap<&'static str, Failing>,
    /// There is no Node of this agent's name.
    pub no_such_node: bool,
}

/// What fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: SystemTime,
    /// What is said.
    pub error: String,
    /// What to do about it.
    pub remedy: String,
}

/// What fails of each kind, as it is told.
#[derive(Debug, Default)]
pub(super) struct Failures {
    of: BTreeMap<&'static str, (SystemTime, Trouble)>,
}

impl Failures {
    /// Takes over what was told of `kind`; whether that changes anything.
    pub(super) fn take(&mut self, kind: &'static str, told: &Told) -> bool {
        match told {
            Told::Failed(trouble) => self.fail(kind, trouble),
            _ => self.of.remove(kind).is_some(),
        }
    }

    /// It fails.
    pub(super) fn fail(&mut self, kind: &'static str, trouble: &Trouble) -> bool {
        let (_, known) = self.of.entry(kind).or_insert_with(|| (SystemTime::now(), Trouble::Expired));
        let other = known != trouble;
        if other {
            tracing::warn!(kind, error = %trouble, "the API server does not tell of a kind; it is tried again");
            known.clone_from(trouble);
        }
        other
    }

    /// Nobody asks for it any more.
    pub(super) fn forget(&mut self, kind: &'static str) {
        self.of.remove(kind);
    }

    /// The API server does not answer: since when, at the longest.
    pub(super) fn away(&self) -> Option<Failing> {
        let away = self.of.values().filter(|(_, trouble)| matches!(trouble, Trouble::Away(_)));
        let (since, trouble) = away.min_by_key(|(since, _)| *since)?;
        let remedy =
            "what was told last stays in force; see to the API server, or to the way there".to_owned();
        Some(Failing { since: *since, error: trouble.to_string(), remedy })
    }

    /// Whether this agent may not read `kind`.
    pub(super) fn are_forbidden(&self, kind: &str) -> bool {
        self.of.get(kind).is_some_and(|(_, trouble)| matches!(trouble, Trouble::Forbidden(_)))
    }

    /// What it refuses to tell, by kind.
    pub(super) fn refused(&self) -> BTreeMap<&'static str, Failing> {
        let refused = self.of.iter().filter(|(_, (_, trouble))| !matches!(trouble, Trouble::Away(_)));
        refused
            .map(|(kind, (since, trouble))| {
                let remedy = match trouble {
                    Trouble::Forbidden(_) => {
                        "grant the agent's ServiceAccount that verb (get, list and watch are needed)"
                            .to_owned()
                    }
                    _ => "what was told last of them stays in force".to_owned(),
                };
                (*kind, Failing { since: *since, error: trouble.to_string(), remedy })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_away_since_the_first_kind_failed_until_the_last_is_told_again() {
        let mut failures = Failures::default();
        let away = || Told::Failed(Trouble::Away("connection refused".into()));
        assert!(failures.take("Pod", &away()));
        let since = failures.away().unwrap().since;
        assert!(failures.take("Service", &away()));
        assert!(!failures.take("Pod", &away()), "again the same is no news");
        assert_eq!(failures.away().unwrap().since, since);
        assert!(failures.take("Pod", &Told::Answered));
        assert!(failures.away().unwrap().since >= since);
        assert!(failures.take("Service", &Told::Listing));
        assert_eq!(failures.away(), None);
    }

    #[test]
    fn a_right_that_lacks_is_told_by_its_kind_and_not_as_a_server_that_is_away() {
        let mut failures = Failures::default();
        let message = r#"pods is forbidden: User "x" cannot watch resource "pods" in API group "" at the cluster scope"#;
        failures.take("Pod", &Told::Failed(Trouble::Forbidden(message.into())));
        assert_eq!(failures.away(), None);
        let refused = failures.refused();
        assert!(refused["Pod"].error.contains("cannot watch") && refused["Pod"].remedy.contains("grant"));
    }
}
