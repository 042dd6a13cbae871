//! A proxy that answers as the test says.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use weft_model::ObjectName;
use weft_transport::handover::{NackReason, Pod};
use weft_transport::memfd::Sealed;
use weft_transport::{Netns, Transparent};

use super::*;
use crate::Maps;

#[test]
fn a_new_proxy_gets_maps_then_the_snapshot_then_every_pod() {
    let mut proxy = Proxy::new([]);
    let wishes = wishes(Some(7), None, &[(1, 1), (2, 1)]);
    assert_eq!(proxy.take_all(&wishes), ["maps", "snapshot 7", "pod 1", "pod 2"]);
    let progress = proxy.given.progress(Some(&wishes));
    assert_eq!((progress.filled, progress.pods, progress.snapshot), (true, 2, Some(7)));
    assert!(proxy.take_all(&wishes).is_empty(), "nothing is said twice");
}

#[test]
fn it_is_filled_only_once_everything_is_answered() {
    let mut proxy = Proxy::new([]);
    let wishes = wishes(Some(7), None, &[(1, 1)]);
    for what in ["maps", "snapshot 7", "pod 1"] {
        assert!(!proxy.given.progress(Some(&wishes)).filled);
        let id = proxy.say(&wishes, what);
        assert!(!proxy.given.progress(Some(&wishes)).filled, "{what} is not answered");
        proxy.given.acked(id);
    }
    assert!(proxy.given.progress(Some(&wishes)).filled);
}

#[test]
fn of_many_snapshots_only_the_last_is_sent_and_never_two_at_once() {
    let mut proxy = Proxy::new([]);
    let id = proxy.say(&wishes(None, None, &[]), "maps");
    proxy.given.acked(id);
    let id = proxy.say(&wishes(Some(1), None, &[]), "snapshot 1");
    for version in 2..=9 {
        assert!(proxy.given.next(&wishes(Some(version), None, &[])).is_none());
    }
    proxy.given.acked(id);
    assert_eq!(proxy.take_all(&wishes(Some(9), None, &[])), ["snapshot 9"]);
}

#[test]
fn a_snapshot_that_is_refused_leaves_the_one_before_in_force() {
    let mut proxy = Proxy::new([]);
    proxy.take_all(&wishes(Some(1), None, &[]));
    let id = proxy.say(&wishes(Some(2), Some(1), &[]), "snapshot 2");
    proxy.given.nacked(&nack(id));
    let second = wishes(Some(2), Some(1), &[]);
    assert!(proxy.given.next(&second).is_none(), "it is not asked again");
    let progress = proxy.given.progress(Some(&second));
    assert_eq!((progress.snapshot, progress.refusal), (Some(1), None));
    assert_eq!(progress.trouble.as_deref(), Some("snapshot 2 was refused: no such cluster"));
    assert!(progress.filled, "it serves by what it has");
    assert_eq!(proxy.take_all(&wishes(Some(3), Some(1), &[])), ["snapshot 3"]);
    assert_eq!(proxy.given.progress(Some(&wishes(Some(3), Some(3), &[]))).trouble, None);
}

#[test]
fn a_new_proxy_that_refuses_the_last_snapshot_gets_the_last_good_one() {
    let mut proxy = Proxy::new([]);
    let wishes = wishes(Some(2), Some(1), &[]);
    let id = proxy.say(&wishes, "maps");
    proxy.given.acked(id);
    let id = proxy.say(&wishes, "snapshot 2");
    proxy.given.nacked(&nack(id));
    assert_eq!(proxy.given.progress(Some(&wishes)).refusal, None, "there is another to try");
    let id = proxy.say(&wishes, "snapshot 1");
    assert_eq!(proxy.given.progress(Some(&wishes)).refusal, None, "it is not answered");
    proxy.given.acked(id);
    let progress = proxy.given.progress(Some(&wishes));
    assert_eq!((progress.filled, progress.snapshot), (true, Some(1)));
    assert!(progress.trouble.is_some(), "the last one is refused all the same");
    assert!(proxy.given.next(&wishes).is_none(), "and not asked again");
}

#[test]
fn one_that_refuses_the_last_good_snapshot_too_will_not_be_filled() {
    let mut proxy = Proxy::new([]);
    let wishes = wishes(Some(2), Some(1), &[]);
    let id = proxy.say(&wishes, "maps");
    proxy.given.acked(id);
    for what in ["snapshot 2", "snapshot 1"] {
        let id = proxy.say(&wishes, what);
        proxy.given.nacked(&nack(id));
    }
    let progress = proxy.given.progress(Some(&wishes));
    assert_eq!(progress.refusal.as_deref(), Some("snapshot 1 was refused: no such cluster"));
    assert!(!progress.filled && proxy.given.next(&wishes).is_none());
}

