//! Who may call pods that are Strict from outside the mesh, as far as the objects show it: asked by `weft analyze` alone,
//! since a mode may well be meant so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weft_model::{Mtls, MtlsMode, ObjectName, Workload};

use super::{Builder, Notice, notice};
use crate::object::{Key, Kind, Pod, Scraped, Service, TargetPort};

impl Builder {
    /// What Strict refuses that somebody may count on.
    pub(crate) fn callers_outside(&self) -> Vec<Notice> {
        // The files say nothing of certificates, which are the agent's: what is asked is what the modes say.
        let mtls = Mtls { on: true, ..(*self.built.mtls).clone() };
        let strict = Strict { builder: self, mtls };
        let mut notices: Vec<_> = strict.exposed().collect();
        notices.extend(strict.by_port());
        notices.extend(strict.outsiders());
        notices
    }
}

struct Strict<'a> {
    builder: &'a Builder,
    mtls: Mtls,
}

impl<'a> Strict<'a> {
    fn holds(&self, workload: &Workload, port: u16) -> bool {
        workload.enrolled && self.mtls.mode(&workload.name, port) == MtlsMode::Strict
    }

    /// Services that whoever reaches a node, or a load balancer, can call.
    fn exposed(&self) -> impl Iterator<Item = Notice> {
        let services = self.builder.objects.services.values();
        services.filter_map(|service| {
            let exposed = service.exposed?;
            let (pod, ports) = self.strict_behind(service)?;
            let message = format!(
                "Strict refuses whoever comes from outside the mesh, and the Service is of type {exposed}: {} of Pod {pod} \
                 takes mutual TLS only",
                listed(&ports)
            );
            Some(Notice::warning(notice::service(&service.name), "spec.type", message, way_out(&ports)))
        })
    }

    /// The first pod behind a Service that is Strict there, and on which ports.
    fn strict_behind(&self, service: &Service) -> Option<(&'a ObjectName, BTreeSet<u16>)> {
        self.builder.objects.selected(service).find_map(|pod| {
            let workload = self.builder.built.workloads.get(&pod.name)?;
            let number = |target: &TargetPort| match target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => {
                    pod.ports.iter().find(|port| port.name == *name).map(|port| port.port)
                }
            };
            let targets = service.ports.iter().filter_map(|port| number(&port.target));
            let ports: BTreeSet<_> = targets.filter(|port| self.holds(workload, *port)).collect();
            let name = &self.builder.objects.pods.get_key_value(&pod.name)?.0;
            (!ports.is_empty()).then_some((*name, ports))
        })
    }

    /// Ports of which the pod itself says who calls them; once for all pods of one owner.
    fn by_port(&self) -> Vec<Notice> {
        let mut notices = BTreeMap::new();
        for (name, pod) in &self.builder.objects.pods {
            let Some(workload) = self.builder.built.workloads.get(name) else { continue };
            for call in calls(pod).into_iter().filter(|call| self.holds(workload, call.port)) {
                let ports = [call.port].into();
                let message = format!(
                    "{} may be outside the mesh, and Strict refuses it: {} takes mutual TLS only",
                    call.by,
                    listed(&ports)
                );
                let key = Key { kind: Kind::Pod, name: name.clone() };
                let once = (Arc::clone(&name.namespace), Arc::clone(&pod.owner), call.port);
                notices
                    .entry(once)
                    .or_insert_with(|| Notice::warning(key, call.field, message, way_out(&ports)));
            }
        }
        notices.into_values().collect()
    }

    /// Pods that are not enrolled, said where Strict is asked for.
    fn outsiders(&self) -> Vec<Notice> {
        let workloads = &self.builder.built.workloads;
        if !workloads.values().any(|workload| self.is_strict_anywhere(workload)) {
            return Vec::new();
        }
        let outside: Vec<_> = workloads.values().filter(|workload| !workload.enrolled).collect();
        let Some(first) = outside.first() else { return Vec::new() };
        let more = match outside.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let message =
            format!("Strict refuses pods that are not enrolled, if they call: Pod {}{more}", first.name);
        let remedy = "enrol them by the label weft.dev/mesh: enabled, or leave the ports that they call open by \
                      portLevel: [{port: ..., mode: Permissive}]";
        self.asked().map(|(key, field)| Notice::warning(key, field, message.clone(), remedy)).collect()
    }

    fn is_strict_anywhere(&self, workload: &Workload) -> bool {
        let (mode, mut ports) = self.mtls.modes(&workload.name);
        workload.enrolled && (mode == MtlsMode::Strict || ports.any(|(_, mode)| mode == MtlsMode::Strict))
    }

    /// The objects that ask for Strict, and where.
    fn asked(&self) -> impl Iterator<Item = (Key, &'static str)> {
        let objects = &self.builder.objects;
        let mesh = (self.mtls.mesh == MtlsMode::Strict).then(|| (notice::mesh_config(), "spec.mtls.mode"));
        let policies = objects.authentication.values().filter_map(|policy| {
            let key = || Key { kind: Kind::AuthenticationPolicy, name: policy.name.clone() };
            match policy.mode {
                Some(MtlsMode::Strict) => Some((key(), "spec.mtls.mode")),
                _ => policy
                    .ports
                    .values()
                    .any(|mode| *mode == MtlsMode::Strict)
                    .then(|| (key(), "spec.mtls.portLevel")),
            }
        });
        mesh.into_iter().chain(policies)
    }
}

/// Somebody who calls a port of a pod.
struct Call {
    port: u16,
    by: &'static str,
    field: &'static str,
}

/// Who calls a pod from elsewhere, by its annotations and the names of its ports.
fn calls(pod: &Pod) -> Vec<Call> {
    let scraped: Vec<u16> = match pod.scraped {
        None => Vec::new(),
        Some(Scraped::Port(port)) => vec![port],
        Some(Scraped::Declared) => pod.ports.iter().map(|port| port.port).collect(),
    };
    let field = "metadata.annotations[prometheus.io/scrape]";
    let mut calls: Vec<_> = scraped
        .into_iter()
        .map(|port| Call { port, by: "Prometheus, which scrapes this pod,", field })
        .collect();
    for port in &pod.ports {
        let by = match &*port.name {
            name if name.contains("webhook") => "the API server, which calls webhooks,",
            name if name == "metrics" || name.ends_with("-metrics") => "whoever scrapes metrics",
            _ => continue,
        };
        calls.push(Call { port: port.port, by, field: "spec.containers" });
    }
    calls
}

fn listed(ports: &BTreeSet<u16>) -> String {
    let numbers: Vec<_> = ports.iter().map(u16::to_string).collect();
    format!("port {}", numbers.join(", "))
}

/// What to write so that these ports take both.
fn way_out(ports: &BTreeSet<u16>) -> String {
    let level = |port: &u16| format!("{{port: {port}, mode: Permissive}}");
    let levels: Vec<_> = ports.iter().map(level).collect();
    format!(
        "if it is to come in, write mtls: {{portLevel: [{}]}} in the AuthenticationPolicy of the pods",
        levels.join(", ")
    )
}
