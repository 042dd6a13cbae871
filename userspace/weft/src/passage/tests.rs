//! How far pods are, by what is seen of them.

use std::{collections::HashSet, sync::Arc};

use weft_model::{
    Mtls,
    MtlsMode::{self, Disabled, Permissive, Strict},
    Passage::{Done, Joins, Leaves},
    ServiceAccount,
};

use super::{effect::Effect, stage::Local, *};

const HERE: &str = "here";
const THERE: &str = "there";

fn pod(name: &str, enrolled: bool, passage: Passage) -> Arc<Workload> {
    let last = if name == HERE { 1 } else { 2 };
    let name = ObjectName::new("shop", name);
    Arc::new(Workload {
        service_account: ServiceAccount::new("shop", "default"),
        ips: vec![[10, 0, 0, last].into()],
        node: None,
        local: &*name.name == HERE,
        labels: Arc::default(),
        enrolled,
        passage,
        netns: None,
        ports: Vec::new(),
        owner: "it".into(),
        ready: true,
        terminating: false,
        created: 0,
        name,
    })
}

fn snapshot(pods: &[Arc<Workload>], mesh: MtlsMode) -> Snapshot {
    let workloads = pods.iter().map(|pod| (pod.name.clone(), Arc::clone(pod))).collect();
    let mtls = Mtls { on: true, mesh, pods: BTreeMap::new() };
    Snapshot { version: 1, workloads: Arc::new(workloads), mtls: Arc::new(mtls), ..Snapshot::default() }
}

/// Both pods like this, and untold where `told` is not said of them.
fn both(enrolled: bool, passage: Passage) -> Snapshot {
    snapshot(&[HERE, THERE].map(|name| pod(name, enrolled, passage)), Permissive)
}

struct World {
    ways: Ways,
    here: Here,
    now: Instant,
}

impl World {
    fn new(left: Option<HashSet<IpAddr>>) -> Self {
        Self { ways: Ways::new(left), here: Here::default(), now: Instant::now() }
    }

    /// How far the two are after this.
    #[track_caller]
    fn sees(&mut self, snapshot: &Snapshot) -> [Passage; 2] {
        let passing = self.ways.follow(snapshot, &self.here, self.now);
        [HERE, THERE].map(|name| {
            let name = ObjectName::new("shop", name);
            passing.get(&name).copied().unwrap_or(snapshot.workloads[&name].passage)
        })
    }

    fn shows_here(&mut self) {
        self.here.shown = [ObjectName::new("shop", HERE)].into();
    }
}

#[test]
fn a_running_pod_joins_once_it_can_be_shown_and_others_once_their_nodes_say_so() {
    let mut world = World::new(Some(HashSet::new()));
    assert_eq!(world.sees(&both(true, Joins)), [Joins, Joins]);
    world.shows_here();
    assert_eq!(world.sees(&both(true, Joins)), [Done, Joins]);
    assert_eq!(world.sees(&both(true, Done)), [Done, Done]);
    // A certificate that is lost takes nothing back; a node's word that is taken back does.
    world.here = Here::default();
    assert_eq!(world.sees(&both(true, Joins)), [Done, Joins]);
}

#[test]
fn a_pod_that_is_started_in_the_mesh_never_speaks_in_clear() {
    let mut world = World::new(Some(HashSet::new()));
    world.here.fresh = [ObjectName::new("shop", HERE)].into();
    assert_eq!(world.sees(&both(true, Joins)), [Done, Joins]);
    world.here = Here::default();
    assert_eq!(world.sees(&both(true, Joins)), [Done, Joins]);
    // What was started outside of it has.
    let mut world = World::new(Some(HashSet::new()));
    world.here.fresh = [ObjectName::new("shop", HERE)].into();
    assert_eq!(world.sees(&both(false, Done)), [Done, Done]);
    world.here = Here::default();
    assert_eq!(world.sees(&both(true, Joins)), [Joins, Joins]);
}

#[test]
fn who_leaves_understands_mutual_tls_for_a_while_on_both_nodes_and_may_come_back() {
    let mut world = World::new(Some(HashSet::new()));
    world.shows_here();
    assert_eq!(world.sees(&both(true, Done)), [Done, Done]);
    assert_eq!(world.ways.due(), None);
    assert_eq!(world.sees(&both(false, Done)), [Leaves, Leaves]);
    let due = world.ways.due().unwrap();
    assert_eq!(due, world.now + GRACE);
    world.now += GRACE / 2;
    assert_eq!(world.sees(&both(false, Done)), [Leaves, Leaves], "from when it was seen first");
    assert_eq!(world.sees(&both(true, Done)), [Done, Done]);
    assert_eq!(world.sees(&both(false, Done)), [Leaves, Leaves]);
    world.now += GRACE;
    assert_eq!(world.sees(&both(false, Done)), [Done, Done]);
    assert_eq!(world.ways.due(), None);
    // And from the start again.
    world.here = Here::default();
    assert_eq!(world.sees(&both(true, Joins)), [Joins, Joins]);
}

