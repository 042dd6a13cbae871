//! What passages make of a Snapshot.

use std::{collections::BTreeMap, sync::Arc};

use weft_model::{JwtProvider, Mtls, MtlsMode, ObjectName, Passage, PodMtls, Snapshot, Workload};

/// The parts of a Snapshot that are otherwise, as long as what they are made of stays the same.
#[derive(Debug)]
pub(super) struct Effect {
    of: Parts,
    passing: BTreeMap<ObjectName, Passage>,
    made: Parts,
}

#[derive(Clone, Debug)]
struct Parts {
    workloads: Arc<BTreeMap<ObjectName, Arc<Workload>>>,
    mtls: Arc<Mtls>,
    jwt: Arc<BTreeMap<ObjectName, Arc<[JwtProvider]>>>,
}

impl Parts {
    fn of(snapshot: &Snapshot) -> Self {
        let (workloads, mtls, jwt) = (&snapshot.workloads, &snapshot.mtls, &snapshot.jwt);
        Self { workloads: Arc::clone(workloads), mtls: Arc::clone(mtls), jwt: Arc::clone(jwt) }
    }

    fn are_those_of(&self, snapshot: &Snapshot) -> bool {
        Arc::ptr_eq(&self.workloads, &snapshot.workloads)
            && Arc::ptr_eq(&self.mtls, &snapshot.mtls)
            && Arc::ptr_eq(&self.jwt, &snapshot.jwt)
    }
}

impl Effect {
    /// With `passing`, which is not empty, in force.
    pub(super) fn of(snapshot: &Snapshot, passing: BTreeMap<ObjectName, Passage>) -> Self {
        let of = Parts::of(snapshot);
        let mut made = of.clone();
        let workloads = Arc::make_mut(&mut made.workloads);
        for (name, passage) in &passing {
            let Some(pod) = workloads.get_mut(name) else { continue };
            let leaves = *passage == Passage::Leaves;
            *pod =
                Arc::new(Workload { passage: *passage, enrolled: pod.enrolled || leaves, ..(**pod).clone() });
            if let Some(modes) = modes(&of.mtls, pod) {
                Arc::make_mut(&mut made.mtls).pods.insert(name.clone(), Arc::new(modes));
            }
            if leaves && made.jwt.contains_key(name) {
                Arc::make_mut(&mut made.jwt).remove(name);
            }
        }
        Self { of, passing, made }
    }

    /// Whether it is what [`Effect::of`] would make.
    pub(super) fn is_of(&self, snapshot: &Snapshot, passing: &BTreeMap<ObjectName, Passage>) -> bool {
        self.of.are_those_of(snapshot) && self.passing == *passing
    }

    /// `snapshot` with it.
    pub(super) fn on(&self, snapshot: &Snapshot) -> Snapshot {
        let Parts { workloads, mtls, jwt } = self.made.clone();
        Snapshot { workloads, mtls, jwt, ..snapshot.clone() }
    }
}

/// What a pod takes on its way, where that is not what it takes else.
fn modes(mtls: &Mtls, pod: &Workload) -> Option<PodMtls> {
    let all = |mode| Some(PodMtls { mode, ports: BTreeMap::new() });
    match (pod.passage, pod.local) {
        (Passage::Done, _) => None,
        // It is sent none.
        (_, false) => all(MtlsMode::Disabled),
        // Nobody sends it any yet: what is taken in clear stays the kernel's. Strict is Strict at once.
        (Passage::Joins, true) => {
            let joining = |mode| if mode == MtlsMode::Strict { mode } else { MtlsMode::Disabled };
            let (mode, ports) = mtls.modes(&pod.name);
            let ports = ports.map(|(port, mode)| (port, joining(mode))).collect();
            Some(PodMtls { mode: joining(mode), ports })
        }
        (Passage::Leaves, true) => all(MtlsMode::Permissive),
    }
}
