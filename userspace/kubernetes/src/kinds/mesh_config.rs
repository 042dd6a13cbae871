//! MeshConfig: the settings of the whole mesh.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use weft_model::{MtlsMode, ObjectName, Selector, Snapshot, SpiffeId};

use super::{check, schema, selector::LabelSelector, telemetry_policy};
use crate::{
    core::ENROLMENT,
    finding::Report,
    object::{Key, MeshConfig},
};

/// The settings of the whole mesh. There is one MeshConfig, named default; without it all settings have their defaults.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [schema::rule_at(
    ".trustDomain",
    "!has(oldSelf.trustDomain) || (has(self.trustDomain) && self.trustDomain == oldSelf.trustDomain)",
    "identities of another trust domain would be strangers: leave it as it is, and see trustDomainAliases",
)]))]
pub(super) struct Spec {
    /// The trust domain of all identities of the mesh. It cannot be changed: `weft install --trust-domain` says it, and what
    /// is written here is that. Absent: the same.
    #[schemars(with = "Option<schema::TrustDomain>")]
    trust_domain: Option<String>,
    /// Trust domains whose identities stand for those of trustDomain in rules.
    #[serde(default)]
    #[schemars(with = "Vec<schema::TrustDomain>", length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    trust_domain_aliases: Vec<String>,
    /// The namespaces whose pods are in the mesh. A pod's own label weft.dev/mesh goes before.
    #[schemars(extend("default" = {"matchLabels": {ENROLMENT: "enabled"}}))]
    namespace_selector: Option<LabelSelector>,
    /// Mutual TLS where no AuthenticationPolicy says anything.
    #[schemars(extend("default" = {"mode": "Permissive"}))]
    mtls: Option<Mtls>,
    /// Connections to what is not in the mesh.
    #[schemars(extend("default" = {"mode": "AllowAny"}))]
    outbound_traffic_policy: Option<Outbound>,
    /// Certificates of workloads.
    #[schemars(extend("default" = {}))]
    certificates: Option<Certificates>,
    /// What is told of connections and requests where no TelemetryPolicy says anything.
    telemetry: Option<Telemetry>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Mtls {
    /// What pods take: Strict mutual TLS only, Permissive plaintext too, Disabled plaintext only.
    #[schemars(with = "schema::MtlsMode")]
    mode: MtlsMode,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Outbound {
    /// `AllowAny` lets all pass. `RegistryOnly`, only Services and pods of the cluster, is not enforced yet.
    mode: OutboundMode,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
enum OutboundMode {
    AllowAny,
    RegistryOnly,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Certificates {
    /// How long a certificate is valid, from 10m to 2160h; it is renewed long before its end. As little as 30s is
    /// taken, to watch rotation.
    #[schemars(with = "Option<schema::LifeTime>", extend("default" = "24h"))]
    ttl: Option<String>,
    /// Who signs certificates.
    #[schemars(extend("default" = {"type": "SelfSigned"}))]
    issuer: Option<Issuer>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    schema::member("SecretRef", "secretRef"),
    schema::rule_at(
        ".podCertificate",
        "!has(self.podCertificate) || self.type == 'PodCertificate'",
        "podCertificate goes with type PodCertificate alone: remove it, or change the type",
    ),
]))]
struct Issuer {
    /// `SelfSigned` is an authority that weft makes, `SecretRef` one that is brought, `PodCertificate` the cluster's.
    r#type: IssuerType,
    /// For type `SecretRef`: a Secret with the authority's certificate and key.
    secret_ref: Option<SecretRef>,
    /// For type `PodCertificate`: which signer.
    pod_certificate: Option<PodCertificate>,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
enum IssuerType {
    SelfSigned,
    SecretRef,
    PodCertificate,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SecretRef {
    /// The Secret's name.
    #[schemars(with = "schema::Name")]
    name: String,
    /// The Secret's namespace. Absent: weft's own.
    #[serde(default)]
    #[schemars(with = "Option<schema::ServiceName>")]
    namespace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PodCertificate {
    /// The signer's name, like example.com/signer.
    #[serde(rename = "signerName")]
    #[schemars(length(min = 1, max = 571))]
    _signer_name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Telemetry {
    /// Traces of requests. They are not made yet.
    tracing: Option<telemetry_policy::Tracing>,
    /// A line for each request, and for each connection without requests.
    access_log: Option<telemetry_policy::AccessLog>,
}

/// Shorter than the CRD's ten minutes, so that rotation can be watched.
const SHORTEST_TTL: Duration = Duration::from_secs(30);
const LONGEST_TTL: Duration = Duration::from_hours(2160);

pub(super) fn check(spec: &Spec, key: &Key, report: &mut Report<'_>) -> Option<MeshConfig> {
    if *key.name.name != *"default" {
        let message = format!("there is one MeshConfig, named default, not {}", key.name.name);
        report.error("metadata.name", message, "write name: default");
    }
    if let Some(name) = &spec.trust_domain {
        check_trust_domain(name, "spec.trustDomain", report);
    }
    for (i, alias) in spec.trust_domain_aliases.iter().enumerate() {
        check_trust_domain(alias, &format!("spec.trustDomainAliases[{i}]"), report);
    }
    let certificates = spec.certificates.as_ref();
    let certificate_ttl = certificates.and_then(|certificates| certificates.check(report));
    let telemetry = spec.telemetry.as_ref().map(|telemetry| {
        let (tracing, access_log) = (telemetry.tracing.as_ref(), telemetry.access_log.as_ref());
        telemetry_policy::check_parts(tracing, access_log, "spec.telemetry", report)
    });
    let selector = spec.namespace_selector.as_ref();
    let namespace_selector = selector
        .map_or_else(MeshConfig::default_namespace_selector, |s| s.check("spec.namespaceSelector", report));
    warn(spec, report);
    let trust_domain_aliases = spec.trust_domain_aliases.iter().map(|alias| alias.as_str().into()).collect();
    let access_log = telemetry.unwrap_or_default();
    let mesh = MeshConfig {
        trust_domain: spec.trust_domain.as_deref().map(Arc::from),
        trust_domain_aliases,
        certificate_ttl: certificate_ttl.unwrap_or(Snapshot::CERTIFICATE_TTL),
        brought_authority: certificates.and_then(Certificates::brought),
        namespace_selector,
        mtls: spec.mtls.as_ref().map(|mtls| mtls.mode).unwrap_or_default(),
        access_log,
    };
    (!report.refused()).then_some(mesh)
}

impl MeshConfig {
    /// Namespaces labelled `weft.dev/mesh: enabled`.
    pub(crate) fn default_namespace_selector() -> Selector {
        let labels = [(ENROLMENT.to_owned(), "enabled".to_owned())].into();
        Selector { labels, expressions: Vec::new() }
    }
}

impl Certificates {
    /// The Secret of the authority that signs, where it is not weft's own.
    fn brought(&self) -> Option<ObjectName> {
        let issuer = self.issuer.as_ref().filter(|issuer| issuer.r#type == IssuerType::SecretRef)?;
        let SecretRef { name, namespace } = issuer.secret_ref.as_ref()?;
        Some(ObjectName::new(namespace.as_deref().unwrap_or_default(), name.as_str()))
    }

    /// How long certificates are valid, where that is said.
    fn check(&self, report: &mut Report<'_>) -> Option<Duration> {
        let ttl = check::duration(self.ttl.as_ref(), "spec.certificates.ttl", report);
        if ttl.is_some_and(|ttl| !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl)) {
            report.error("spec.certificates.ttl", "out of range", "write 10m to 2160h");
        }
        let Some(issuer) = &self.issuer else { return ttl };
        let field = "spec.certificates.issuer";
        let kind = format!("{:?}", issuer.r#type);
        if issuer.r#type == IssuerType::PodCertificate {
            let message =
                format!("{kind} is not honoured yet: controllers sign by an authority of their own");
            let remedy = "write type: SelfSigned, or SecretRef to bring an authority";
            report.warning(&format!("{field}.type"), message, remedy);
        }
        let secret = issuer.r#type == IssuerType::SecretRef;
        check::member(issuer.secret_ref.is_some(), secret, &format!("{field}.secretRef"), &kind, report);
        if issuer.pod_certificate.is_some() && issuer.r#type != IssuerType::PodCertificate {
            check::member(true, false, &format!("{field}.podCertificate"), &kind, report);
        }
        ttl
    }
}

fn check_trust_domain(name: &str, field: &str, report: &mut Report<'_>) {
    if SpiffeId::domain(name).is_err() {
        let remedy = "write a name of a-z, 0-9, '.', '-' and '_', like cluster.local";
        report.error(field, format!("\"{name}\" is no trust domain"), remedy);
    }
}

fn warn(spec: &Spec, report: &mut Report<'_>) {
    if spec.outbound_traffic_policy.as_ref().is_some_and(|policy| policy.mode == OutboundMode::RegistryOnly) {
        let remedy = "connections to addresses outside the mesh pass";
        report.warning("spec.outboundTrafficPolicy.mode", "RegistryOnly is not enforced yet", remedy);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        decode::decode,
        object::{Names, Object},
    };

    /// The fields and messages found in a MeshConfig with this spec.
    fn findings(spec: &str) -> Vec<(String, String)> {
        let text = format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, spec: {{{spec}}}}}"
        );
        let decoded = decode(&text, &mut Names::default());
        decoded.declared[0].findings.iter().map(|f| (f.field.clone(), f.message.clone())).collect()
    }

