//! What is known of every kind, and the snapshot of that. Knows no runtime and no API server.

mod listing;
mod pods;
mod revisions;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use serde_json::Value;
use weft_model::{JwksHeld, ObjectName, Snapshot};

pub(super) use self::pods::Pods;
use self::{listing::Listing, revisions::Revisions};
use super::{
    follow::Told,
    kept::{self, Kept},
    resource::{CORE, Resource},
    trim,
};
use crate::{
    announce::Known,
    assembly::Assembly,
    node::Network,
    object::{Key, Kind},
    status::Judgement,
};

/// Objects of an API server, and what was built of them.
#[derive(Debug)]
pub(super) struct Store {
    assembly: Assembly,
    kinds: BTreeMap<Kind, Watched>,
    /// Whether it is known which kinds there are.
    complete: bool,
    pods: Pods,
    /// The last good version of each object that may become a bad one.
    good: BTreeMap<Arc<str>, Arc<Value>>,
    revisions: Revisions,
    /// What is in force until all is listed for the first time.
    kept: Option<Kept>,
    /// Whether what the API server refuses to tell of is done without, where it says nothing of who is who.
    does_without: bool,
    refused: BTreeSet<Kind>,
    /// All was listed once: from then on what is told is in force as it comes.
    begun: bool,
}

#[derive(Debug)]
struct Watched {
    resource: Resource,
    listing: Listing,
}

impl Store {
    /// Nothing is known yet but what `kept` says was in force last.
    pub(super) fn new(node: Arc<str>, mutual_tls: bool, kept: Option<Kept>) -> Self {
        let mut store = Self {
            assembly: Assembly::new(Arc::clone(&node), mutual_tls),
            kinds: BTreeMap::new(),
            complete: false,
            pods: Pods::new(node),
            good: BTreeMap::new(),
            revisions: Revisions::default(),
            kept: None,
            does_without: false,
            refused: BTreeSet::new(),
            begun: false,
        };
        for kind in CORE {
            store.expect(kind, Resource::core(kind));
        }
        if let Some(kept) = kept {
            store.recall(kept);
        }
        store
    }

    /// Pods have joined when agents say so, whose own namespace this is: see [`crate::Options::system`].
    pub(super) fn with_word_of(mut self, system: Option<Arc<str>>) -> Self {
        self.assembly.take_word_of(system);
        self
    }

    /// That is the mesh's, whatever its settings say: see [`crate::Options::trust_domain`].
    pub(super) fn installed_for(mut self, trust_domain: Option<Arc<str>>) -> Self {
        self.assembly.install_for(trust_domain);
        self
    }

    /// `kind` is there: nothing is complete until it has been listed. Again the same is no news.
    pub(super) fn expect(&mut self, kind: Kind, resource: Resource) {
        if self.kinds.get(&kind).is_some_and(|watched| watched.resource == resource) {
            return;
        }
        let seeds = self.kinds.remove(&kind).map(|watched| watched.listing).unwrap_or_default();
        self.kinds.insert(kind, Watched { resource, listing: seeds.anew() });
    }

    /// `kind` is not there (any more), and so are none of its objects.
    pub(super) fn withdraw(&mut self, kind: Kind) {
        let Some(watched) = self.kinds.remove(&kind) else { return };
        for name in watched.listing.into_names() {
            self.remove(kind, &name);
        }
    }

    /// From now on it is known which kinds there are; objects of others, from what was kept, go.
    pub(super) fn know_kinds(&mut self, there: &[Kind]) {
        self.complete = true;
        let gone: Vec<_> = self.kinds.keys().copied().filter(|kind| !there.contains(kind)).collect();
        for kind in gone.into_iter().filter(|kind| !CORE.contains(kind)) {
            self.withdraw(kind);
        }
    }

