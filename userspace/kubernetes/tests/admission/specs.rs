//! Specs that are wrong, beside those of `tests/broken`, with what the API server has to say of each; and good ones, with
//! every field of every kind.

const TP: &str = "TrafficPolicy";
const AUTHZ: &str = "AuthorizationPolicy";
const AUTHN: &str = "AuthenticationPolicy";
const TELEMETRY: &str = "TelemetryPolicy";
const MESH: &str = "MeshConfig";

/// Kind, spec, and a part of the answer.
pub(crate) const WRONG: &[(&str, &str, &str)] = &[
    (
        MESH,
        "{trustDomain: Cluster.Local}",
        "spec.trustDomain: Invalid value: \"Cluster.Local\": no trust domain: write",
    ),
    (MESH, "{trustDomain: ''}", "spec.trustDomain in body should be at least 1 chars long"),
    (
        MESH,
        "{trustDomainAliases: [a, 'b c']}",
        "spec.trustDomainAliases[1]: Invalid value: \"b c\": no trust domain",
    ),
    (
        MESH,
        "{certificates: {ttl: 29s}}",
        "spec.certificates.ttl: Invalid value: \"29s\": out of range: write 10m",
    ),
    (
        MESH,
        "{certificates: {ttl: 2160h1s}}",
        "spec.certificates.ttl: Invalid value: \"2160h1s\": out of range",
    ),
    (MESH, "{certificates: {ttl: 1d}}", "spec.certificates.ttl: Invalid value: \"1d\": no duration: write"),
    (
        MESH,
        "{certificates: {issuer: {type: SecretRef}}}",
        "spec.certificates.issuer.secretRef: Invalid value: type",
    ),
    (
        MESH,
        "{certificates: {issuer: {type: SelfSigned, secretRef: {name: a}}}}",
        "type SecretRef and secretRef go together: add the one, or remove the other",
    ),
    (
        MESH,
        "{certificates: {issuer: {type: SelfSigned, podCertificate: {signerName: a/b}}}}",
        "spec.certificates.issuer.podCertificate: Invalid value: podCertificate goes with type PodCertificate alone",
    ),
    (
        MESH,
        "{mtls: {mode: strict}}",
        "spec.mtls.mode: Unsupported value: \"strict\": supported values: \"Disabled\"",
    ),
    (MESH, "{mtls: {}}", "spec.mtls.mode: Required value"),
    (MESH, "{outboundTrafficPolicy: {mode: Any}}", "supported values: \"AllowAny\", \"RegistryOnly\""),
    (
        MESH,
        "{telemetry: {accessLog: {provider: {type: OTLP}}}}",
        "spec.telemetry.accessLog.provider.backendRef: Invalid value: type OTLP and backendRef go together",
    ),
    (MESH, "{rateLimit: {}}", "unknown field \"spec.rateLimit\""),
    (
        TP,
        "{targetRefs: [{kind: HTTPRoute, name: web}], retry: {}}",
        "spec.targetRefs[0].group: Invalid value: not the",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: Web}], retry: {}}",
        "spec.targetRefs[0].name: Invalid value: \"Web\": no",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service}], retry: {}}",
        "spec.targetRefs[0].name: Invalid value: Services and routes are",
    ),
    (TP, "{targetRefs: [{name: web}], retry: {}}", "spec.targetRefs[0].kind: Required value"),
    (
        TP,
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: GRPCRoute, name: a}], circuitBreaker: {}}",
        "spec.circuitBreaker: Invalid value: circuitBreaker is for Services, not for routes: target kind: Service",
    ),
    (
        TP,
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}], outlierDetection: {}}",
        "spec.outlierDetection: Invalid value: outlierDetection is for Services",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], loadBalancer: {consistentHash: {type: SourceIP}}}",
        "spec.loadBalancer.consistentHash: Invalid value: type ConsistentHash and consistentHash go together",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], loadBalancer: {type: ConsistentHash, consistentHash: {type: SourceIP, header: {name: a}}}}",
        "spec.loadBalancer.consistentHash.header: Invalid value: type Header and header go together",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], loadBalancer: {type: ConsistentHash, consistentHash: {type: QueryParam, queryParam: {name: ''}}}}",
        "spec.loadBalancer.consistentHash.queryParam.name in body should be at least 1 chars long",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], loadBalancer: {type: ConsistentHash, consistentHash: {type: SourceIP, tableSize: 1}}}",
        "spec.loadBalancer.consistentHash.tableSize in body should be greater than or equal to 2",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], loadBalancer: {slowStart: {window: soon}}}",
        "spec.loadBalancer.slowStart.window: Invalid value: \"soon\": no duration",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {maxRequestsPerConnection: 0}}",
        "should be greater than or equal to 1",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], circuitBreaker: {maxConnections: 2147483648}}",
        "should be less than or equal to 2147483647",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], outlierDetection: {maxEjectionTime: 29s}}",
        "shorter than baseEjectionTime, which is 30s",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], outlierDetection: {maxEjectionPercent: 101}}",
        "should be less than or equal to 100",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], retry: {codes: [503, 503]}}",
        "spec.retry.codes[1]: Duplicate value: 503",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], retry: {grpcCodes: [INTERNAL, INTERNAL]}}",
        "spec.retry.grpcCodes[1]: Duplicate value",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], retry: {attempts: 0}}",
        "spec.retry.attempts in body should be greater than or equal to 1",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], retry: {backoff: 1.5s}}",
        "spec.retry.backoff: Invalid value: \"1.5s\": no duration",
    ),
    (TP, "{targetRefs: [{kind: Service, name: a}], rateLimit: {}}", "spec.rateLimit.local: Required value"),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], rateLimit: {local: {rules: []}}}",
        "spec.rateLimit.local.rules in body should have at least 1 items",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], rateLimit: {local: {rules: [{limit: {requests: 0, unit: Hour}}]}}}",
        "spec.rateLimit.local.rules[0].limit.requests in body should be greater",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], rateLimit: {local: {rules: [{limit: {requests: 1, unit: Hour}, key: [{type: SourceIP, header: {name: a}}]}]}}}",
        "spec.rateLimit.local.rules[0].key[0].header: Invalid value: type Header and header go together",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], faultInjection: {}}",
        "spec.faultInjection: Invalid value: neither delay nor abort is there: add one",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], faultInjection: {abort: {percent: 1}}}",
        "spec.faultInjection.abort: Invalid value: exactly one of httpStatus and grpcStatus",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], faultInjection: {abort: {httpStatus: 199}}}",
        "spec.faultInjection.abort.httpStatus in body should be greater",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], faultInjection: {delay: {fixedDelay: 1s, fraction: {numerator: 101}}}}",
        "spec.faultInjection.delay.fraction.numerator: Invalid value: more than the whole: write numerator <= denominator",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Service, name: a, sectionName: b}]}",
        "spec.targetRefs[0].sectionName: Invalid value: only routes have sections",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {matchLabels: {app: ' '}}}]}",
        "spec.targetRefs[0].selector.matchLabels: Invalid value: no label value: write",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}",
        "spec.targetRefs[0].selector.matchExpressions[0].values: Invalid value: In and NotIn need values",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {matchExpressions: [{key: a b, operator: Exists}]}}]}",
        "matchExpressions[0].key: Invalid value: \"a b\": no label key: write",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {}}]}",
        "spec.rules[0]: Invalid value: the rule names nothing",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {methods: []}}]}",
        "spec.rules[0]: Invalid value: the rule names nothing",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{sources: [{type: Namespace}]}]}",
        "supported values: \"ServiceAccount\", \"SPIFFE\", \"CIDR\"",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{sources: [{type: ServiceAccount, serviceAccount: {namespace: '*', name: a}}]}]}",
        "spec.rules[0].sources[0].serviceAccount.namespace: Invalid value: \"*\": no RFC 1123 label: write",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{sources: [{type: CIDR, cidr: fd00::1/64}]}]}",
        "no CIDR, or host bits are set beyond its prefix: write",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{sources: [{type: SPIFFE, spiffe: 'spiffe://a/../b'}]}]}",
        "no SPIFFE ID: write it like",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{networkAttributes: {ports: []}}]}",
        "no port is named, so nothing could match: name ports",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{networkAttributes: {portRanges: [{start: 0, end: 9}]}}]}",
        "portRanges[0].start in body should be greater",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {paths: [{type: Prefix, value: /}]}}]}",
        "supported values: \"Exact\", \"PathPrefix\"",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {paths: [{type: Exact, value: //a}]}}]}",
        "no normalised path: begin with '/'",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {paths: [{type: Exact, value: '/a?b'}]}}]}",
        "no normalised path: begin with '/'",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {paths: [{type: Exact, value: '/a%5Cb'}]}}]}",
        "no normalised path: begin with '/'",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {hosts: ['A.example']}}]}",
        "no host: write a name or an address in lower case",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{httpAttributes: {headers: [{name: a, value: ' b'}]}}]}",
        "no single value of a header: write it without",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{jwt: {provider: ''}}]}",
        "spec.rules[0].jwt.provider in body should be at least 1 chars long",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{jwt: {provider: a, claims: [{name: a..b, values: [c]}]}}]}",
        "no claim: write it like realm.roles",
    ),
    (
        AUTHZ,
        "{targetRefs: [{kind: Pod, selector: {}}], rules: [{jwt: {provider: a, claims: [{name: a, values: []}]}}]}",
        "claims[0].values in body should have at least 1 items",
    ),
    (
        AUTHN,
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}], mtls: {mode: Strict}}",
        "this policy cannot be for that kind: write one of Pod, Service",
    ),
    (
        AUTHN,
        "{targetRefs: [{kind: Pod, selector: {}}], mtls: {}}",
        "spec.mtls: Invalid value: neither mode nor portLevel is there: add mode: Strict",
    ),
    (
        AUTHN,
        "{targetRefs: [{kind: Pod, selector: {}}], mtls: {portLevel: [{port: 1, mode: Strict}, {port: 1, mode: Disabled}]}}",
        "spec.mtls.portLevel[1]: Duplicate value: {\"port\":1}",
    ),
    (
        AUTHN,
        "{targetRefs: [{kind: Pod, selector: {}}], jwt: [{name: a, issuer: b, jwks: {inline: '{}'}}, {name: a, issuer: c, jwks: {inline: '{}'}}]}",
        "spec.jwt[1]: Duplicate value: {\"name\":\"a\"}",
    ),
    (
        AUTHN,
        "{targetRefs: [{kind: Pod, selector: {}}], jwt: [{name: a, issuer: b, jwks: {uri: 'ftp://a/b'}}]}",
        "spec.jwt[0].jwks.uri: Invalid value: \"ftp://a/b\": no http or https URL",
    ),
    (
        AUTHN,
        "{targetRefs: [{kind: Pod, selector: {}}], jwt: [{name: a, issuer: b}]}",
        "spec.jwt[0].jwks: Required value",
    ),
    (
        TELEMETRY,
        "{targetRefs: [{kind: Pod, selector: {}}]}",
        "spec: Invalid value: neither tracing nor accessLog is there: add one of them",
    ),
    (
        TELEMETRY,
        "{targetRefs: [{kind: Pod, selector: {}}], accessLog: {format: json}}",
        "supported values: \"JSON\", \"Text\"",
    ),
    (
        TELEMETRY,
        "{targetRefs: [{kind: Pod, selector: {}}], tracing: {attributes: [{name: env, type: Literal}]}}",
        "spec.tracing.attributes[0].literalValue: Invalid value: type Literal and literalValue go together",
    ),
    (
        TELEMETRY,
        "{targetRefs: [{kind: Pod, selector: {}}], accessLog: {provider: {type: Stdout, backendRef: {name: a}}}}",
        "type OTLP and backendRef go together",
    ),
];

