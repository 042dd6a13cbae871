//! Clients that are not who they should be, at a pod's real inbound listener: each is refused with its own reason.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::socket::{setsockopt, sockopt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use weft_tests::packet::send_syn;
use weft_tests::wire::Wire;
use weft_tests::{Pod, SocketRequest, eventually, manifests, soon, text};
use weft_transport::{Diag, Query, State, States};

use crate::path::SECRET;
use crate::stage::{API, Stage, talks};

#[test]
fn each_certificate_that_is_not_as_it_should_be_is_refused_with_its_own_reason() {
    let Some(forger) = Forger::open() else { return };
    let web = "spiffe://cluster.local/ns/shop/sa/web";
    let day = Duration::from_hours(24);
    let now = SystemTime::now();
    let uri = |uri: &str| vec![SanType::URI(uri.try_into().unwrap())];
    let dns = vec![SanType::DnsName("web.shop".try_into().unwrap())];
    let cases = [
        ("TrustDomain", uri("spiffe://elsewhere.example/ns/shop/sa/web"), now - day, now + day, true),
        ("IdentityMalformed", dns, now - day, now + day, true),
        ("IdentityMalformed", uri("spiffe://cluster.local/web"), now - day, now + day, true),
        ("CertificateExpired", uri(web), now - 2 * day, now - day, true),
        ("CertificateNotYetValid", uri(web), now + day, now + 2 * day, true),
        ("CertificateUntrusted", uri(web), now - day, now + day, false),
    ];
    for (i, (reason, names, from, until, vouched)) in cases.into_iter().enumerate() {
        let shown = forger.certificate(&i.to_string(), names, from, until, vouched);
        forger.is_refused(reason, &[&["-tls1_3"], &shown.each_ref().map(String::as_str)[..]].concat());
    }
    forger.is_refused("CertificateMissing", &["-tls1_3"]);
    forger.is_refused("TlsVersion", &["-tls1_2"]);
    // The same client with a good certificate is let in: what is refused is what was forged.
    let good = forger.certificate("good", uri(web), now - day, now + day, true);
    let handshakes = || forger.stage.b.metric("weft_proxy_tls_handshakes_total", &[]);
    let before = handshakes();
    let answer = forger.client(&[&["-tls1_3"], &good.each_ref().map(String::as_str)[..]].concat());
    assert!(answer.contains("Verify return code") && answer.contains("ALPN protocol: weft/1"), "{answer}");
    soon(|| handshakes() > before);
    forger.stage.echoes(API, SECRET).unwrap();
}

#[test]
fn a_handshake_that_stands_still_ends_and_many_of_them_cost_little_and_keep_nobody_out() {
    let Some(forger) = Forger::open() else { return };
    let hello = hello("-tls1_3");
    let pid = forger.stage.b.proxy_pid();
    let before = resident(pid);
    let standing: Vec<_> = (0..MANY).map(|_| forger.send(&hello)).collect();
    soon(|| standing.iter().all(|stream| stream.peek(&mut [0]).is_ok()));
    // As long as a first message may be, and not at its end.
    let half = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc][..], &vec![3; 16_000]].concat();
    let halves: Vec<_> = (0..MANY).map(|_| forger.send(&half)).collect();
    let each = resident(pid).saturating_sub(before) / (2 * MANY);
    assert!(each < 64 << 10, "{each} bytes for a handshake that stands still");
    forger.stage.echoes(API, SECRET).unwrap();
    drop(halves);
    forger.was_refused("TlsTimeout");
    let ends = |stream: &TcpStream| {
        let mut bytes = [0; 8192];
        while (&*stream).read(&mut bytes).is_ok_and(|read| read > 0) {}
    };
    standing.iter().for_each(ends);
    forger.stage.echoes(API, SECRET).unwrap();
}

