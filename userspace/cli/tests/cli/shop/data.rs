//! What there is in the shop.

mod explained;
mod records;
mod routes;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_model::{
    Action, AuthorizationPolicy, Distribution, Endpoint, EndpointGroup, LoadBalancer, Locality, Mode,
    ObjectName, PolicyTarget, PortRange, Problem, Protocol, Rule, Selector, Service, ServiceAccount,
    ServiceKind, ServicePort, Severity, Snapshot, Source, Workload,
};
use weft_telemetry::api::{
    CertificateFailure, CertificateView, CertificatesView, ConnectionView, Degradation, Destination, Flow,
    FlowKind, GenerationState, GenerationStatus, IssuerView, JwksView, MapStatus, Path, PodState, PodStatus,
    ProgramStatus, ProxyState, ProxyStatus, Source as Client, SourceView, Status, Table, Time, Unprotected,
    Verdict,
};

pub(crate) use explained::explain;
pub(crate) use records::requests;

pub(crate) fn snapshot() -> Snapshot {
    let pods = [
        pod("web-1", "web", [10, 1, 0, 11], true),
        pod("api-1", "api", [10, 1, 0, 21], true),
        pod("api-2", "api", [10, 1, 1, 22], false),
        pod("cart-6d5f7c9b8-x2x4q", "cart", [10, 1, 0, 31], true),
    ];
    let services = [api(), db(), web()];
    let policies = [api_read(), cart_deny()];
    Snapshot {
        version: 12,
        locality: Arc::new(Locality { node: "n1".into(), zone: Some("z1".into()) }),
        workloads: Arc::new(pods.into_iter().map(|pod| (pod.name.clone(), Arc::new(pod))).collect()),
        services: Arc::new(services.into_iter().map(|item| (item.name.clone(), Arc::new(item))).collect()),
        policies: Arc::new(policies.into_iter().map(|item| (item.name.clone(), Arc::new(item))).collect()),
        routes: Arc::new(routes::all()),
        ..Snapshot::default()
    }
}

fn proxy() -> ProxyStatus {
    let generation = |generation, pid, state, build: &str, detail: Option<&str>| GenerationStatus {
        generation,
        pid,
        build: build.into(),
        protocol: 1,
        state,
        pods: 2,
        snapshot_version: Some(11),
        identities_version: None,
        certificates: Some(2),
        connections: Some(generation * 20),
        since: (SystemTime::UNIX_EPOCH + Duration::from_secs(generation)).into(),
        detail: detail.map(Into::into),
    };
    ProxyStatus {
        state: ProxyState::Active,
        snapshot_version: Some(12),
        pods: 2,
        restarts: 1,
        generations: vec![
            generation(1, 4101, GenerationState::Draining, "0.1.0", None),
            generation(2, 4122, GenerationState::Active, "0.2.0", Some("snapshot 12 was refused: too large")),
        ],
        ..ProxyStatus::default()
    }
}

pub(crate) fn certificates() -> CertificatesView {
    let at = |hours: u64| (SystemTime::UNIX_EPOCH + Duration::from_hours(hours)).into();
    let certificate = |name: &str, serial: &str, left: u64, renewals, failure| CertificateView {
        namespace: "shop".into(),
        service_account: name.into(),
        identity: format!("spiffe://cluster.local/ns/shop/sa/{name}"),
        serial: Some(serial.into()),
        not_before: Some(at(100)),
        not_after: Some(at(124)),
        expires_in_seconds: Some(left * 3600),
        renewals,
        failure,
    };
    let late = CertificateFailure { error: "the issuer did not answer".into(), since: at(112), tries: 3 };
    CertificatesView {
        trust_domain: "cluster.local".into(),
        issuer: Some(IssuerView {
            name: "weft issuer 77aa01bc".into(),
            serial: "5d1e".into(),
            not_before: at(0),
            not_after: at(24 * 59),
            age_seconds: 306 * 86_400,
            expires_in_seconds: 59 * 86_400,
            warning: Some("the issuer ends in 59 days: weft ca rotate --dir /etc/weft/ca issuer".into()),
        }),
        roots: 1,
        failure: None,
        certificates: vec![
            certificate("api", "77aa01bc5d1e", 23, 4, None),
            certificate("web", "0badcafe5d1e", 11, 3, Some(late)),
        ],
    }
}