#[test]
fn an_adopted_proxy_that_refuses_the_snapshot_goes_on_by_its_own_and_is_given_pods() {
    let mut proxy = Proxy::new([1]);
    let wishes = wishes(Some(1), None, &[(1, 5)]);
    let id = proxy.say(&wishes, "maps");
    assert_eq!(proxy.say(&wishes, "snapshot 1"), id + 1);
    proxy.given.acked(id);
    assert!(proxy.given.next(&wishes).is_none(), "the snapshot is not answered");
    proxy.given.nacked(&nack(id + 1));
    assert_eq!(proxy.take_all(&wishes), ["pod 1"]);
    let progress = proxy.given.progress(Some(&wishes));
    assert_eq!((progress.filled, progress.refusal), (true, None));
}

#[test]
fn no_pod_is_given_to_a_new_proxy_before_a_snapshot_is_in_force() {
    let mut proxy = Proxy::new([]);
    let wishes = wishes(Some(2), Some(1), &[(1, 1)]);
    let maps = proxy.say(&wishes, "maps");
    let second = proxy.say(&wishes, "snapshot 2");
    assert!(proxy.given.next(&wishes).is_none());
    proxy.given.acked(maps);
    assert!(proxy.given.next(&wishes).is_none());
    proxy.given.nacked(&nack(second));
    assert_eq!(proxy.take_all(&wishes), ["snapshot 1", "pod 1"]);
}

#[test]
fn a_pod_that_is_gone_comes_first_and_a_changed_one_is_said_again() {
    let mut proxy = Proxy::new([1, 2]);
    let wishes = wishes(Some(7), None, &[(2, 5), (3, 1)]);
    assert_eq!(proxy.take_all(&wishes), ["gone 1", "maps", "snapshot 7", "pod 2", "pod 3"]);
    let without = Wishes { snapshot: None, ..wishes };
    assert_eq!(Proxy::new([1, 2]).take_all(&without), ["gone 1", "maps", "pod 2", "pod 3"]);
}

#[test]
fn an_answer_to_what_was_said_before_a_change_counts_for_nothing() {
    let mut proxy = Proxy::new([]);
    proxy.take_all(&wishes(Some(7), None, &[]));
    let old = proxy.say(&wishes(Some(7), None, &[(1, 1)]), "pod 1");
    let changed = wishes(Some(7), None, &[(1, 2)]);
    let new = proxy.say(&changed, "pod 1");
    proxy.given.acked(old);
    assert!(!proxy.given.progress(Some(&changed)).filled);
    proxy.given.acked(new);
    assert!(proxy.given.progress(Some(&changed)).filled);
}

#[test]
fn a_pod_that_is_refused_is_asked_for_again_when_it_is_time() {
    let mut proxy = Proxy::new([]);
    proxy.take_all(&wishes(Some(7), None, &[]));
    let wishes = wishes(Some(7), None, &[(1, 1)]);
    let id = proxy.say(&wishes, "pod 1");
    proxy.given.nacked(&nack(id));
    assert!(proxy.given.next(&wishes).is_none());
    assert!(proxy.given.progress(Some(&wishes)).refusal.is_some());
    proxy.given.ask_again();
    assert_eq!(proxy.take_all(&wishes), ["pod 1"]);
}

#[test]
fn one_that_finishes_is_given_no_pod_but_loses_those_that_go_and_learns_new_snapshots() {
    let mut proxy = Proxy::new([]);
    proxy.take_all(&wishes(Some(1), None, &[(1, 1), (2, 1)]));
    let drained = |version, pods| Wishes {
        serves: false,
        drain: Some(Duration::from_mins(5)),
        ..wishes(Some(version), None, pods)
    };
    assert_eq!(proxy.take_all(&drained(1, &[(1, 1), (2, 1), (3, 1)])), ["drain"]);
    assert_eq!(proxy.take_all(&drained(2, &[(1, 1)])), ["gone 2", "snapshot 2"]);
}