#[test]
fn half_a_record_garbage_in_a_handshake_and_a_replayed_one_are_refused() {
    let Some(forger) = Forger::open() else { return };
    let hello = hello("-tls1_3");
    let half = forger.send(&[&hello[..], &[0x17, 3, 3, 0, 100, 1, 2, 3]].concat());
    drop(half);
    forger.was_refused("TlsBroken");
    let garbage = forger.send(&[&hello[..], &[0xff; 64]].concat());
    forger.was_refused("TlsMalformed");
    drop(garbage);
    let changed = forger.send(&[&hello[..], &[0x17, 3, 3, 0, 32], &[7; 32]].concat());
    forger.was_refused("TlsDecrypt");
    drop(changed);

    // All that the client's node has sent of a connection that was let in, sent again.
    let wire = Wire::new(&forger.stage.api);
    // Of the other family there is no connection yet that could be used again.
    let to = forger.stage.api.addr6(8080);
    forger.stage.echoes(to, SECRET).unwrap();
    soon(|| wire.streams().iter().any(|stream| stream.to == to && stream.bytes.len() > 1000));
    let streams = wire.streams();
    let recorded = streams.iter().find(|stream| stream.to == to).unwrap();
    let refused = || forger.refusals("TlsDecrypt");
    let before = refused();
    let counted = forger.counted("TlsDecrypt");
    let mut replayed = forger.send(&recorded.bytes);
    soon(|| refused() > before);
    soon(|| forger.counted("TlsDecrypt") > counted);
    let mut answer = Vec::new();
    let _ = replayed.read_to_end(&mut answer);
    assert!(!answer.windows(SECRET.len()).any(|window| window == SECRET));
    forger.stage.echoes(API, SECRET).unwrap();
}

#[test]
fn nobody_comes_to_a_pods_listeners_by_their_ports() {
    let Some(forger) = Forger::open() else { return };
    let Stage { a, b, api, web, .. } = &forger.stage;
    let near = b.pod("shop/near").start();
    let plain = a.pod("field/plain").enrolled(false).start();
    forger.stage.settle();
    let mut listening = Diag::open(&api.netns()).unwrap();
    let listening = listening.sockets(&Query::tcp(States::of(&[State::Listen]))).unwrap();
    let ports: Vec<_> =
        listening.iter().map(|socket| socket.local.port()).filter(|port| *port != 8080).collect();
    assert_eq!(ports.len(), 2, "one for its own connections, one for others': {ports:?}");
    for port in ports.iter().copied() {
        for client in [&near, &plain, &forger.stranger] {
            let end = client.tcp_connect(api.addr(port)).map(drop).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::ConnectionRefused), "port {port}");
        }
        // An enrolled pod of another node comes by mutual TLS, and no further.
        let mut sealed = web.tcp_connect(api.addr(port)).unwrap();
        let _ = sealed.write_all(SECRET);
        assert!(matches!(sealed.read(&mut [0; 64]), Ok(0) | Err(_)), "port {port}");
    }
    for client in [&near, &plain, &forger.stranger] {
        soon(|| forger.refusals_of(client.ip(), "DirectToListener") >= 2);
    }
    soon(|| b.metric("weft_drops_total", &["reason=\"DirectToListener\""]) >= 6.0);
    // The pod itself comes no further than its proxy, which knows of no connection that a hook has sent there.
    let ends = ports.iter().map(|port| {
        let mut own = api.tcp_connect(api.addr(*port))?;
        own.set_read_timeout(Some(PATIENCE))?;
        own.read(&mut [0; 8])
    });
    let ends: Vec<_> = ends.map(|end| end.map_err(|error| error.kind())).collect();
    assert!(ends.contains(&Err(ErrorKind::ConnectionRefused)), "{ends:?}");
    assert!(ends.contains(&Err(ErrorKind::ConnectionReset)), "{ends:?}");
    soon(|| forger.refusals_of(api.ip(), "NoOrigin") > 0);
    soon(|| b.metric("weft_proxy_rejected_total", &["reason=\"NoOrigin\""]) >= 1.0);
    forger.stage.echoes(API, SECRET).unwrap();
}

