//! `weft status`.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use weft_abi::names::{map, program, stat};
use weft_model::{ObjectName, Problem, Protocol, Severity, Snapshot};
use weft_telemetry::api::{Degradation, Failure, MapStatus, PodState, PodStatus, ProgramStatus, Status};

use crate::{
    host,
    load::ON_CGROUP,
    netns::Waiting,
    settings::Settings,
    state::{State, local},
};

/// How the data path is doing.
pub(crate) fn status(state: &State, settings: &Settings, snapshot: &Snapshot) -> Status {
    let mut status = Status {
        version: settings.version.clone(),
        node: settings.node.clone(),
        cgroup: state.cgroup.display().to_string(),
        schema: state.loaded.pins.version,
        pods: pods(state, snapshot),
        programs: programs(state),
        maps: maps(state, settings),
        problems: conflicts(state),
        ..Status::default()
    };
    degradations(state, &mut status);
    status
}

/// What keeps pods of this node from being protected, where something does.
pub(crate) fn unprotected(state: &State) -> Option<Failure> {
    let (pod, why) = state.refused_pods.iter().next()?;
    let more = match state.refused_pods.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Some(Failure::new(
        format!("pod {pod}{more} cannot be protected: {why}"),
        "the agent tries again every 5 s",
    ))
}

/// What is wrong with the configuration as only the node shows it: pods that name one namespace.
fn conflicts(state: &State) -> Vec<Problem> {
    let behind = state.namespaces.waiting().filter(|(_, waiting)| waiting.owner.is_some());
    let problem = |(name, waiting): (&ObjectName, &Waiting)| Problem {
        severity: Severity::Error,
        file: String::new(),
        line: 0,
        object: format!("Pod {name}"),
        field: "metadata.annotations[weft.dev/netns]".to_owned(),
        message: waiting.why.clone(),
        remedy: "the older pod has it, then the first by name: name a network namespace of its own"
            .to_owned(),
    };
    behind.map(problem).collect()
}

/// Replaces what may change without a new configuration: programs, and what this node cannot do.
pub(crate) fn refresh(state: &State, status: &mut Status) {
    status.programs = programs(state);
    degradations(state, status);
}

fn degradations(state: &State, status: &mut Status) {
    let mut all = Vec::new();
    let mut add = |feature: &str, reason: String, remedy: &str| {
        all.push(Degradation { feature: feature.to_owned(), reason, remedy: remedy.to_owned() });
    };
    foreign(state, &mut add);
    for pins in &state.loaded.retired {
        add(
            "one layout of maps",
            format!("layout v{} stays in force beside v{}", pins.version, state.loaded.pins.version),
            "it does what the new one cannot, by what it was told last; make room for the programs that are not attached",
        );
    }
    if state.stays_in_the_kernel() {
        add(
            "http path",
            "there are routes or policies for HTTP, and no proxy: these Services are balanced by the kernel alone"
                .to_owned(),
            "run the agent with --proxy auto",
        );
    }
    if let Some(error) = state.unaccelerated() {
        add("same-node acceleration", error.to_string(), error.remedy());
    }
    if host::kernel() < (5, 18, 0) {
        add(
            "EACCES at connect",
            "kernel before 5.18 has no bpf_set_retval: apps see EPERM".to_owned(),
            "run kernel 5.18 or later",
        );
    }
    if udp_identity(state) {
        add(
            "identity of connected UDP",
            "an ALLOW rule by ServiceAccount does not match a connected UDP socket: its source port is not known when it connects".to_owned(),
            "allow UDP clients by CIDR, or let them send from unconnected sockets",
        );
    }
    status.degradations = all;
}

/// What programs of others keep ours from.
fn foreign(state: &State, add: &mut impl FnMut(&str, String, &str)) {
    for error in &state.unattached {
        add(
            "socket load balancing",
            error.to_string(),
            "weft never detaches others; remove the foreign program and restart the agent",
        );
    }
    for (pod, names) in &state.foreign {
        add(
            "refusal by reset",
            format!(
                "pod {pod} has a foreign sk_lookup program ({}); refused SYNs are dropped instead",
                names.join(", ")
            ),
            "remove the foreign program from the pod's network namespace",
        );
    }
    if let Some((count, beside)) = state.overruled.told() {
        let beside: Vec<_> = beside.iter().map(String::as_str).collect();
        let beside = if beside.is_empty() { "none that can be seen".to_owned() } else { beside.join(", ") };
        add(
            "refusal at connect",
            format!(
                "{count} connections went on that weft had refused: a program beside it takes refusals back ({beside}); \
                 the destination's node decides alone"
            ),
            "remove that program, or have it leave what bpf_get_retval says as it is",
        );
    }
}

/// The programs' counters by name, summed over all CPUs.
pub(crate) fn counters(state: &State) -> BTreeMap<String, u64> {
    stat::ALL.iter().map(|(index, name)| ((*name).to_owned(), state.maps.count(*index))).collect()
}

