//! What to do about a Lease, by what is known of it. Asks nobody anything.

use std::sync::Arc;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use tokio::time::Instant;

use super::{DURATION, SURE};

/// One that would hold it.
#[derive(Debug)]
pub(super) struct Candidate {
    namespace: String,
    name: &'static str,
    replica: Arc<str>,
    /// The Lease as it was seen last, and when that version was first seen.
    seen: Option<(Lease, Instant)>,
    /// When it was renewed last by us, if we hold it.
    renewed: Option<Instant>,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Step {
    /// Another one holds it.
    Wait,
    Create(Box<Lease>),
    Replace(Box<Lease>),
}

impl Candidate {
    pub(super) fn new(namespace: &str, name: &'static str, replica: Arc<str>) -> Self {
        Self { namespace: namespace.to_owned(), name, replica, seen: None, renewed: None }
    }

    pub(super) fn lease(&self) -> &'static str {
        self.name
    }

    /// What to do where the Lease is `known`, as asked for at `now`.
    pub(super) fn step(&mut self, known: Option<&Lease>, now: Instant) -> Step {
        let Some(known) = known else {
            self.renewed = None;
            return Step::Create(Box::new(self.new_lease()));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| version(seen) != version(known)) {
            self.seen = Some((known.clone(), now));
        }
        let holder = holder(known);
        if holder == Some(&*self.replica) {
            return Step::Replace(Box::new(renewal(known)));
        }
        self.renewed = None;
        if holder.is_some() && self.runs_out().is_some_and(|then| now < then) {
            return Step::Wait;
        }
        Step::Replace(Box::new(self.takeover(known)))
    }

    /// The Lease is ours, by a request that began at `now`.
    pub(super) fn holds(&mut self, lease: &Lease, now: Instant) {
        self.seen = Some((lease.clone(), now));
        self.renewed = Some(now);
    }

    /// Until when nobody else can hold it, where we do.
    pub(super) fn sure_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + SURE)
    }

    /// When the Lease that was seen may be taken, where another one holds it.
    pub(super) fn runs_out(&self) -> Option<Instant> {
        let (lease, since) = self.seen.as_ref()?;
        let other = holder(lease).is_some_and(|holder| holder != &*self.replica);
        let seconds =
            lease.spec.as_ref()?.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = seconds.map_or(DURATION, std::time::Duration::from_secs);
        other.then(|| *since + lasts)
    }

    /// The Lease without a holder, if it is ours.
    pub(super) fn released(&mut self, mut lease: Lease) -> Option<Lease> {
        self.renewed = None;
        if holder(&lease) != Some(&*self.replica) {
            return None;
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        Some(lease)
    }

    fn new_lease(&self) -> Lease {
        let (name, namespace) = (Some(self.name.to_owned()), Some(self.namespace.clone()));
        let metadata = ObjectMeta { name, namespace, ..ObjectMeta::default() };
        Lease { metadata, spec: Some(self.spec(0)) }
    }

    fn takeover(&self, known: &Lease) -> Lease {
        let before = known.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default();
        Lease { spec: Some(self.spec(before.saturating_add(1))), ..known.clone() }
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = now();
        LeaseSpec {
            acquire_time: Some(now.clone()),
            holder_identity: Some(self.replica.to_string()),
            lease_duration_seconds: seconds(),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

fn renewal(known: &Lease) -> Lease {
    let mut lease = known.clone();
    let spec = lease.spec.get_or_insert_default();
    spec.renew_time = Some(now());
    spec.lease_duration_seconds = seconds();
    lease
}

fn version(lease: &Lease) -> Option<&str> {
    lease.metadata.resource_version.as_deref()
}

/// Nobody holds a Lease that was let go of.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn now() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

fn seconds() -> Option<i32> {
    i32::try_from(DURATION.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The Lease that an API server holds: each change has a version of its own.
    #[derive(Default)]
    struct Stored(Option<Lease>, u32);

    impl Stored {
        fn turn(&mut self, candidate: &mut Candidate, now: Instant) -> bool {
            let lease = match candidate.step(self.0.as_ref(), now) {
                Step::Wait => return false,
                Step::Create(lease) | Step::Replace(lease) => *lease,
            };
            self.put(lease);
            candidate.holds(self.0.as_ref().unwrap(), now);
            true
        }

        fn put(&mut self, mut lease: Lease) {
            self.1 += 1;
            lease.metadata.resource_version = Some(self.1.to_string());
            self.0 = Some(lease);
        }

        fn holder(&self) -> Option<&str> {
            holder(self.0.as_ref()?)
        }
    }

    fn two() -> (Stored, Candidate, Candidate) {
        let candidate = |name: &str| Candidate::new("weft-system", "weft-controller", name.into());
        (Stored::default(), candidate("a"), candidate("b"))
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nobody_takes_what_another_one_renews() {
        let (mut stored, mut a, mut b) = two();
        let began = Instant::now();
        for i in 0..60 {
            assert!(stored.turn(&mut a, began + 2 * i * SECOND));
            assert!(!stored.turn(&mut b, began + 2 * i * SECOND));
        }
        assert_eq!(b.sure_until(), None);
    }

    #[test]
    fn a_holder_that_is_gone_is_replaced_after_its_time_and_was_sure_of_less() {
        let (mut stored, mut a, mut b) = two();
        let began = Instant::now();
        stored.turn(&mut a, began);
        assert!(!stored.turn(&mut b, began + SECOND));
        assert!(!stored.turn(&mut b, began + 15 * SECOND));
        assert!(
            a.sure_until().unwrap() + 4 * SECOND < b.runs_out().unwrap(),
            "there is time for what it had begun"
        );
        assert!(stored.turn(&mut b, began + 16 * SECOND));
        assert_eq!(stored.holder(), Some("b"));
        assert_eq!(stored.0.as_ref().unwrap().spec.as_ref().unwrap().lease_transitions, Some(1));
        assert!(!stored.turn(&mut a, began + 17 * SECOND), "it has come back");
        assert_eq!(a.sure_until(), None);
    }

    #[test]
    fn what_was_let_go_of_is_taken_at_once() {
        let (mut stored, mut a, mut b) = two();
        let began = Instant::now();
        stored.turn(&mut a, began);
        stored.turn(&mut b, began);
        let released = a.released(stored.0.clone().unwrap()).unwrap();
        stored.put(released);
        assert_eq!((stored.holder(), a.sure_until()), (None, None));
        assert!(stored.turn(&mut b, began + SECOND));
        let lease = stored.0.clone().unwrap();
        assert!(b.released(lease.clone()).is_some() && a.released(lease).is_none());
    }

    #[test]
    fn a_clock_that_is_wrong_takes_nothing() {
        let (mut stored, mut a, mut b) = two();
        let began = Instant::now();
        stored.turn(&mut a, began);
        let spec = stored.0.as_mut().unwrap().spec.as_mut().unwrap();
        spec.renew_time = Some(MicroTime(jiff::Timestamp::UNIX_EPOCH));
        assert!(!stored.turn(&mut b, began), "the time that another one has written is not looked at");
    }
}
