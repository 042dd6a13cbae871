//! Pods on their way into the mesh and out of it: what stands between the source and those who follow it.
//!
//! ```text
//! label ──► Joins ──► its node can prove who it is ──► Done, and told ──► others send it mutual TLS
//!           in clear, as before; Strict and policies hold
//! label gone ──► Leaves, for GRACE ──► out
//!                sends in clear, understands mutual TLS; no policies
//! ```
//! Nodes hear of a label one after the other. So whoever joins is sent mutual TLS only once its node has said that it can
//! take it, and who leaves understands it for as long as somebody may send it. A pod that a runtime starts in the mesh does
//! not pass: it has never spoken in clear. Nor does one that an earlier agent has brought in: without a certificate it is
//! refused, and never in clear again.

mod certified;
mod effect;
mod shown;
mod stage;
mod word;

pub(crate) use certified::Certified;
pub(crate) use shown::Showing;
pub(crate) use stage::Stage;
pub(crate) use word::Word;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;
use weft_model::{ObjectName, Passage, Snapshot, Workload};

/// How far each pod is.
#[derive(Debug)]
struct Ways {
    members: BTreeMap<ObjectName, Member>,
    /// Where an earlier agent has left mutual TLS in the kernel; `None` for everywhere. Asked once.
    left: Option<HashSet<IpAddr>>,
    begun: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// Of another pod of the same name nothing is known.
    created: u64,
    way: Way,
    /// Its node's word has been seen.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Joins {
        since: Instant,
    },
    Joined,
    Leaves {
        until: Instant,
    },
    /// It was a member, and its node's word may still stand there.
    Out,
}

/// What is known of this node's pods beside their objects.
#[derive(Clone, Debug, Default)]
struct Here {
    /// Those that the runtime is starting: they have never spoken in clear.
    fresh: BTreeSet<ObjectName>,
    /// Those that the proxy can show as who they are.
    shown: BTreeSet<ObjectName>,
}

impl Ways {
    fn new(left: Option<HashSet<IpAddr>>) -> Self {
        Self { members: BTreeMap::new(), left, begun: false }
    }

    /// Takes `snapshot` over. What of it is otherwise for those who follow.
    fn follow(&mut self, snapshot: &Snapshot, here: &Here, now: Instant) -> BTreeMap<ObjectName, Passage> {
        if !snapshot.mtls.on {
            self.members.clear();
            return BTreeMap::new();
        }
        let before = std::mem::take(&mut self.members);
        let mut passing = BTreeMap::new();
        for (name, pod) in &*snapshot.workloads {
            let before = before.get(name).filter(|member| member.created == pod.created);
            let member = self.next(pod, before, here, now);
            let passage = match member.map(|member| member.way) {
                Some(Way::Joins { .. }) => Passage::Joins,
                Some(Way::Leaves { .. }) => Passage::Leaves,
                Some(Way::Joined | Way::Out) | None => Passage::Done,
            };
            if passage != Passage::Done || pod.passage != passage {
                passing.insert(name.clone(), passage);
            }
            self.members.extend(member.map(|member| (name.clone(), member)));
        }
        if snapshot.version > 0 {
            self.begun = true;
            self.left = Some(HashSet::new());
        }
        passing
    }

    fn next(&self, pod: &Workload, before: Option<&Member>, here: &Here, now: Instant) -> Option<Member> {
        let told = pod.enrolled && pod.passage == Passage::Done;
        let member = |way, told| Some(Member { created: pod.created, way, told });
        // What an earlier agent has said, and not taken back.
        let stands = pod.local && !pod.enrolled && pod.passage == Passage::Leaves;
        let was_told = before.map_or(stands, |member| member.told);
        let was_sealed = match before {
            None => self.was_sealed(pod),
            Some(before) => matches!(before.way, Way::Joined | Way::Leaves { .. }),
        };
        if pod.enrolled {
            let joined = if pod.local {
                let can = here.fresh.contains(&pod.name) || here.shown.contains(&pod.name);
                told || was_sealed || can
            } else {
                // One word is enough to end the trust in what was there before words.
                told || (was_sealed && !was_told)
            };
            let since = match before {
                Some(Member { way: Way::Joins { since }, .. }) => *since,
                _ => now,
            };
            return member(if joined { Way::Joined } else { Way::Joins { since } }, told || was_told);
        }
        match before.map(|before| before.way) {
            Some(Way::Leaves { until }) if until > now => member(Way::Leaves { until }, was_told),
            Some(Way::Leaves { .. } | Way::Out | Way::Joins { .. }) => {
                if was_told {
                    member(Way::Out, true)
                } else {
                    None
                }
            }
            _ if was_sealed || (before.is_none() && stands) => {
                member(Way::Leaves { until: now + GRACE }, was_told)
            }
            _ => None,
        }
    }

    /// Whether an earlier agent has left mutual TLS with it in the kernel.
    fn was_sealed(&self, pod: &Workload) -> bool {
        match &self.left {
            _ if self.begun => false,
            None => pod.enrolled,
            Some(left) => pod.ips.iter().any(|ip| left.contains(ip)),
        }
    }

    /// When something changes by itself.
    fn due(&self) -> Option<Instant> {
        let until = |member: &Member| match member.way {
            Way::Leaves { until } => Some(until),
            _ => None,
        };
        self.members.values().filter_map(until).min()
    }
}

/// How long a pod that has left understands mutual TLS: in that time each node that works has heard of it, also one whose
/// agent was just being replaced.
const GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