#[test]
fn no_more_messages_wait_for_an_answer_than_are_allowed() {
    let mut proxy = Proxy::new([]);
    proxy.take_all(&wishes(Some(1), None, &[]));
    let pods: Vec<_> = (1..=40).map(|cookie| (cookie, 1)).collect();
    let wishes = wishes(Some(1), None, &pods);
    let mut sent = 0;
    while let Some(step) = proxy.given.next(&wishes) {
        sent += 1;
        proxy.given.sent(1000 + sent, &step);
    }
    assert_eq!(sent, 32);
    proxy.given.acked(1001);
    assert!(proxy.given.next(&wishes).is_some());
}

#[test]
fn whether_it_answers_is_asked_only_when_nothing_else_is_to_be_said() {
    let mut proxy = Proxy::new([]);
    let wishes = wishes(Some(1), None, &[(1, 1)]);
    proxy.given.knock();
    assert_eq!(proxy.take_all(&wishes), ["maps", "snapshot 1", "pod 1", "gone 0"]);
    assert!(!proxy.given.owes_an_answer());
    proxy.given.knock();
    proxy.say(&wishes, "gone 0");
    proxy.given.knock();
    assert!(proxy.given.next(&wishes).is_none(), "one question at a time");
    let progress = proxy.given.progress(Some(&wishes));
    assert!(progress.filled && proxy.given.owes_an_answer());
}

#[test]
fn certificates_come_before_the_pods_whose_they_are_and_a_proxy_without_any_is_not_filled() {
    let mut proxy = Proxy::new([]);
    let wishes = Wishes { identities: Some(identities(1)), ..wishes(Some(7), None, &[(1, 1)]) };
    let maps = proxy.say(&wishes, "maps");
    proxy.given.acked(maps);
    let id = proxy.say(&wishes, "identities 1");
    assert_eq!(proxy.take_all(&wishes), ["snapshot 7", "pod 1"]);
    assert!(!proxy.given.progress(Some(&wishes)).filled);
    let renewed = Wishes { identities: Some(identities(3)), ..wishes.clone() };
    assert!(proxy.given.next(&renewed).is_none(), "one at a time");
    proxy.given.acked(id);
    let progress = proxy.given.progress(Some(&renewed));
    assert_eq!((progress.filled, progress.identities), (true, Some(1)), "those before are valid, too");
    assert_eq!(proxy.take_all(&renewed), ["identities 3"]);
    assert_eq!(proxy.given.progress(Some(&renewed)).identities, Some(3));
}

#[test]
fn a_proxy_that_refuses_certificates_is_asked_again_and_takes_no_others_place() {
    let mut proxy = Proxy::new([]);
    let wishes = Wishes { identities: Some(identities(1)), ..wishes(Some(7), None, &[]) };
    let maps = proxy.say(&wishes, "maps");
    proxy.given.acked(maps);
    let id = proxy.say(&wishes, "identities 1");
    proxy.given.nacked(&nack(id));
    assert_eq!(proxy.take_all(&wishes), ["snapshot 7"]);
    let progress = proxy.given.progress(Some(&wishes));
    assert!(!progress.filled && progress.refusal.unwrap().contains("the set of certificates was refused"));
    proxy.given.ask_again();
    assert_eq!(proxy.take_all(&wishes), ["identities 1"]);
    let progress = proxy.given.progress(Some(&wishes));
    assert_eq!((progress.filled, progress.refusal, progress.trouble), (true, None, None));
    // A later one that is refused leaves what is in force in force.
    let renewed = Wishes { identities: Some(identities(2)), ..wishes };
    let id = proxy.say(&renewed, "identities 2");
    proxy.given.nacked(&nack(id));
    let progress = proxy.given.progress(Some(&renewed));
    assert_eq!((progress.filled, progress.refusal, progress.identities), (true, None, Some(1)));
    assert!(progress.trouble.is_some());
}

#[test]
fn a_proxy_of_the_version_before_does_without_certificates() {
    let mut proxy = Proxy::older();
    let wishes = Wishes { identities: Some(identities(1)), ..wishes(Some(7), None, &[(1, 1)]) };
    assert_eq!(proxy.take_all(&wishes), ["maps", "snapshot 7", "pod 1"]);
    assert!(proxy.given.progress(Some(&wishes)).filled);
}

#[test]
fn a_proxy_holds_the_maps_of_an_older_layout_before_it_gets_those_of_the_agents_own() {
    let mut proxy = Proxy::new([1]);
    let two = Wishes { older: older(1, 1), ..wishes(Some(7), None, &[(1, 1)]) };
    let id = proxy.say(&two, "1 older maps");
    assert!(
        !matches!(proxy.given.next(&two), Some(Step::Maps)),
        "it may have no others than the older ones: they stay until it holds both"
    );
    proxy.given.acked(id);
    assert_eq!(proxy.take_all(&two), ["maps", "snapshot 7", "pod 1"]);
    assert!(proxy.given.progress(Some(&two)).filled);
    let none = Wishes { older: older(2, 0), ..two };
    assert!(proxy.given.progress(Some(&none)).filled, "it has too many, which is no reason to leave it");
    assert_eq!(proxy.take_all(&none), ["0 older maps"]);
}

