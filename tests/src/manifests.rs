//! Objects as text. Every `spec` is YAML in flow style: `"{clusterIP: 10.96.0.1, ports: [{port: 80}]}"`.

/// A Namespace, enrolled in the mesh or not.
pub fn namespace(name: &str, enrolled: bool) -> String {
    let labels = if enrolled { "{weft.dev/mesh: enabled}" } else { "{}" };
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n")
}

/// A Node in a zone.
pub fn node(name: &str, zone: &str) -> String {
    let labels = format!("{{topology.kubernetes.io/zone: {zone}}}");
    format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {labels}}}\n")
}

/// A Service, `namespace/name`.
pub fn service(name: &str, spec: &str) -> String {
    object("v1", "Service", name, &format!("spec: {spec}"))
}

/// A Service with annotations, in flow style too.
pub fn annotated_service(name: &str, annotations: &str, spec: &str) -> String {
    let metadata = metadata(name, &format!(", annotations: {annotations}"));
    format!("apiVersion: v1\nkind: Service\nmetadata: {metadata}\nspec: {spec}\n")
}

/// An `EndpointSlice` of `service` (`namespace/name`), called `service` and then `suffix`. `ports` and
/// `endpoints` are lists.
pub fn endpoint_slice(
    service: &str,
    suffix: &str,
    address_type: &str,
    ports: &str,
    endpoints: &str,
) -> String {
    let (namespace, name) = split(service);
    format!(
        "apiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\n\
         metadata: {{namespace: {namespace}, name: {name}-{suffix}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: {address_type}\n\
         ports: {ports}\n\
         endpoints: {endpoints}\n"
    )
}

/// An `AuthorizationPolicy`, `namespace/name`.
pub fn authorization_policy(name: &str, spec: &str) -> String {
    object("weft.dev/v1alpha1", "AuthorizationPolicy", name, &format!("spec: {spec}"))
}

/// An `AuthenticationPolicy`, `namespace/name`.
pub fn authentication_policy(name: &str, spec: &str) -> String {
    object("weft.dev/v1alpha1", "AuthenticationPolicy", name, &format!("spec: {spec}"))
}

/// The `MeshConfig`.
pub fn mesh_config(spec: &str) -> String {
    format!("apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec: {spec}\n")
}

/// A `TrafficPolicy`, `namespace/name`.
pub fn traffic_policy(name: &str, spec: &str) -> String {
    object("weft.dev/v1alpha1", "TrafficPolicy", name, &format!("spec: {spec}"))
}

/// A `TelemetryPolicy`, `namespace/name`.
pub fn telemetry_policy(name: &str, spec: &str) -> String {
    object("weft.dev/v1alpha1", "TelemetryPolicy", name, &format!("spec: {spec}"))
}

/// A `TCPRoute`, `namespace/name`.
pub fn tcp_route(name: &str, spec: &str) -> String {
    object("gateway.networking.k8s.io/v1", "TCPRoute", name, &format!("spec: {spec}"))
}

/// An `HTTPRoute`, `namespace/name`.
pub fn http_route(name: &str, spec: &str) -> String {
    object("gateway.networking.k8s.io/v1", "HTTPRoute", name, &format!("spec: {spec}"))
}

/// Several objects in one file.
pub fn documents(objects: &[String]) -> String {
    objects.join("---\n")
}

/// The two parts of `namespace/name`.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or_else(|| panic!("{name:?} is not namespace/name"))
}

fn object(api_version: &str, kind: &str, name: &str, body: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {}\n{body}\n", metadata(name, ""))
}

fn metadata(name: &str, more: &str) -> String {
    let (namespace, name) = split(name);
    format!("{{namespace: {namespace}, name: {name}{more}}}")
}