fn jwks() -> Vec<JwksView> {
    let at = |hours: u64| (SystemTime::UNIX_EPOCH + Duration::from_hours(hours)).into();
    let place = |location: &str, keys, age_seconds: Option<u64>, failure| JwksView {
        location: location.into(),
        keys,
        fetched: age_seconds.map(|_| at(110)),
        age_seconds,
        failure,
    };
    let error = "no connection to 10.1.0.40:80 came about: Connection refused (os error 111)".into();
    vec![
        place(
            "Service shop/idp:80/certs",
            1,
            Some(7 * 3600),
            Some(CertificateFailure { error, since: at(112), tries: 9 }),
        ),
        place("https://idp.example/jwks", 3, Some(150), None),
    ]
}

pub(crate) fn status() -> Status {
    let pod = |name: &str, ip: [u8; 4], state, detail: Option<&str>, policies: &[&str]| PodStatus {
        name: format!("shop/{name}"),
        netns: format!("/run/netns/{name}"),
        state,
        detail: detail.map(str::to_owned),
        ips: vec![ip.into()],
        policies: policies.iter().map(|name| format!("shop/{name}")).collect(),
        peers: Vec::new(),
    };
    let program = |name: &str, id, attach: &str| ProgramStatus {
        name: name.into(),
        attach: attach.into(),
        id,
        state: "attached".into(),
        verified: Some(12_000),
    };
    Status {
        version: "0.1.0".into(),
        node: "n1".into(),
        cgroup: "/sys/fs/cgroup".into(),
        schema: 1,
        source: Some(SourceView {
            location: "https://10.96.0.1/".into(),
            synced: true,
            unlisted: Vec::new(),
            as_of: None,
            age_seconds: Some(200),
            failure: Some("Connection refused (os error 111)".into()),
        }),
        snapshot_version: 12,
        enforced_version: 12,
        failure: None,
        pods: vec![
            pod("api-1", [10, 1, 0, 21], PodState::Enforced, None, &["api-read", "cart-deny"]),
            pod("web-1", [10, 1, 0, 11], PodState::Enforced, None, &[]),
            pod(
                "cart-6d5f7c9b8-x2x4q",
                [10, 1, 0, 31],
                PodState::Waiting,
                Some("its network namespace is not there yet"),
                &[],
            ),
        ],
        proxy: Some(proxy()),
        certificates: Some(certificates()),
        jwks: jwks(),
        programs: vec![
            program("weft_connect4", 2101, "/sys/fs/cgroup"),
            program("weft_sk_lookup", 2110, "2 network namespaces"),
        ],
        maps: vec![
            MapStatus { name: "weft_svc".into(), entries: Some(3), max: 131_072 },
            MapStatus { name: "weft_pod".into(), entries: Some(4096), max: 4096 },
            MapStatus { name: "weft_events".into(), entries: None, max: 4_194_304 },
        ],
        counters: BTreeMap::from([("translated".to_owned(), 41_234), ("events_lost".to_owned(), 0)]),
        degradations: vec![Degradation {
            feature: "acceleration".into(),
            reason: "the start-up self-test saw bytes out of order on this kernel (6.1.0)".into(),
            remedy: "use a kernel from 6.10 on".into(),
        }],
        problems: vec![
            Problem {
                severity: Severity::Error,
                file: "policies.yaml".into(),
                line: 12,
                object: "AuthorizationPolicy shop/api-admin".into(),
                field: "spec.rules[0].sources[1].cidr".into(),
                message: "10.8.0.1/16 has bits set beyond its prefix".into(),
                remedy: "write 10.8.0.0/16".into(),
            },
            Problem {
                severity: Severity::Warning,
                file: "web.yaml".into(),
                line: 3,
                object: "Service shop/web".into(),
                field: String::new(),
                message: "no pod matches its selector".into(),
                remedy: String::new(),
            },
        ],
    }
}