/// Kind and spec, with every field.
pub(crate) const GOOD: &[(&str, &str)] = &[
    (
        TP,
        "{targetRefs: [{group: '', kind: Service, name: reviews}], \
          loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, header: {name: x-user}, algorithm: Maglev, tableSize: 65537}, slowStart: {window: 30s}}, \
          circuitBreaker: {maxConnections: 1024, maxPendingRequests: 1024, maxParallelRequests: 1024, maxParallelRetries: 64, maxRequestsPerConnection: 100}, \
          outlierDetection: {consecutive5xxErrors: 5, consecutiveGatewayErrors: 3, consecutiveLocalOriginFailures: 5, interval: 10s, baseEjectionTime: 30s, maxEjectionTime: 300s, maxEjectionPercent: 10, minHealthPercent: 20}, \
          timeouts: {connect: 10s, idle: 1h, request: 15s, backendRequest: 5s}, \
          retry: {attempts: 2, codes: [502, 503, 504], grpcCodes: [UNAVAILABLE], backoff: 25ms}, \
          retryConstraint: {budget: {percent: 20, interval: 10s}, minRetryRate: {count: 10, interval: 1s}}, \
          rateLimit: {local: {rules: [{limit: {requests: 100, unit: Second}, burst: 200, key: [{type: SourceIdentity}, {type: Header, header: {name: x-user}}]}]}}, \
          faultInjection: {delay: {fixedDelay: 200ms, percent: 5}, abort: {httpStatus: 503, fraction: {numerator: 1, denominator: 1000}}}}",
    ),
    (
        TP,
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a, sectionName: b}, {group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}], timeouts: {request: 0s, backendRequest: 5s}}",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], loadBalancer: {type: ConsistentHash, consistentHash: {type: Cookie, cookie: {name: a, path: /, ttl: 1h}}}}",
    ),
    (
        TP,
        "{targetRefs: [{kind: Service, name: a}], faultInjection: {abort: {grpcStatus: UNAVAILABLE, percent: 0}}}",
    ),
    (
        AUTHZ,
        "{targetRefs: [{group: '', kind: Pod, selector: {matchLabels: {app: reviews}, matchExpressions: [{key: example.com/tier, operator: NotIn, values: [a, '']}]}}], action: ALLOW, mode: Audit, rules: [{ \
          sources: [{type: ServiceAccount, serviceAccount: {namespace: web, name: frontend}}, {type: ServiceAccount, serviceAccount: {namespace: monitoring, name: '*'}}, \
            {type: SPIFFE, spiffe: 'spiffe://partner.example/ns/edge/sa/gateway'}, {type: CIDR, cidr: 10.8.0.0/16}, {type: CIDR, cidr: '::/0'}], \
          networkAttributes: {ports: [8080], portRanges: [{start: 1, end: 65535}]}, \
          httpAttributes: {methods: [GET, M-SEARCH], paths: [{type: PathPrefix, value: /reviews}, {type: Exact, value: '/a%20b/c'}], hosts: [api.shop, '*.example.com', 10.0.0.1, '[fd00::1]'], headers: [{name: x-env, value: prod}]}, \
          jwt: {provider: corp, claims: [{name: realm.groups, values: [readers]}]}}]}",
    ),
    (AUTHZ, "{targetRefs: [{kind: Pod, selector: {}}], rules: []}"),
    (AUTHZ, "{targetRefs: [{kind: Service, name: a}], rules: [{sources: []}]}"),
    (
        AUTHZ,
        "{targetRefs: [{group: gateway.networking.k8s.io, kind: GRPCRoute, name: a}], action: DENY, rules: [{jwt: {provider: a}}]}",
    ),
    (
        AUTHN,
        "{targetRefs: [{group: '', kind: Pod, selector: {}}], mtls: {mode: Strict, portLevel: [{port: 9090, mode: Permissive}]}, \
          jwt: [{name: corp, issuer: 'https://idp.example', audiences: [shop], jwks: {uri: 'https://idp.example:8443/jwks?v=1'}, fromHeaders: [{name: Authorization, prefix: 'Bearer '}, {name: x-token}], forwardOriginalToken: false}, \
            {name: own, issuer: shop, jwks: {backendRef: {name: idp, port: 80, path: /keys}}}]}",
    ),
    (
        TELEMETRY,
        "{targetRefs: [{group: '', kind: Pod, selector: {}}], \
          tracing: {mode: Enabled, provider: {backendRef: {name: otel-collector, namespace: monitoring, port: 4317}}, samplingRate: {numerator: 1, denominator: 100}, parentBasedSampling: {mode: Enabled}, \
            attributes: [{name: env, type: Literal, literalValue: prod}, {name: user, type: RequestHeader, requestHeader: {name: x-user}}]}, \
          accessLog: {mode: Enabled, format: JSON, filter: \"response.code >= 500 || response.duration > duration('1s')\", provider: {type: Stdout}}}",
    ),
    (
        MESH,
        "{trustDomain: cluster.local, trustDomainAliases: [old.example], namespaceSelector: {matchLabels: {weft.dev/mesh: enabled}}, mtls: {mode: Permissive}, outboundTrafficPolicy: {mode: AllowAny}, \
          certificates: {ttl: 24h, issuer: {type: SecretRef, secretRef: {name: ca, namespace: weft-system}}}, telemetry: {tracing: {mode: Disabled}, accessLog: {mode: Disabled}}}",
    ),
    (
        MESH,
        "{certificates: {ttl: 30s, issuer: {type: PodCertificate, podCertificate: {signerName: example.com/signer}}}}",
    ),
];
