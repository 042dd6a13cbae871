//! What the snapshot says about good objects, and what a change of one touches.

mod http_routes;
mod jwt;
mod mesh;
mod mtls;
mod outside;
mod policies;
mod routes;
mod services;
mod spread;
mod status;
mod telemetry;
mod workloads;

use std::sync::Arc;

use weft_model::{Endpoint, ObjectName, PortRouting, Service};

use super::{Builder, Built, Notice};
use crate::catalog::Catalog;

/// A catalog and a builder without a directory around them.
struct World {
    catalog: Catalog,
    builder: Builder,
}

impl World {
    /// On node `n1`, with these documents in a file each.
    fn new(documents: &[&str]) -> Self {
        let mut world = Self { catalog: Catalog::default(), builder: Builder::new("n1".into()) };
        for (i, document) in documents.iter().enumerate() {
            world.put(&format!("{i}.yaml"), document);
        }
        world
    }

    fn put(&mut self, file: &str, document: &str) {
        self.catalog.put(&file.into(), document);
    }

    fn remove(&mut self, file: &str) {
        self.catalog.remove(&file.into());
    }

    /// Everything built; panics at an object that is refused.
    fn built(&mut self) -> Built {
        let built = self.builder.apply(self.catalog.settle()).clone();
        let problems = self.catalog.problems(&Vec::<Notice>::new());
        let errors: Vec<_> = problems.iter().filter(|p| p.severity == weft_model::Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        built
    }

    fn service(&mut self, name: &str) -> Arc<Service> {
        Arc::clone(&self.built().services[&shop(name)])
    }

    /// The routing of a Service's first port, where its connections leave the kernel path.
    fn routing(&mut self, name: &str) -> Option<Arc<PortRouting>> {
        self.service(name).ports[0].routing.clone()
    }

    /// Messages found at any Service or route.
    fn notices(&mut self) -> Vec<String> {
        let built = self.built();
        let all = built.notices.values().flatten();
        all.map(|notice| format!("{}: {}", notice.key, notice.finding.message)).collect()
    }
}

/// A route of `kind` with these parents and this spec, made on that day of November 2026.
fn route(kind: &str, name: &str, day: u8, parents: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: {name}, \
         namespace: {namespace}, creationTimestamp: '2026-11-{day:02}T10:00:00Z'}}, \
         spec: {{parentRefs: [{parents}], {spec}}}}}"
    )
}

/// A parentRef to the Service `name` of namespace shop, and what else it says.
fn parent(name: &str, rest: &str) -> String {
    format!("{{group: '', kind: Service, name: {name}, namespace: shop{rest}}}")
}

/// One rule that sends everything to the port 80 of Service `name` in namespace shop.
fn to(name: &str) -> String {
    format!("rules: [{{backendRefs: [{{name: {name}, namespace: shop, port: 80}}]}}]")
}

fn built(documents: &[&str]) -> Built {
    World::new(documents).built()
}

fn shop(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

/// A Service `name` in namespace shop with what else is in its spec.
fn service(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, spec: {{{spec}}}}}"
    )
}

/// A Pod `name` in namespace shop, labelled `app: web`, with this address and what else it is.
fn pod(name: &str, ip: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, labels: {{app: web}}}}, {rest} \
         status: {{podIPs: [{{ip: {ip}}}]}}}}"
    )
}

/// An EndpointSlice `name` of Service `service`, with these ports and endpoints.
fn slice(name: &str, service: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: shop, \
         labels: {{kubernetes.io/service-name: {service}}}}}, addressType: IPv4, ports: [{ports}], \
         endpoints: [{endpoints}]}}"
    )
}

fn endpoints(service: &Service, port: usize) -> &[Endpoint] {
    &service.ports[port].groups[0].endpoints
}

fn addresses(service: &Service, port: usize) -> Vec<String> {
    endpoints(service, port).iter().map(|endpoint| endpoint.address.to_string()).collect()
}