/// A flow from `shop/web-1` to `shop/api`, on its `ordinal`th minute.
pub(crate) fn flow(ordinal: u64, kind: FlowKind) -> Flow {
    Flow {
        time: Time::from(SystemTime::UNIX_EPOCH + Duration::from_millis(43_262_123 + ordinal * 60_000)),
        verdict: Verdict::Forwarded,
        kind,
        reason: None,
        path: Path::Kernel,
        protocol: Protocol::Tcp,
        source: client("web-1", [10, 1, 0, 11], 41_234),
        destination: server("api-1", "api", [10, 1, 0, 21], 8080),
        bytes_sent: 1_229,
        bytes_received: 34 * 1024,
        duration_ms: 12,
        rule: Some("shop/api-read rules[0]".into()),
        rtt_us: Some(80),
        retransmits: Some(0),
        http: None,
    }
}

pub(crate) fn flows() -> Vec<Flow> {
    let denied = Flow {
        verdict: Verdict::Denied,
        reason: Some("NotAllowed".into()),
        rule: None,
        source: client("cart-6d5f7c9b8-x2x4q", [10, 1, 0, 31], 0),
        ..flow(2, FlowKind::Refused)
    };
    let audited = Flow {
        verdict: Verdict::Audit,
        reason: Some("PolicyDenied".into()),
        rule: Some("shop/cart-deny rules[0]".into()),
        source: client("cart-6d5f7c9b8-x2x4q", [10, 1, 0, 31], 50_001),
        ..flow(3, FlowKind::Audited)
    };
    let outside = Flow {
        path: Path::Accelerated,
        source: Client { namespace: None, pod: None, ip: v6(9), port: 50_002, identity: None },
        destination: Destination { service: None, ..server("api-1", "api", [10, 1, 0, 21], 8080) },
        bytes_sent: 5 << 30,
        duration_ms: 200_000,
        retransmits: Some(7),
        ..flow(4, FlowKind::Closed)
    };
    vec![flow(0, FlowKind::Opened), flow(1, FlowKind::Closed), denied, audited, outside]
}

pub(crate) fn connections() -> Vec<ConnectionView> {
    let managed = ConnectionView {
        protocol: Protocol::Tcp,
        state: "ESTAB".into(),
        path: Path::Kernel,
        managed: true,
        unprotected: None,
        source: client("web-1", [10, 1, 0, 11], 41_234),
        destination: server("api-1", "api", [10, 1, 0, 21], 8080),
        bytes_sent: Some(2_048),
        bytes_received: Some(70 << 20),
        duration_ms: Some(7_500_000),
        rtt_us: Some(80),
        retransmits: Some(0),
    };
    let older = ConnectionView {
        managed: false,
        unprotected: Some(Unprotected::OlderThanEnrolment),
        destination: Destination {
            namespace: None,
            pod: None,
            service: None,
            ip: [192, 0, 2, 7].into(),
            port: 5432,
            identity: None,
        },
        bytes_sent: None,
        bytes_received: None,
        duration_ms: None,
        rtt_us: None,
        ..managed.clone()
    };
    vec![managed, older]
}

pub(crate) fn bpf_services() -> Table {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    Table {
        columns: row(["ADDRESS", "PORT", "ID", "SLOTS", "SERVICE"]),
        rows: vec![
            row(["10.96.0.20", "80", "0x6b1f2f2a9d3c4e55", "2", "shop/api"]),
            row(["10.96.0.10", "443", "0x01ffe2a9d3c4e551", "12", "shop/web"]),
        ],
    }
}

fn pod(name: &str, app: &str, ip: [u8; 4], local: bool) -> Workload {
    Workload {
        name: ObjectName::new("shop", name),
        service_account: ServiceAccount::new("shop", app),
        ips: vec![ip.into()],
        node: Some(if local { "n1" } else { "n2" }.into()),
        local,
        labels: Arc::new(BTreeMap::from([("app".to_owned(), app.to_owned())])),
        enrolled: true,
        netns: local.then(|| format!("/run/netns/{name}").into()),
        ports: Vec::new(),
        owner: app.into(),
        ready: true,
        passage: weft_model::Passage::Done,
        terminating: false,
        created: u64::MAX,
    }
}

