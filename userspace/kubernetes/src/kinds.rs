//! weft's own kinds and the Gateway API's routes: complete fields, every rule of the CRDs.

mod authentication_policy;
mod authorization_policy;
mod check;
mod grpc_route;
mod http_route;
mod log_filter;
mod mesh_config;
mod reference_grant;
mod route;
mod schema;
mod selector;
mod target_ref;
mod tcp_route;
mod telemetry_policy;
mod tls_route;
mod traffic_policy;
mod x_mesh;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use self::route::Context;
pub(crate) use self::x_mesh::CONTROLLER_NAME;
use crate::{
    core,
    decode::{lenient_object, strict_object},
    document::Node,
    finding::Report,
    object::{Created, Key, Kind, Names, Object, Route},
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
        Kind::TcpRoute => route(root, key, names, report, tcp_route::check),
        Kind::HttpRoute => route(root, key, names, report, http_route::check),
        Kind::GrpcRoute => route(root, key, names, report, grpc_route::check),
        Kind::TlsRoute => route(root, key, names, report, tls_route::check),
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
            let created = common(&object.metadata, report);
            let policy = authentication_policy::check(&object.spec, key, created, names, report)?;
            Some(Object::AuthenticationPolicy(policy.into()))
        }
        Kind::TelemetryPolicy => {
            let object: Resource<telemetry_policy::Spec> = strict_object(root, report)?;
            let created = common(&object.metadata, report);
            let policy = telemetry_policy::check(&object.spec, key, created, names, report)?;
            Some(Object::TelemetryPolicy(policy.into()))
        }
        Kind::MeshConfig => {
            let object: Resource<mesh_config::Spec> = strict_object(root, report)?;
            common(&object.metadata, report);
            Some(Object::MeshConfig(mesh_config::check(&object.spec, key, report)?.into()))
        }
        Kind::ReferenceGrant => {
            let object: Resource<reference_grant::Spec> = lenient_object(root, report)?;
            common(&object.metadata, report);
            reference_grant::check(&object.spec, report);
            Some(Object::Noted)
        }
        Kind::XMesh => {
            let object: Resource<x_mesh::Spec> = lenient_object(root, report)?;
            common(&object.metadata, report);
            Some(Object::XMesh(x_mesh::check(&object.spec, report).into()))
        }
        // Kubernetes' own kinds are read elsewhere.
        _ => None,
    }
}

fn route<S: DeserializeOwned>(
    root: &Node<'_>,
    key: &Key,
    names: &mut Names,
    report: &mut Report<'_>,
    check: fn(&S, Created, &mut Context<'_, '_>) -> Route,
) -> Option<Object> {
    let object: Resource<S> = lenient_object(root, report)?;
    let created = common(&object.metadata, report);
    let mut context = Context { key, names, report };
    Some(Object::Route(check(&object.spec, created, &mut context).into()))
}

/// The schema of what is in `spec`, as the type says that reads it. `None` for kinds that are not ours.
pub(crate) fn spec_schema(kind: Kind) -> Option<Schema> {
    Some(match kind {
        Kind::TrafficPolicy => schema_of::<traffic_policy::Spec>(),
        Kind::AuthorizationPolicy => schema_of::<authorization_policy::Spec>(),
        Kind::AuthenticationPolicy => schema_of::<authentication_policy::Spec>(),
        Kind::TelemetryPolicy => schema_of::<telemetry_policy::Spec>(),
        Kind::MeshConfig => schema_of::<mesh_config::Spec>(),
        _ => return None,
    })
}

fn schema_of<S: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<S>()
}

fn common(metadata: &ObjectMeta, report: &mut Report<'_>) -> Created {
    core::object_meta(metadata, report);
    core::created(metadata)
}
