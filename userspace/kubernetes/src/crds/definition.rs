//! What a CRD says beside its schema: names and columns.

use crate::object::Kind;

/// One of our kinds.
pub(super) struct Definition {
    pub(super) kind: Kind,
    pub(super) plural: &'static str,
    pub(super) short: &'static str,
    /// The label `gateway.networking.k8s.io/policy`: whether a policy holds for its target alone, or for what is below.
    pub(super) policy: Option<&'static str>,
    pub(super) columns: &'static [Column],
    /// A rule over the whole object, and its message.
    pub(super) rule: Option<(&'static str, &'static str)>,
}

/// A column of `kubectl get`. The API server does not check paths: a wrong one prints nothing.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) r#type: &'static str,
    pub(super) path: &'static str,
}

const fn text(name: &'static str, path: &'static str) -> Column {
    Column { name, r#type: "string", path }
}

const TARGET_KIND: &str = ".spec.targetRefs[0].kind";
const ACCEPTED: Column = text("ACCEPTED", r#".status.ancestors[0].conditions[?(@.type=="Accepted")].status"#);
const PROGRAMMED: Column =
    text("PROGRAMMED", r#".status.ancestors[0].conditions[?(@.type=="Programmed")].status"#);
const AGE: Column = Column { name: "AGE", r#type: "date", path: ".metadata.creationTimestamp" };

pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        kind: Kind::MeshConfig,
        plural: "meshconfigs",
        short: "mc",
        policy: None,
        columns: &[
            text("TRUST-DOMAIN", ".status.trustDomain"),
            text("MTLS", ".spec.mtls.mode"),
            Column { name: "NODES", r#type: "integer", path: ".status.nodes.desired" },
            Column { name: "READY", r#type: "integer", path: ".status.nodes.ready" },
            AGE,
        ],
        rule: Some((
            "self.metadata.name == 'default'",
            "there is one MeshConfig: write metadata.name: default",
        )),
    },
    Definition {
        kind: Kind::TrafficPolicy,
        plural: "trafficpolicies",
        short: "tp",
        policy: Some("Inherited"),
        columns: &[
            text("TARGET-KIND", TARGET_KIND),
            text("TARGET", ".spec.targetRefs[0].name"),
            text("LB", ".spec.loadBalancer.type"),
            ACCEPTED,
            PROGRAMMED,
            AGE,
        ],
        rule: None,
    },
    Definition {
        kind: Kind::AuthorizationPolicy,
        plural: "authorizationpolicies",
        short: "authz",
        policy: Some("Direct"),
        columns: &[
            text("ACTION", ".spec.action"),
            text("MODE", ".spec.mode"),
            text("TARGET", TARGET_KIND),
            ACCEPTED,
            PROGRAMMED,
            AGE,
        ],
        rule: None,
    },
    Definition {
        kind: Kind::AuthenticationPolicy,
        plural: "authenticationpolicies",
        short: "authn",
        policy: Some("Inherited"),
        columns: &[text("MTLS", ".spec.mtls.mode"), text("TARGET", TARGET_KIND), ACCEPTED, AGE],
        rule: None,
    },
    Definition {
        kind: Kind::TelemetryPolicy,
        plural: "telemetrypolicies",
        short: "telemetry",
        policy: Some("Inherited"),
        columns: &[
            text("TRACING", ".spec.tracing.mode"),
            text("SAMPLING", ".spec.tracing.samplingRate"),
            text("ACCESS-LOG", ".spec.accessLog.mode"),
            ACCEPTED,
            AGE,
        ],
        rule: None,
    },
];