    /// Takes over what was told of `kind`.
    pub(super) fn take(&mut self, kind: Kind, told: Told, now: Instant) {
        let Some(watched) = self.kinds.get_mut(&kind) else { return };
        match told {
            Told::Listing => watched.listing.begin(now),
            Told::Listed => {
                for name in watched.listing.end() {
                    self.remove(kind, &name);
                }
            }
            Told::Is(mut object) => {
                let seen = self.revisions.see(kind, &watched.resource.api_version, &object);
                trim::trim(&watched.resource, &mut object);
                if let Some(name) = trim::name(&object) {
                    self.put(kind, name.clone(), object);
                    if let Some(seen) = seen {
                        let good = self.assembly.catalog.is_good(&file(kind, &name));
                        self.revisions.keep(kind, &name, seen, good);
                    }
                }
            }
            Told::Was(object) => {
                if let Some(name) = trim::name(&object) {
                    self.forget(kind, &name);
                }
            }
            Told::Answered | Told::Failed(_) => {}
        }
    }

    /// These are the networks of pods now, by their UIDs. Whether that changed anything.
    pub(super) fn place(&mut self, networks: HashMap<Arc<str>, Network>) -> bool {
        let changed = self.pods.place(networks);
        for (name, object) in &changed {
            self.assembly.catalog.put_object(&file(Kind::Pod, name), object);
        }
        let patched = match &mut self.kept {
            Some(kept) => kept.place(&self.pods),
            None => false,
        };
        patched || !changed.is_empty()
    }

    /// The UIDs of this node's pods that have network namespaces.
    pub(super) fn sandboxes(&self) -> Vec<Arc<str>> {
        match &self.kept {
            Some(kept) => kept.uids().chain(self.pods.uids()).cloned().collect(),
            None => self.pods.uids().cloned().collect(),
        }
    }

    /// The pod of this node that has the UID, and where it is: what `snapshot` says of it.
    pub(super) fn known(&self, uid: &str, snapshot: &Snapshot) -> Option<Known> {
        let kept = self.kept.iter().flat_map(Kept::named_uids);
        let (pod, _) = self.pods.named_uids().chain(kept).find(|(_, known)| &***known == uid)?;
        let workload = snapshot.workloads.get(pod)?;
        let found = self.pods.network(uid)?;
        let is_there = workload.netns.as_ref() == Some(&found.path);
        let known = Known { pod: pod.clone(), enrolled: workload.enrolled, version: snapshot.version };
        (is_there && snapshot.version > 0).then_some(known)
    }

    /// These keys are in the snapshots from now on.
    pub(super) fn hold(&mut self, jwks: Arc<JwksHeld>) {
        if let Some(kept) = &mut self.kept {
            kept.hold(&jwks);
        }
        self.assembly.hold(jwks);
    }

    /// From now on there is a snapshot without what the API server refuses to tell of, and no judgement.
    pub(super) fn do_without(&mut self) {
        self.does_without = true;
    }

    /// These kinds the API server refuses to tell of.
    pub(super) fn lacks(&mut self, refused: BTreeSet<Kind>) {
        self.refused = refused;
    }

    /// Whether all that there is was listed once, as far as it is waited for.
    pub(super) fn is_synced(&self) -> bool {
        let spared =
            |kind: &Kind| self.does_without && self.refused.contains(kind) && !IDENTITY.contains(kind);
        let known = |(kind, watched): (&Kind, &Watched)| watched.listing.was_listed() || spared(kind);
        self.begun || (self.complete && self.kinds.iter().all(known))
    }

    /// Whether all of it was.
    fn is_whole(&self) -> bool {
        self.complete && self.kinds.values().all(|watched| watched.listing.was_listed())
    }