fn api() -> Service {
    let endpoint = |name: &str, ip: [u8; 4], node: &str, zone: &str, ready| Endpoint {
        address: SocketAddr::new(ip.into(), 8080),
        ready,
        serving: ready,
        terminating: false,
        node: Some(node.into()),
        zone: Some(zone.into()),
        hints: None,
        pod: Some(ObjectName::new("shop", name)),
    };
    let stable = EndpointGroup {
        service: ObjectName::new("shop", "api"),
        weight: 90,
        node_local: false,
        distribution: Distribution::PreferSameZone,
        endpoints: vec![
            endpoint("api-1", [10, 1, 0, 21], "n1", "z1", true),
            endpoint("api-2", [10, 1, 1, 22], "n2", "z2", true),
        ],
    };
    let canary = EndpointGroup {
        service: ObjectName::new("shop", "api-canary"),
        weight: 10,
        endpoints: vec![endpoint("api-canary-1", [10, 1, 0, 29], "n1", "z1", false)],
        ..stable.clone()
    };
    Service {
        session_affinity: Some(Duration::from_hours(3)),
        accelerate: true,
        ..service(
            "api",
            ServiceKind::ClusterIp,
            &[v4([10, 96, 0, 20]), v6(0x20)],
            vec![port("http", 80, vec![stable, canary])],
        )
    }
}

fn web() -> Service {
    let none = EndpointGroup {
        service: ObjectName::new("shop", "web"),
        weight: 1,
        node_local: false,
        distribution: Distribution::Any,
        endpoints: Vec::new(),
    };
    service(
        "web",
        ServiceKind::ClusterIp,
        &[v4([10, 96, 0, 10])],
        vec![port("http", 80, vec![none.clone()]), port("https", 443, vec![none])],
    )
}

fn db() -> Service {
    service("db", ServiceKind::Headless, &[], vec![port("", 5432, Vec::new())])
}

fn service(name: &str, kind: ServiceKind, ips: &[IpAddr], ports: Vec<ServicePort>) -> Service {
    Service {
        name: ObjectName::new("shop", name),
        kind,
        ips: ips.to_vec(),
        ports,
        session_affinity: None,
        load_balancer: LoadBalancer::Random,
        accelerate: false,
        proxy_failure: weft_model::ProxyFailure::default(),
        traffic: Arc::default(),
    }
}

fn port(name: &str, port: u16, groups: Vec<EndpointGroup>) -> ServicePort {
    ServicePort {
        name: name.into(),
        port,
        protocol: Protocol::Tcp,
        app_protocol: None,
        groups,
        routing: None,
    }
}

fn api_read() -> AuthorizationPolicy {
    let from = |name: &str| Source::ServiceAccount(ServiceAccount::new("shop", name));
    let monitoring = Source::Namespace("monitoring".into());
    AuthorizationPolicy {
        name: ObjectName::new("shop", "api-read"),
        action: Action::Allow,
        mode: Mode::Enforce,
        target: PolicyTarget::Services(vec!["api".into()]),
        rules: vec![
            Rule { sources: Some(vec![from("web"), monitoring]), ports: None, ..Rule::default() },
            Rule {
                sources: Some(vec![Source::Cidr("10.8.0.0/16".parse().unwrap())]),
                ports: Some(vec![8080.into(), PortRange { start: 9000, end: 9010 }]),
                ..Rule::default()
            },
        ],
    }
}

fn cart_deny() -> AuthorizationPolicy {
    AuthorizationPolicy {
        name: ObjectName::new("shop", "cart-deny"),
        action: Action::Deny,
        mode: Mode::Audit,
        target: PolicyTarget::Pods(Selector::default()),
        rules: vec![Rule {
            sources: Some(vec![Source::ServiceAccount(ServiceAccount::new("shop", "cart"))]),
            ports: None,
            l7: true,
            ..Rule::default()
        }],
    }
}

fn client(pod: &str, ip: [u8; 4], port: u16) -> Client {
    let account = pod.split('-').next().unwrap();
    Client {
        namespace: Some("shop".into()),
        pod: Some(pod.into()),
        ip: ip.into(),
        port,
        identity: Some(format!("spiffe://cluster.local/ns/shop/sa/{account}").into()),
    }
}

fn server(pod: &str, service: &str, ip: [u8; 4], port: u16) -> Destination {
    Destination {
        namespace: Some("shop".into()),
        pod: Some(pod.into()),
        service: Some(service.into()),
        ip: ip.into(),
        port,
        identity: Some("spiffe://cluster.local/ns/shop/sa/api".into()),
    }
}

fn v4(ip: [u8; 4]) -> IpAddr {
    ip.into()
}

fn v6(last: u16) -> IpAddr {
    [0xfd00, 0, 0, 0, 0, 0, 0, last].into()
}
