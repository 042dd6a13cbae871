//! weft's own kinds and the Gateway API's routes: complete fields, every rule of the CRDs.

mod authentication_policy;
mod authorization_policy;
mod check;
mod mesh_config;
mod selector;
mod target_ref;
mod tcp_route;
mod telemetry_policy;
mod traffic_policy;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    core,
    decode::{lenient_object, strict_object},
    document::Node,
    finding::Report,
    object::{Created, Key, Kind, Names, Object},
};

/// An object of any kind.
#[derive(Deserialize)]
struct Resource<S> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: ObjectMeta,
    spec: S,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

/// Reads an object of one of the kinds here; findings go to `report`.
pub(crate) fn read(root: &Node<'_>, key: &Key, names: &mut Names, report: &mut Report<'_>) -> Option<Object> {
    match key.kind {
        Kind::TcpRoute => {
            let object: Resource<tcp_route::Spec> = lenient_object(root, report)?;
            let created = common(&object.metadata, report);
            Some(Object::TcpRoute(tcp_route::check(&object.spec, key, created, names, report).into()))
        }
        Kind::TrafficPolicy => {
            let object: Resource<traffic_policy::Spec> = strict_object(root, report)?;
            let created = common(&object.metadata, report);
            Some(Object::TrafficPolicy(
                traffic_policy::check(&object.spec, key, created, names, report).into(),
            ))
        }
        Kind::AuthorizationPolicy => {
            let object: Resource<authorization_policy::Spec> = strict_object(root, report)?;
            common(&object.metadata, report);
            let policy = authorization_policy::check(&object.spec, key, names, report)?;
            Some(Object::AuthorizationPolicy(policy.into()))
        }
        Kind::AuthenticationPolicy => {
            let object: Resource<authentication_policy::Spec> = strict_object(root, report)?;
            common(&object.metadata, report);
            authentication_policy::check(&object.spec, names, report);
            Some(Object::Noted)
        }
        Kind::TelemetryPolicy => {
            let object: Resource<telemetry_policy::Spec> = strict_object(root, report)?;
            common(&object.metadata, report);
            telemetry_policy::check(&object.spec, names, report);
            Some(Object::Noted)
        }
        Kind::MeshConfig => {
            let object: Resource<mesh_config::Spec> = strict_object(root, report)?;
            common(&object.metadata, report);
            Some(Object::MeshConfig(mesh_config::check(&object.spec, key, report)?.into()))
        }
        Kind::ReferenceGrant => {
            let remedy = "nothing to do: a backendRef to another namespace needs no grant in the mesh";
            report.warning("kind", "ReferenceGrant is ignored", remedy);
            Some(Object::Noted)
        }
        _ => {
            let message = format!("{} is not enforced yet: it needs the http path", key.kind.name());
            report.warning("kind", message, "connections take the kernel path, as if it were not there");
            Some(Object::Noted)
        }
    }
}

fn common(metadata: &ObjectMeta, report: &mut Report<'_>) -> Created {
    core::object_meta(metadata, report);
    core::created(metadata)
}