#[test]
fn a_mark_changes_nothing_neither_what_is_sent_nor_what_is_taken() {
    let Some(forger) = Forger::open() else { return };
    let Stage { a, b, web, api, .. } = &forger.stage;
    let wire = Wire::new(api);
    let marked = |pod: &Pod, to: SocketAddr, mark: u32| {
        let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = pod.open(&SocketRequest::new(family, libc::SOCK_STREAM, 0)).unwrap();
        setsockopt(&socket, sockopt::Mark, &mark).unwrap();
        let socket = socket2::Socket::from(socket);
        socket.connect(&to.into()).map_err(|error| error.kind())?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = TcpStream::from(socket);
        let mut back = vec![0; SECRET.len()];
        stream.write_all(SECRET).and_then(|()| stream.read_exact(&mut back)).map_err(|error| error.kind())
    };
    // Of the other family there is no connection yet that could be used again.
    let (to, to6) = (api.addr(8080), api.addr6(8080));
    for mark in [1, 0x539, u32::MAX] {
        assert_eq!(marked(web, to6, mark), Ok(()), "{mark:#x}");
        assert!(marked(&forger.stranger, to, mark).is_err(), "{mark:#x}: Strict takes no plaintext");
    }
    let own = |from: SocketAddr| from.ip() == web.ip6();
    // What is refused is the plaintext, marked or not: of whom nobody knows by the proxy, of whom the node knows to be
    // outside the mesh by the kernel.
    soon(|| forger.refusals("Plaintext") >= 3);
    soon(|| b.metric("weft_proxy_rejected_total", &[PLAINTEXT]) >= 3.0);
    let plain = a.pod("field/plain").enrolled(false).start();
    forger.stage.settle();
    assert!(marked(&plain, to, 0x539).is_err());
    soon(|| forger.refusals_of(plain.ip(), "Plaintext") > 0);
    soon(|| b.metric("weft_drops_total", &[PLAINTEXT]) >= 1.0);
    // They share a connection.
    soon(|| wire.streams().iter().any(|stream| own(stream.from)));
    assert!(wire.streams().iter().filter(|stream| own(stream.from)).all(|stream| !stream.contains(SECRET)));
}

#[test]
fn a_rule_that_names_a_service_account_is_not_satisfied_by_the_address_of_a_pod_that_has_it() {
    let spec = "{targetRefs: [{group: \"\", kind: Pod, selector: {matchLabels: {app: api}}}], action: ALLOW, rules: \
                [{sources: [{type: ServiceAccount, serviceAccount: {namespace: shop, name: web}}]}]}";
    let policy = ("policy.yaml", manifests::authorization_policy("shop/api", spec));
    let Some(stage) = Stage::open(&[policy]) else { return };
    // A pod of that account, known by its address, that is not enrolled; and the address of one that is, taken by
    // somebody else while that is away.
    let plain = stage.a.pod("shop/plain").service_account("web").enrolled(false).start();
    plain.update(|manifest| manifest.enrol_as("disabled"));
    let thief = stage.a.pod("shop/thief").outsider().start();
    stage.settle();
    let to = stage.api.addr(8080);
    let unproven = |ip: Ipv4Addr| {
        let ip = ip.to_string();
        let flows = stage.b.flows(&[]);
        let is = |flow: &serde_json::Value| {
            flow["source"]["ip"] == ip.as_str()
                && flow["reason"] == "IdentityUnproven"
                && flow["verdict"] == "DENIED"
        };
        flows.iter().any(is)
    };
    let refused = plain.tcp_connect(to).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "the kernel knows who is not enrolled");
    soon(|| unproven(plain.ip()));
    let web = stage.web.ip();
    assert!(stage.web.exec(&["ip", "link", "set", "eth0", "down"]).status.success());
    assert!(thief.exec(&["ip", "address", "add", &format!("{web}/16"), "dev", "eth0"]).status.success());
    let from_web = || {
        let request = SocketRequest::tcp(to).from((web, 0).into());
        let Ok(socket) = thief.open(&request) else { return false };
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(SECRET);
        assert!(!matches!(stream.read(&mut [0; 64]), Ok(1..)), "the thief of an address is answered");
        true
    };
    soon(|| from_web() && unproven(web));
    // The one by the kernel at the SYN, the other by the proxy, which has waited for a certificate.
    for metric in ["weft_drops_total", "weft_proxy_rejected_total"] {
        soon(|| stage.b.metric(metric, &["reason=\"IdentityUnproven\""]) >= 1.0);
    }
}

#[test]
fn a_packet_that_claims_to_come_from_a_pod_of_the_node_is_unproven_to_a_strict_pod() {
    let Some(forger) = Forger::open() else { return };
    let Stage { b, api, .. } = &forger.stage;
    let near = b.pod("shop/near").start();
    forger.stage.settle();
    // What the kernel has not seen this pod send, it has not sent.
    send_syn(&forger.stranger, near.addr(41_000), api.addr(8080)).unwrap();
    soon(|| forger.refusals_of(near.ip(), "IdentityUnproven") > 0);
    soon(|| b.metric("weft_drops_total", &["reason=\"IdentityUnproven\""]) >= 1.0);
    assert_eq!(talks(&near, api.addr(8080)), Ok(()));
}