#[test]
fn a_proxy_that_cannot_hold_two_layouts_keeps_what_it_has_and_is_left_behind() {
    let mut proxy = Proxy::new([1]);
    let two = Wishes { older: older(1, 1), ..wishes(Some(7), None, &[(1, 1)]) };
    let id = proxy.say(&two, "1 older maps");
    proxy.given.nacked(&Nack { reason: NackReason::UnknownKind, ..nack(id) });
    assert_eq!(proxy.take_all(&two), ["snapshot 7"], "policies concern it, too");
    let progress = proxy.given.progress(Some(&two));
    assert!(progress.left_behind && !progress.filled && progress.refusal.unwrap().contains("older layout"));
    let none = Wishes { older: older(2, 0), ..two };
    assert!(!proxy.given.progress(Some(&none)).left_behind);
    assert_eq!(proxy.take_all(&none), ["maps", "pod 1"], "there is only one layout now");
}

struct Proxy {
    given: Given,
    last_id: u64,
}

impl Proxy {
    fn new(held: impl IntoIterator<Item = u64>) -> Self {
        Self { given: Given::handed_back(held, true), last_id: 0 }
    }

    /// Of a version that knows no identities.
    fn older() -> Self {
        Self { given: Given::handed_back([], false), last_id: 0 }
    }

    /// The next message, which has to be `what`.
    fn say(&mut self, wishes: &Wishes, what: &str) -> u64 {
        let step = self.given.next(wishes).unwrap();
        assert_eq!(words(&step), what);
        self.last_id += 1;
        self.given.sent(self.last_id, &step);
        self.last_id
    }

    /// Answers everything, and says what it was.
    fn take_all(&mut self, wishes: &Wishes) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(step) = self.given.next(wishes) {
            said.push(words(&step));
            self.last_id += 1;
            self.given.sent(self.last_id, &step);
            self.given.acked(self.last_id);
        }
        said
    }
}

fn words(step: &Step) -> String {
    match step {
        Step::Maps => "maps".to_owned(),
        Step::OlderMaps(older) => format!("{} older maps", older.maps.len()),
        Step::Identities(identities) => format!("identities {}", identities.version),
        Step::Snapshot(snapshot) => format!("snapshot {}", snapshot.version),
        Step::Pod(lent) => format!("pod {}", lent.pod.cookie),
        Step::PodGone(cookie) => format!("gone {cookie}"),
        Step::Drain => "drain".to_owned(),
    }
}

fn nack(of: u64) -> Nack {
    Nack { of, reason: NackReason::Failed, error: "no such cluster".to_owned() }
}

fn wishes(snapshot: Option<u64>, last_good: Option<u64>, pods: &[(u64, u64)]) -> Wishes {
    let sealed =
        |version| Snapshot { version, bytes: Arc::new(Sealed::of(&u64::to_le_bytes(version)).unwrap()) };
    let lent = |&(cookie, revision): &(u64, u64)| (cookie, Lent { pod: pod(cookie), revision });
    Wishes {
        maps: Arc::new(maps()),
        older: older(1, 0),
        identities: None,
        snapshot: snapshot.map(sealed),
        last_good: last_good.map(sealed),
        pods: Arc::new(pods.iter().map(lent).collect::<BTreeMap<_, _>>()),
        serves: true,
        drain: None,
    }
}

fn maps() -> Maps {
    let null = || File::open("/dev/null").unwrap().into();
    Maps { origins: null(), lease: null() }
}

fn older(revision: u64, count: usize) -> Older {
    Older { revision, maps: (0..count).map(|_| maps()).collect() }
}

fn identities(version: u64) -> Identities {
    Identities { version, bytes: Arc::new(Sealed::of(b"keys").unwrap()), complete: true }
}

fn pod(cookie: u64) -> Arc<Pod> {
    let name = ObjectName::parse("shop/web").unwrap();
    let netns = Netns::current().unwrap();
    let (addresses, listeners) = (Vec::new(), Vec::new());
    let transparent = Transparent::default();
    Arc::new(Pod { name, cookie, addresses, service_account: None, netns, listeners, transparent })
}