#[test]
fn who_has_not_joined_yet_leaves_at_once_and_another_pod_of_the_name_begins_anew() {
    let mut world = World::new(Some(HashSet::new()));
    assert_eq!(world.sees(&both(true, Joins)), [Joins, Joins]);
    assert_eq!(world.sees(&both(false, Done)), [Done, Done]);
    world.shows_here();
    world.sees(&both(true, Joins));
    world.here = Here::default();
    let mut other = both(true, Joins);
    for pod in Arc::make_mut(&mut other.workloads).values_mut() {
        Arc::make_mut(pod).created = 7;
    }
    assert_eq!(world.sees(&other), [Joins, Joins]);
}

#[test]
fn what_an_earlier_agent_has_sealed_is_never_in_clear_again() {
    let both_addresses: HashSet<IpAddr> = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()].into();
    for left in [Some(both_addresses), None] {
        let mut world = World::new(left);
        assert_eq!(world.sees(&both(true, Joins)), [Done, Done], "without any word");
        assert_eq!(world.sees(&both(true, Done)), [Done, Done]);
        assert_eq!(world.sees(&both(true, Joins)), [Done, Joins], "a word was given, and is taken back");
    }
    let mut world = World::new(Some(HashSet::new()));
    assert_eq!(world.sees(&both(true, Joins)), [Joins, Joins]);
}

#[test]
fn what_an_earlier_agent_has_said_of_a_pod_that_has_left_is_taken_back() {
    let mut world = World::new(Some(HashSet::new()));
    let out = both(false, Leaves);
    assert_eq!(world.sees(&out), [Leaves, Done], "of another node's its own agent takes it back");
    world.now += GRACE;
    assert_eq!(world.sees(&out), [Done, Done]);
    let way = |world: &World| world.ways.members.get(&ObjectName::new("shop", HERE)).map(|member| member.way);
    assert_eq!(way(&world), Some(Way::Out), "which is to be said");
    // The label comes back, once that is said.
    assert_eq!(world.sees(&both(false, Done)), [Done, Done]);
    assert_eq!(world.sees(&both(true, Joins)), [Joins, Joins]);
}

#[test]
fn without_mutual_tls_nobody_passes() {
    let mut world = World::new(None);
    let mut off = both(true, Done);
    Arc::make_mut(&mut off.mtls).on = false;
    assert_eq!(world.sees(&off), [Done, Done]);
    let mut out = both(false, Done);
    Arc::make_mut(&mut out.mtls).on = false;
    assert_eq!(world.sees(&out), [Done, Done]);
}

#[test]
fn on_its_way_a_pod_takes_what_may_come_and_strict_stays_strict() {
    let names = [HERE, THERE].map(|name| ObjectName::new("shop", name));
    let modes = |mesh, passage, enrolled| {
        let snapshot = snapshot(&[HERE, THERE].map(|name| pod(name, enrolled, Done)), mesh);
        let passing: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), passage)).collect();
        let effect = Effect::of(&snapshot, passing.clone());
        assert!(effect.is_of(&snapshot, &passing) && !effect.is_of(&snapshot, &BTreeMap::new()));
        let made = effect.on(&snapshot);
        assert!(made.workloads.values().all(|pod| pod.enrolled && pod.passage == passage));
        names.each_ref().map(|name| made.mtls.mode(name, 80))
    };
    assert_eq!(modes(Permissive, Joins, true), [Disabled, Disabled]);
    assert_eq!(modes(Strict, Joins, true), [Strict, Disabled]);
    assert_eq!(modes(Permissive, Leaves, false), [Permissive, Disabled]);
    assert_eq!(modes(Strict, Leaves, false), [Permissive, Disabled]);
    assert_eq!(modes(Strict, Done, true), [Strict, Strict]);
}

#[test]
fn of_whom_nobody_is_told_is_known_since_when() {
    let mut world = World::new(Some(HashSet::new()));
    let snapshot = both(true, Joins);
    world.shows_here();
    world.sees(&snapshot);
    let first = Local::of(&world.ways, &snapshot, &Local::default(), world.now);
    let later = Local::of(&world.ways, &snapshot, &first, world.now + GRACE);
    assert_eq!(later.untold, [(ObjectName::new("shop", HERE), world.now)].into());
    assert_eq!(first.degradations(world.now + GRACE), []);
    let late = first.degradations(world.now + GRACE * 2);
    assert_eq!(late[0].feature, "mutual TLS of shop/here");
    assert!(late[0].reason.contains("do not say that they have joined"), "{late:?}");
    assert_eq!(Local::of(&world.ways, &both(true, Done), &later, world.now).untold, [].into());
}