fn pods(state: &State, snapshot: &Snapshot) -> Vec<PodStatus> {
    let waiting: BTreeMap<_, _> = state.namespaces.waiting().collect();
    let nowhere = snapshot.workloads.values().filter(|pod| pod.local && pod.enrolled && pod.netns.is_none());
    let nowhere = nowhere.map(|pod| PodStatus {
        name: pod.name.to_string(),
        netns: String::new(),
        state: PodState::Waiting,
        detail: Some(
            "nobody says where its network namespace is: annotate it with weft.dev/netns".to_owned(),
        ),
        ips: pod.ips.clone(),
        policies: Vec::new(),
        peers: Vec::new(),
    });
    let placed = local(snapshot).map(|pod| {
        let refused = state.refused_pods.get(&pod.name).cloned();
        let missing = waiting.get(&pod.name).map(|waiting| waiting.why.clone());
        let policies = state.protections.get(&pod.name);
        PodStatus {
            name: pod.name.to_string(),
            netns: pod.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            state: if refused.is_none() && missing.is_none() {
                PodState::Enforced
            } else {
                PodState::Waiting
            },
            detail: refused.or(missing),
            ips: pod.ips.clone(),
            policies: policies
                .map(|protection| protection.policies.iter().map(|p| p.policy.name.to_string()).collect())
                .unwrap_or_default(),
            // The keeper's to say.
            peers: Vec::new(),
        }
    });
    let mut pods: Vec<_> = placed.chain(nowhere).collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    pods
}

fn programs(state: &State) -> Vec<ProgramStatus> {
    let unattached = |name: &str| state.unattached.iter().find(|error| error.program() == Some(name));
    let (id, verified) = (|name| state.loaded.id(name).unwrap_or(0), |name| state.loaded.verified(name));
    let on_cgroup = ON_CGROUP.iter().map(|(name, _)| ProgramStatus {
        name: (*name).to_owned(),
        attach: state.cgroup.display().to_string(),
        id: id(name),
        state: unattached(name).map_or_else(|| "attached".to_owned(), ToString::to_string),
        verified: verified(name),
    });
    let in_pods = state.namespaces.iter().filter(|(name, _)| !state.refused_pods.contains_key(*name)).count();
    let lookup = ProgramStatus {
        name: program::SK_LOOKUP.to_owned(),
        attach: format!("{in_pods} network namespaces"),
        id: id(program::SK_LOOKUP),
        state: "attached".to_owned(),
        verified: verified(program::SK_LOOKUP),
    };
    let backstop = ProgramStatus {
        name: program::BACKSTOP.to_owned(),
        attach: state.cgroup.display().to_string(),
        id: id(program::BACKSTOP),
        state: if state.foreign.is_empty() { "not needed" } else { "attached" }.to_owned(),
        verified: verified(program::BACKSTOP),
    };
    let sk_msg = ProgramStatus {
        name: program::SK_MSG.to_owned(),
        attach: "paired sockets".to_owned(),
        id: id(program::SK_MSG),
        state: match state.acceleration {
            None => "not needed",
            Some(Ok(())) => "attached",
            Some(Err(_)) => "off",
        }
        .to_owned(),
        verified: verified(program::SK_MSG),
    };
    on_cgroup.chain([lookup, backstop, sk_msg]).collect()
}

fn maps(state: &State, settings: &Settings) -> Vec<MapStatus> {
    let (services, slots, backends) = state.services.fill();
    let (policy, cidr) = state.policies.fill();
    let (ips, netns) = state.pods.fill();
    let maps = &state.maps;
    let flows = settings.map_sizes.get(map::FLOWS).map_or(weft_abi::limits::FLOWS, |max| *max as usize);
    let row = |name: &str, entries: Option<usize>, max: usize| MapStatus {
        name: name.to_owned(),
        entries: entries.map(|n| n as u64),
        max: max as u64,
    };
    vec![
        row(map::PODS, Some(netns), maps.pods.max),
        row(map::POD_IPS, Some(ips), maps.pod_ips.max),
        row(map::POD_PORTS, Some(state.pods.ports()), maps.pod_ports.max),
        row(map::SERVICES, Some(services), maps.services.max),
        row(map::SLOTS, Some(slots), maps.slots.max),
        row(map::BACKENDS, Some(backends), maps.backends.max),
        row(map::POLICY, Some(policy), maps.policy.max),
        row(map::CIDR, Some(cidr), maps.cidr.max),
        row(map::FLOWS, None, flows),
    ]
}

/// Whether a UDP port is protected by rules that name ServiceAccounts.
fn udp_identity(state: &State) -> bool {
    let udp = state.services.endpoints().filter(|(protocol, _)| *protocol == weft_transport::Protocol::Udp);
    let behind: HashSet<IpAddr> = udp.map(|(_, at)| at.ip()).collect();
    state.protections.iter().any(|(pod, protection)| {
        let addresses = state.namespaces.get(pod).map(|held| &held.addresses);
        let serves = || addresses.is_some_and(|addresses| addresses.iter().any(|ip| behind.contains(ip)));
        protection.policies.iter().any(|applied| {
            let udp = match &applied.ports {
                Some(ports) => ports.iter().any(|(protocol, _)| *protocol == Protocol::Udp),
                None => serves(),
            };
            udp && applied.policy.rules.iter().any(|rule| {
                rule.sources.iter().flatten().any(|source| {
                    matches!(source, weft_model::Source::ServiceAccount(_) | weft_model::Source::Namespace(_))
                })
            })
        })
    })
}