/// A client in a pod that no agent knows, with all the secrets of the authority, in front of a Strict pod.
pub(crate) struct Forger {
    pub(crate) stranger: Pod,
    folder: PathBuf,
    pub(crate) stage: Stage,
}

impl Forger {
    pub(crate) fn open() -> Option<Self> {
        let stage = Stage::open(&[("mesh.yaml", manifests::mesh_config("{mtls: {mode: Strict}}"))])?;
        let stranger = stage.a.pod("shop/stranger").outsider().start();
        let folder = stage.world.dir().join("forged");
        fs::create_dir(&folder).unwrap();
        Some(Self { stranger, folder, stage })
    }

    /// Arguments by which openssl shows a certificate with these names, of the mesh's own issuer if it is `vouched` for.
    pub(crate) fn certificate(
        &self,
        name: &str,
        names: Vec<SanType>,
        from: SystemTime,
        until: SystemTime,
        vouched: bool,
    ) -> [String; 6] {
        let pem = fs::read_to_string(self.stage.world.dir().join("ca/issuer.pem")).unwrap();
        let (own_key, authority) = if vouched {
            (KeyPair::from_pem(&block(&pem, "PRIVATE KEY")).unwrap(), block(&pem, "CERTIFICATE"))
        } else {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let authority = params.self_signed(&key).unwrap().pem();
            (key, authority)
        };
        let issuer = Issuer::from_ca_cert_pem(&authority, own_key).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (from.into(), until.into());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let write = |kind: &str, text: &str| {
            let path = self.folder.join(format!("{name}.{kind}"));
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        [
            "-cert".into(),
            write("crt", &certificate.pem()),
            "-key".into(),
            write("key", &key.serialize_pem()),
            "-cert_chain".into(),
            write("chain", &authority),
        ]
    }

    /// What openssl says of a handshake with the pod.
    fn client(&self, arguments: &[&str]) -> String {
        let to = self.stage.api.addr(8080).to_string();
        let command = ["openssl", "s_client", "-connect", &to, "-alpn", "weft/1"];
        text(&self.stranger.exec(&[&command, arguments].concat()))
    }

    /// So many connections of the stranger were refused for this reason.
    fn refusals(&self, reason: &str) -> usize {
        self.refusals_of(self.stranger.ip(), reason)
    }

    /// So many connections from this address were.
    fn refusals_of(&self, ip: Ipv4Addr, reason: &str) -> usize {
        let ip = ip.to_string();
        let flows = self.stage.b.flows(&[]);
        let is = |flow: &&serde_json::Value| flow["reason"] == reason && flow["source"]["ip"] == ip.as_str();
        flows.iter().filter(is).count()
    }

    /// Waits until one was, and a metric has it.
    #[track_caller]
    fn was_refused(&self, reason: &str) {
        eventually(Duration::from_mins(1), || self.refusals(reason) > 0);
        soon(|| self.counted(reason) >= 1.0);
    }

    /// Connections that were refused for this reason at the server's node, by the kernel or the proxy.
    pub(crate) fn counted(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        let metrics = ["weft_proxy_rejected_total", "weft_drops_total"];
        metrics.iter().map(|metric| self.stage.b.metric(metric, &[&label])).sum()
    }

    #[track_caller]
    fn is_refused(&self, reason: &str, arguments: &[&str]) {
        let before = self.refusals(reason);
        self.client(arguments);
        eventually(Duration::from_mins(1), || self.refusals(reason) > before);
        self.was_refused(reason);
    }

    /// A connection on which these bytes were sent.
    pub(crate) fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.stranger.tcp_connect(self.stage.api.addr(8080)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

/// The first block of this kind.
pub(crate) fn block(pem: &str, kind: &str) -> String {
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let from = pem.find(&begin).expect("the file has one");
    let until = from + pem[from..].find(&end).expect("it ends") + end.len();
    format!("{}\n", &pem[from..until])
}

/// What a client of the mesh says first, as openssl would say it with this version.
pub(crate) fn hello(version: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &to, "-alpn", "weft/1", version])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need openssl (`cargo xtask setup` installs it)");
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut hello).unwrap();
    let _ = client.kill();
    let _ = client.wait();
    [&head[..], &hello].concat()
}

/// Bytes of memory of a process.
pub(crate) fn resident(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

const PLAINTEXT: &str = "reason=\"Plaintext\"";
const MANY: usize = 200;
const PATIENCE: Duration = Duration::from_secs(20);
