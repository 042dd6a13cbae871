//! What the snapshot says about good objects, and what a change of one touches.

mod routes;
mod services;
mod workloads;

use std::sync::Arc;

use weft_model::{Endpoint, ObjectName, Service};

use super::{Builder, Built, Notice};
use crate::manifests::Catalog;

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

    /// Messages found at any Service.
    fn notices(&mut self) -> Vec<String> {
        self.built().notices.values().flatten().map(|n| format!("{}: {}", n.key, n.finding.message)).collect()
    }
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