    /// Whether what has been told so far is fit to be published: no list is half told, unless that takes too long.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.is_synced() && !self.kinds.values().any(|watched| watched.listing.holds_back(now))
    }

    /// When it is fit to be published though a list is only half told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.is_synced()
            .then(|| self.kinds.values().filter_map(|watched| watched.listing.due()).max())
            .flatten()
    }

    /// The kinds that have not been listed yet.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().filter(|(_, watched)| !watched.listing.was_listed()).map(|(kind, _)| kind.name())
    }

    /// Whether the API server has the object; `None` while that is not known.
    pub(super) fn has(&self, kind: Kind, name: &ObjectName) -> Option<bool> {
        let listing = &self.kinds.get(&kind)?.listing;
        listing.was_listed().then(|| listing.has(name))
    }

    /// The snapshot to enforce now; `None` while nothing is known.
    pub(super) fn snapshot(&mut self) -> Option<Arc<Snapshot>> {
        if !self.is_synced() {
            return self.kept.as_ref().map(|kept| Arc::clone(&kept.snapshot));
        }
        self.begun = true;
        if let Some(kept) = self.kept.take() {
            self.assembly.go_on_after(&kept.snapshot);
        }
        self.assembly.at(Arc::clone(self.revisions.generations()));
        Some(self.assembly.snapshot())
    }

    /// From now on it is judged what is to be said of objects, too.
    pub(super) fn judge(&mut self) {
        self.revisions.judge();
    }

    /// What is to be said of objects by `snapshot`, the last one, and whether anything of that may have changed since
    /// `snapshot` before it; `None` where nothing has, or nobody asks.
    pub(super) fn judgement(
        &mut self,
        snapshot: &Arc<Snapshot>,
        before: &Arc<Judgement>,
    ) -> Option<Arc<Judgement>> {
        // What refers to an object that nobody has told of would be said to be wrong.
        if !self.is_whole() {
            return None;
        }
        let changed = self.revisions.have_changed();
        let revisions = self.revisions.all()?;
        if !changed && before.is_of(snapshot) {
            return None;
        }
        Some(Arc::new(self.assembly.judge(revisions, snapshot, before)))
    }

    /// Since when what is in force is no more than what was kept, in seconds since 1970.
    pub(super) fn kept_at(&self) -> Option<u64> {
        self.kept.as_ref().map(|kept| kept.at)
    }

    /// What the next agent should have of this, and of `snapshot`.
    pub(super) fn to_keep(&self, snapshot: &Arc<Snapshot>) -> kept::Draft {
        kept::Draft {
            snapshot: Arc::clone(snapshot),
            uids: self.pods.named_uids().map(|(name, uid)| (name.clone(), Arc::clone(uid))).collect(),
            good: self.good.values().cloned().collect(),
        }
    }

    fn recall(&mut self, mut kept: Kept) {
        for object in std::mem::take(&mut kept.good) {
            let kind = kept::kind(&object).filter(|kind| !CORE.contains(kind));
            let (Some(kind), Some(name)) = (kind, trim::name(&object)) else { continue };
            let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
            let resource = Resource::optional(kind, version);
            self.kinds.entry(kind).or_insert_with(|| Watched { resource, listing: Listing::default() });
            self.put(kind, name, object);
        }
        self.assembly.take_over();
        self.kept = Some(kept);
    }

    fn put(&mut self, kind: Kind, name: ObjectName, object: Value) {
        let object = if kind == Kind::Pod {
            match self.pods.put(&name, object) {
                Some(object) => object,
                // It runs nowhere yet.
                None => return self.forget(kind, &name),
            }
        } else {
            object
        };
        let file = file(kind, &name);
        self.assembly.catalog.put_object(&file, &object);
        if !CORE.contains(&kind) && self.assembly.catalog.is_good(&file) {
            self.good.insert(file, Arc::new(object));
        }
        if let Some(watched) = self.kinds.get_mut(&kind) {
            watched.listing.note(name);
        }
    }

    fn forget(&mut self, kind: Kind, name: &ObjectName) {
        if let Some(watched) = self.kinds.get_mut(&kind) {
            watched.listing.forget(name);
        }
        self.remove(kind, name);
    }

    fn remove(&mut self, kind: Kind, name: &ObjectName) {
        if kind == Kind::Pod {
            self.pods.remove(name);
        }
        let file = file(kind, name);
        self.good.remove(&file);
        self.revisions.forget(&Key { kind, name: name.clone() });
        self.assembly.catalog.remove(&file);
    }
}

/// The kinds that say who is in the mesh, as whom and where: nothing is known without them.
const IDENTITY: [Kind; 3] = [Kind::Namespace, Kind::Pod, Kind::MeshConfig];

/// The name that an object has in the catalog.
fn file(kind: Kind, name: &ObjectName) -> Arc<str> {
    Key { kind, name: name.clone() }.to_string().into()
}

#[cfg(test)]
mod tests;
