//! How far the list of one kind is told.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use weft_model::ObjectName;

/// The objects of one kind that are known. A list is one swap: what it does not name is gone at its end, and not before.
#[derive(Debug, Default)]
pub(super) struct Listing {
    known: HashSet<ObjectName>,
    /// What is seen of the list that is being told, and since when it is.
    told: Option<(HashSet<ObjectName>, Instant)>,
    listed: bool,
}

impl Listing {
    /// With the same objects, to be listed from the beginning.
    pub(super) fn anew(self) -> Self {
        Self { known: self.known, told: None, listed: false }
    }

    /// A list begins, perhaps in place of one that broke off.
    pub(super) fn begin(&mut self, now: Instant) {
        let since = self.told.take().map_or(now, |(_, since)| since);
        self.told = Some((HashSet::new(), since));
    }

    /// The list is told; these objects were known and are not in it.
    pub(super) fn end(&mut self) -> Vec<ObjectName> {
        let Some((seen, _)) = self.told.take() else { return Vec::new() };
        self.listed = true;
        let known = std::mem::replace(&mut self.known, seen);
        known.into_iter().filter(|name| !self.known.contains(name)).collect()
    }

    /// There is this object.
    pub(super) fn note(&mut self, name: ObjectName) {
        if let Some((seen, _)) = &mut self.told {
            seen.insert(name.clone());
        }
        self.known.insert(name);
    }

    /// It is gone.
    pub(super) fn forget(&mut self, name: &ObjectName) {
        if let Some((seen, _)) = &mut self.told {
            seen.remove(name);
        }
        self.known.remove(name);
    }

    /// Whether it was told to its end once.
    pub(super) fn was_listed(&self) -> bool {
        self.listed
    }

    /// Whether it is half told, and may soon be told to its end.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| now < due)
    }

    /// Until when nothing is published while it is half told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.told.as_ref().map(|(_, since)| *since + PATIENCE)
    }

    /// Whether there is this object.
    pub(super) fn has(&self, name: &ObjectName) -> bool {
        self.known.contains(name)
    }

    /// All that is known.
    pub(super) fn into_names(self) -> HashSet<ObjectName> {
        self.known
    }
}

/// How long a list may hold back what else happens: objects of the list before are still there, and each is as new as it was told.
const PATIENCE: Duration = Duration::from_secs(10);
