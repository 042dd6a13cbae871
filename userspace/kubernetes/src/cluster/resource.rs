//! Which kinds are watched, and where the API server has them.

use crate::{decode::versions, object::Kind};

/// One kind, as an API server serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// As it stands in an object; empty for [`Resource::definitions`].
    pub(super) api_version: String,
    /// As it stands in an object.
    pub(super) name: &'static str,
    /// As it stands in paths and in rules of RBAC.
    pub(super) plural: &'static str,
    /// Nothing but their metadata is asked for.
    pub(super) metadata_only: bool,
    /// Which of them, by their labels.
    pub(super) labels: Option<&'static str>,
    /// Nothing but one of them.
    pub(super) one: Option<One>,
}

/// One object's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct One {
    /// `None` of a kind that has none.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

/// A kind that is there when somebody has installed it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Optional {
    pub(super) kind: Kind,
    /// The name of its `CustomResourceDefinition`.
    pub(super) definition: &'static str,
}

/// The kinds that every cluster has, those first that others' meaning depends on.
pub(super) const CORE: [Kind; 5] =
    [Kind::Namespace, Kind::Node, Kind::Service, Kind::EndpointSlice, Kind::Pod];

/// The kinds that have `CustomResourceDefinition`s. Of XMesh nothing is for nodes: who judges objects asks for it.
pub(super) const OPTIONAL: [Optional; 11] = [
    Optional { kind: Kind::MeshConfig, definition: "meshconfigs.weft.dev" },
    Optional { kind: Kind::TcpRoute, definition: "tcproutes.gateway.networking.k8s.io" },
    Optional { kind: Kind::HttpRoute, definition: "httproutes.gateway.networking.k8s.io" },
    Optional { kind: Kind::GrpcRoute, definition: "grpcroutes.gateway.networking.k8s.io" },
    Optional { kind: Kind::TlsRoute, definition: "tlsroutes.gateway.networking.k8s.io" },
    Optional { kind: Kind::ReferenceGrant, definition: "referencegrants.gateway.networking.k8s.io" },
    Optional { kind: Kind::TrafficPolicy, definition: "trafficpolicies.weft.dev" },
    Optional { kind: Kind::AuthorizationPolicy, definition: "authorizationpolicies.weft.dev" },
    Optional { kind: Kind::AuthenticationPolicy, definition: "authenticationpolicies.weft.dev" },
    Optional { kind: Kind::TelemetryPolicy, definition: "telemetrypolicies.weft.dev" },
    Optional { kind: Kind::XMesh, definition: "xmeshes.gateway.networking.x-k8s.io" },
];

impl Resource {
    /// One of [`CORE`].
    pub(super) fn core(kind: Kind) -> Self {
        let (plural, metadata_only, labels) = match kind {
            Kind::Namespace => ("namespaces", true, None),
            Kind::Node => ("nodes", true, None),
            Kind::Service => ("services", false, None),
            Kind::EndpointSlice => ("endpointslices", false, Some(OF_SERVICES)),
            _ => ("pods", false, None),
        };
        let api_version = versions(kind).first().copied().unwrap_or_default().to_owned();
        Self { api_version, name: kind.name(), plural, metadata_only, labels, one: None }
    }

    /// One of [`OPTIONAL`], in the version `api_version`.
    pub(super) fn optional(kind: Kind, api_version: &str) -> Self {
        let definition = OPTIONAL.iter().find(|optional| optional.kind == kind).map(|o| o.definition);
        let plural = definition.and_then(|name| name.split_once('.')).map_or("", |(plural, _)| plural);
        let api_version = api_version.to_owned();
        Self { api_version, name: kind.name(), plural, metadata_only: false, labels: None, one: None }
    }

    /// Which kinds there are beside those that every cluster has.
    pub(super) fn definitions() -> Self {
        Self {
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            name: "CustomResourceDefinition",
            plural: "customresourcedefinitions",
            metadata_only: true,
            labels: None,
            one: None,
        }
    }

    /// One DaemonSet.
    pub(super) fn daemonset(namespace: &str, name: &str) -> Self {
        Self {
            api_version: "apps/v1".to_owned(),
            name: "DaemonSet",
            plural: "daemonsets",
            metadata_only: false,
            labels: None,
            one: Some(One { namespace: Some(namespace.to_owned()), name: name.to_owned() }),
        }
    }

    /// One object of a kind of [`CORE`] that has no namespace.
    pub(super) fn only(kind: Kind, name: &str) -> Self {
        Self { one: Some(One { namespace: None, name: name.to_owned() }), ..Self::core(kind) }
    }

    /// The path of all of them, in every namespace, or in that of the one.
    pub(super) fn path(&self) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let namespace = self.one.as_ref().and_then(|one| one.namespace.as_ref());
        let within = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
        format!("{root}/{}{within}/{}", self.api_version, self.plural)
    }

    /// What picks the one, of all at the path.
    pub(super) fn fields(&self) -> Option<String> {
        self.one.as_ref().map(|one| format!("metadata.name={}", one.name))
    }
}

/// The path of the objects of `kind`, in one namespace or (of kinds without) in none.
pub(crate) fn path_of(kind: Kind, api_version: &str, namespace: &str) -> String {
    let path = Resource::optional(kind, api_version).path();
    match path.rsplit_once('/') {
        Some((group, plural)) if !namespace.is_empty() => format!("{group}/namespaces/{namespace}/{plural}"),
        _ => path,
    }
}

/// Slices of Services that have an address: of headless ones nobody asks us.
const OF_SERVICES: &str = "kubernetes.io/service-name,!service.kubernetes.io/headless";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_read_is_asked_for_where_api_servers_have_it() {
        let core = CORE.map(|kind| Resource::core(kind).path());
        assert_eq!(
            core,
            [
                "/api/v1/namespaces",
                "/api/v1/nodes",
                "/api/v1/services",
                "/apis/discovery.k8s.io/v1/endpointslices",
                "/api/v1/pods",
            ]
        );
        for Optional { kind, definition } in OPTIONAL {
            let version = versions(kind)[0];
            let (plural, group) = definition.split_once('.').unwrap();
            assert!(version.starts_with(&format!("{group}/")), "{definition} is not of {version}");
            assert_eq!(Resource::optional(kind, version).path(), format!("/apis/{version}/{plural}"));
        }
    }
}