    #[test]
    fn an_issuer_that_nobody_honours_is_named() {
        let about = |issuer: &str| findings(&format!("certificates: {{issuer: {{{issuer}}}}}"));
        assert!(about("type: SelfSigned").is_empty());
        assert!(about("type: SecretRef, secretRef: {name: a}").is_empty());
        let found = about("type: PodCertificate, podCertificate: {signerName: a/b}");
        let [(field, message)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(field, "spec.certificates.issuer.type");
        assert!(message.contains("not honoured yet"), "{message}");
    }

    #[test]
    fn an_authority_that_is_brought_is_named_by_its_secret() {
        let brought = |issuer: &str| {
            let text = format!(
                "{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: default}}, \
                 spec: {{certificates: {{issuer: {{{issuer}}}}}}}}}"
            );
            let decoded = decode(&text, &mut Names::default());
            let Some(Object::MeshConfig(mesh)) = &decoded.declared[0].object else { panic!("{decoded:?}") };
            mesh.brought_authority.as_ref().map(ToString::to_string)
        };
        assert_eq!(brought("type: SelfSigned"), None);
        let in_ours = brought("type: SecretRef, secretRef: {name: corp}").unwrap();
        assert!(in_ours.ends_with("corp"), "{in_ours}");
        let elsewhere = brought("type: SecretRef, secretRef: {name: corp, namespace: pki}");
        assert_eq!(elsewhere.as_deref(), Some("pki/corp"));
    }

    #[test]
    fn an_empty_spec_is_the_defaults() {
        let text = "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {}}";
        let decoded = decode(text, &mut Names::default());
        let Some(Object::MeshConfig(mesh)) = &decoded.declared[0].object else { panic!("{decoded:?}") };
        assert_eq!(mesh.trust_domain, None, "that of the installation");
        assert_eq!(mesh.namespace_selector.labels["weft.dev/mesh"], "enabled");
        assert_eq!(mesh.certificate_ttl, Duration::from_hours(24));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("trustDomain: Cluster.Local", "spec.trustDomain", "is no trust domain"),
            ("trustDomain: a/b", "spec.trustDomain", "is no trust domain"),
            ("trustDomainAliases: [a, 'b c']", "spec.trustDomainAliases[1]", "is no trust domain"),
            ("certificates: {ttl: 29s}", "spec.certificates.ttl", "out of range"),
            ("certificates: {ttl: 2160h1s}", "spec.certificates.ttl", "out of range"),
            ("certificates: {issuer: {type: SecretRef}}", "spec.certificates.issuer.secretRef", "needs it"),
            (
                "certificates: {issuer: {type: SelfSigned, secretRef: {name: a}}}",
                "spec.certificates.issuer.secretRef",
                "does not go with",
            ),
            ("mtls: {mode: strict}", "spec.mtls.mode", "expected one of Disabled"),
            (
                "outboundTrafficPolicy: {mode: Any}",
                "spec.outboundTrafficPolicy.mode",
                "expected one of AllowAny",
            ),
            (
                "telemetry: {accessLog: {provider: {type: OTLP}}}",
                "spec.telemetry.accessLog.provider.backendRef",
                "needs it",
            ),
            (
                "outboundTrafficPolicy: {mode: RegistryOnly}",
                "spec.outboundTrafficPolicy.mode",
                "not enforced yet",
            ),
        ];
        for (spec, field, message) in cases {
            let findings = findings(spec);
            assert_eq!(findings.len(), 1, "{spec}: {findings:?}");
            assert_eq!(findings[0].0, field, "{spec}");
            assert!(findings[0].1.contains(message), "{spec}: {}", findings[0].1);
        }
        for good in [
            "certificates: {ttl: 30s}",
            "certificates: {ttl: 2160h}",
            "mtls: {mode: Permissive}",
            "mtls: {mode: Strict}",
        ] {
            assert_eq!(findings(good), [], "{good}");
        }
    }
}
