//! Conditions, as they are meant and as they are written.

use serde_json::{Value, json};
use weft_model::{Condition, Count};

/// What is thought of an object, or of one of the references in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opinion {
    /// Whether it is valid, and holds there.
    pub(crate) accepted: Said,
    /// Whether all that it leads to is there; a route's alone.
    pub(crate) resolved: Option<Said>,
    /// In which it holds otherwise than its owner may expect.
    pub(crate) partly: Vec<String>,
}

/// A condition without its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What is the same in all conditions that are written at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'s> {
    pub(super) generation: i64,
    /// As RFC 3339 has it.
    pub(super) now: &'s str,
}

impl Said {
    pub(crate) fn yes(reason: &str) -> Self {
        Self { status: true, reason: reason.to_owned(), message: String::new() }
    }

    pub(crate) fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { status: false, reason: reason.to_owned(), message: message.into() }
    }
}

impl From<&Condition> for Said {
    fn from(condition: &Condition) -> Self {
        let Condition { status, reason, message } = condition;
        Self { status: *status, reason: reason.to_string(), message: message.clone() }
    }
}

impl Opinion {
    pub(crate) fn new(accepted: Said) -> Self {
        Self { accepted, resolved: None, partly: Vec::new() }
    }

    /// Its conditions, where so many nodes have it. `old` are those that are stored: one whose status stays keeps its time. That
    /// this very generation is programmed stays said until the nodes that have not told yet could have.
    pub(super) fn conditions(&self, count: &Count, stamp: Stamp<'_>, old: &Value) -> Value {
        let resolved = self.resolved.as_ref().map(|said| ("ResolvedRefs", said.clone()));
        let all = [("Accepted", self.accepted.clone()), ("Programmed", self.programmed(count))];
        let condition = |(kind, said): (&str, Said)| {
            let stays = kind == "Programmed" && !said.status && self.accepted.status && count.awaited;
            let stored = stays.then(|| programmed_before(old, stamp)).flatten();
            stored.cloned().unwrap_or_else(|| said.condition(kind, stamp, old))
        };
        all.into_iter().chain(resolved).map(condition).collect()
    }

    /// Whether nodes have it.
    fn programmed(&self, count: &Count) -> Said {
        match (&self.accepted, &*self.accepted.reason) {
            (Said { status: true, .. }, _) => self.programmed_by(count),
            (said, "Conflicted") => Said::no("Overridden", said.message.clone()),
            (_, "TargetNotFound" | "NoMatchingParent") => {
                Said::no("Reconciling", "what it is for is not there")
            }
            (said, _) => Said::no("Invalid", format!("it is not accepted: {}", said.reason)),
        }
    }

    fn programmed_by(&self, count: &Count) -> Said {
        let nodes = format!("{}/{} nodes", count.programmed, count.desired);
        let late = count.late.iter().map(|(node, why)| format!("{node}: {why}"));
        let words: Vec<_> = std::iter::once(nodes).chain(late).chain(self.partly.iter().cloned()).collect();
        let (status, reason) = match () {
            () if count.programmed < count.desired || count.desired == 0 => (false, "Reconciling"),
            () if self.partly.is_empty() => (true, "Programmed"),
            () => (true, "PartiallyProgrammed"),
        };
        Said { status, reason: reason.to_owned(), message: words.join("; ") }
    }
}

/// The condition that says so, of the very generation.
fn programmed_before<'a>(old: &'a Value, stamp: Stamp<'_>) -> Option<&'a Value> {
    old.as_array()?.iter().find(|condition| {
        condition["type"] == "Programmed"
            && condition["status"] == "True"
            && condition["observedGeneration"] == stamp.generation
    })
}

impl Said {
    fn condition(&self, kind: &str, stamp: Stamp<'_>, old: &Value) -> Value {
        let status = if self.status { "True" } else { "False" };
        let old = old.as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
        let old = old.filter(|condition| condition["status"] == status);
        let since = old.and_then(|condition| condition["lastTransitionTime"].as_str());
        json!({
            "type": kind,
            "status": status,
            "reason": self.reason,
            "message": cut(&self.message, LONGEST),
            "observedGeneration": stamp.generation,
            "lastTransitionTime": since.unwrap_or(stamp.now),
        })
    }
}

/// The first `longest` bytes of a text, or less, in whole characters.
pub(super) fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// Of a message, in bytes: Kubernetes lets through 32 768, which nobody would read.
const LONGEST: usize = 4096;
