//! Keys that are fetched, from servers that are well and from servers that are not.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::PrivatePkcs8KeyDer,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use weft_runtime::Tasks;

use super::*;

const QUICK: Pace = Pace {
    refresh: Duration::from_millis(40),
    first_retry: Duration::from_millis(20),
    last_retry: Duration::from_millis(40),
};
const X: [&str; 2] =
    ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"];

/// What a server answers.
#[derive(Clone, Debug)]
enum Answer {
    /// This status and body.
    With(u16, String),
    /// This, and then what is no body of the length it said.
    Raw(String),
    /// Nothing, ever.
    Silence,
}

fn document(x: &str) -> String {
    format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "kid": "{x}", "x": "{x}"}}]}}"#)
}

fn good(x: &str) -> Answer {
    Answer::With(200, document(x))
}

/// A server of keys that answers as it is told to.
struct Server {
    address: SocketAddr,
    answer: watch::Sender<Answer>,
    asked: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        Self::with(answer, None).await
    }

    async fn with(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: watch::Sender::new(answer),
            asked: Arc::default(),
            tasks: Tasks::new(),
        };
        let (told, asked, stop) =
            (server.answer.subscribe(), Arc::clone(&server.asked), server.tasks.stop_signal());
        server.tasks.spawn("keys", async move {
            loop {
                let socket = tokio::select! {
                    () = stop.cancelled() => return Ok::<_, Infallible>(()),
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = told.borrow().clone();
                match &tls {
                    // Who is refused says so in the handshake.
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(socket).await {
                            reply(stream, answer).await;
                        }
                    }
                    None if matches!(answer, Answer::Silence) => silence(socket, &stop).await,
                    None => reply(socket, answer).await,
                }
            }
        });
        server
    }

    fn uri(&self) -> Arc<str> {
        format!("http://{}/keys?all=1", self.address).into()
    }

    fn says(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }
}

async fn reply<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut stream: S, answer: Answer) {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1..) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let is_good =
        head.starts_with("get /keys") && head.contains("\r\nhost: ") && head.contains("\r\naccept: ");
    let text = match answer {
        Answer::With(..) if !is_good => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Answer::With(status, body) => {
            format!("HTTP/1.1 {status} So\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        }
        Answer::Raw(text) => text,
        Answer::Silence => return,
    };
    // Who has heard enough hangs up.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A port that stays nobody's for as long as it is held: one that is free may be another's by the time it is asked.
fn nobody_listens() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}

async fn silence(socket: TcpStream, stop: &Stop) {
    let _held = socket;
    stop.cancelled().await;
}

/// Key sets that are fetched.
struct Running {
    sets: KeySets,
    held: watch::Receiver<Arc<JwksHeld>>,
    tasks: Tasks,
}

impl Running {
    fn start(wanted: JwksWanted, options: JwksOptions) -> Self {
        let (sets, tasks) = (KeySets::new(wanted), Tasks::new());
        let held = sets.held();
        tasks.spawn("sets", sets.clone().run_at(options, QUICK, tasks.stop_signal()));
        Self { sets, held, tasks }
    }

    /// Waits until the keys of `location` are exactly that one.
    async fn until_held(&mut self, location: &str, x: &str) {
        let is = |held: &Arc<JwksHeld>| {
            held.get(location)
                .is_some_and(|jwks| jwks.keys.len() == 1 && jwks.keys[0].id.as_deref() == Some(x))
        };
        let found = tokio::time::timeout(PATIENCE, self.held.wait_for(is)).await;
        found.unwrap_or_else(|_| panic!("never held: {x}, but {:?}", self.sets.status())).unwrap();
    }

    /// Waits until the status of the only place is like that.
    async fn until(&mut self, what: &str, is: impl Fn(&KeySetStatus) -> bool) -> KeySetStatus {
        let mut status = self.sets.status.subscribe();
        let found =
            tokio::time::timeout(PATIENCE, status.wait_for(|all| all.len() == 1 && is(&all[0]))).await;
        found.unwrap_or_else(|_| panic!("never: {what}, but {:?}", self.sets.status())).unwrap()[0].clone()
    }
}

/// Generous: nothing is measured here.
const PATIENCE: Duration = Duration::from_secs(30);

fn at(uri: &Arc<str>) -> JwksWanted {
    [(Arc::clone(uri), JwksPlace::Uri(Arc::clone(uri)))].into()
}

fn error(status: &KeySetStatus) -> &str {
    status.failure.as_ref().map_or("", |failure| &failure.error)
}

#[tokio::test]
async fn keys_are_fetched_when_they_are_wanted_and_again_from_time_to_time() {
    let server = Server::start(good(X[0])).await;
    let mut running = Running::start(at(&server.uri()), JwksOptions::default());
    running.until_held(&server.uri(), X[0]).await;
    server.says(good(X[1]));
    running.until_held(&server.uri(), X[1]).await;
    let status = running.until("well", |status| status.failure.is_none()).await;
    assert_eq!((status.keys, status.location), (1, server.uri()));
    assert!(status.fetched.unwrap().elapsed().unwrap() < PATIENCE);
}

#[tokio::test]
async fn the_last_good_keys_stay_whatever_becomes_of_the_server() {
    let server = Server::start(good(X[0])).await;
    let mut running = Running::start(at(&server.uri()), JwksOptions::default());
    running.until_held(&server.uri(), X[0]).await;
    for (answer, says) in [
        (Answer::With(500, String::new()), "the answer is 500"),
        (Answer::With(200, "<html>".to_owned()), "it is no JSON Web Key Set"),
        (Answer::With(200, r#"{"keys": []}"#.to_owned()), "none of its 0 keys"),
    ] {
        server.says(answer);
        let status = running.until(says, |status| error(status).contains(says)).await;
        assert_eq!(status.keys, 1, "the last good one");
        let first = status.failure.unwrap();
        let later =
            running.until("tried again", |s| s.failure.as_ref().is_some_and(|f| f.tries > first.tries)).await;
        assert_eq!(later.failure.unwrap().since, first.since);
    }
    running.until_held(&server.uri(), X[0]).await;
    server.says(good(X[1]));
    running.until_held(&server.uri(), X[1]).await;
    running.until("well again", |status| status.failure.is_none()).await;
}

#[tokio::test]
async fn each_thing_that_can_be_wrong_is_named() {
    let bound = nobody_listens();
    let closed = bound.local_addr().unwrap();
    let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(LARGEST + 1));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned();
    let answers = [
        (Answer::With(404, String::new()), "the answer is 404"),
        (Answer::With(302, String::new()), "the answer is 302 Found; name the place that it leads to"),
        (Answer::Raw(large), "the document is larger than 1048576 bytes"),
        (Answer::Raw(cut), "the server broke off"),
        (Answer::Raw("SSH-2.0-x\r\n".to_owned()), "the server broke off"),
    ];
    for (answer, says) in answers {
        let server = Server::start(answer).await;
        let mut running = Running::start(at(&server.uri()), JwksOptions::default());
        let status = running.until(says, |status| error(status).contains(says)).await;
        assert_eq!((status.keys, status.fetched), (0, None), "{says}");
    }
    for (uri, says) in [
        (format!("http://{closed}/keys"), format!("no connection to {closed} came about")),
        (
            "http://no-such-host.invalid/keys".to_owned(),
            "the address of no-such-host.invalid is not to be had".to_owned(),
        ),
    ] {
        let mut running = Running::start(at(&uri.into()), JwksOptions::default());
        running.until(&says, |status| error(status).contains(&says)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_left_in_time() {
    let server = Server::start(Answer::Silence).await;
    let asked = Fetch::new(None).keys(JwksPlace::Uri(server.uri())).await;
    assert_eq!(asked.unwrap_err().to_string(), "it took longer than 5s");
    assert_eq!(server.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn endpoints_are_asked_one_after_the_other_and_once_they_are_there() {
    let server = Server::start(good(X[0])).await;
    let bound = nobody_listens();
    let closed = bound.local_addr().unwrap();
    let location: Arc<str> = "Service shop/idp:80/keys".into();
    let wanted = |addresses: &[SocketAddr]| {
        let (host, path) = ("idp.shop.svc:80".into(), "/keys".into());
        JwksWanted::from([(
            Arc::clone(&location),
            JwksPlace::Endpoints { addresses: addresses.into(), host, path },
        )])
    };
    let mut running = Running::start(wanted(&[]), JwksOptions::default());
    running.until("nobody", |status| error(status).contains("no endpoint of it is ready")).await;
    running.sets.want(wanted(&[closed, server.address]));
    running.until_held(&location, X[0]).await;
    running.sets.want(JwksWanted::new());
    let forgotten = running.held.wait_for(|held| held.is_empty());
    tokio::time::timeout(PATIENCE, forgotten).await.expect("nobody wants it any more").unwrap();
}

#[tokio::test]
async fn an_agent_that_starts_while_the_provider_is_away_has_the_last_good_keys() {
    let folder = tempfile::tempdir().unwrap();
    let options = JwksOptions { last_good: Some(folder.path().join("new/jwks.json")), ca_bundle: None };
    let server = Server::start(good(X[0])).await;
    let uri = server.uri();
    let mut before = Running::start(at(&uri), options.clone());
    before.until_held(&uri, X[0]).await;
    let fetched = before.until("well", |status| status.keys == 1).await.fetched.unwrap();
    while !folder.path().join("new/jwks.json").exists() {
        tokio::task::yield_now().await;
    }
    before.tasks.drain(PATIENCE).await;
    server.tasks.drain(PATIENCE).await;

    let mut after = Running::start(at(&uri), options.clone());
    after.until_held(&uri, X[0]).await;
    let status = after.until("away", |status| error(status).contains("no connection")).await;
    let apart = fetched.duration_since(status.fetched.unwrap()).unwrap();
    assert!(apart < Duration::from_secs(2), "how old they are is known, to the second");
    after.tasks.drain(PATIENCE).await;

    std::fs::write(folder.path().join("new/jwks.json"), "broken").unwrap();
    let mut after = Running::start(at(&uri), options);
    let status = after.until("away", |status| error(status).contains("no connection")).await;
    assert_eq!(status.keys, 0, "a file that cannot be read is no reason to stop");
}

/// An authority of nobody else's, and a server's TLS that it vouches for.
fn private(versions: &[&'static rustls::SupportedProtocolVersion]) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap();
    let signer = rcgen::Issuer::from_params(&params, &key);
    let own = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &signer).unwrap();
    let own = PrivatePkcs8KeyDer::from(own.serialized_der().to_vec());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.into()], own.into())
        .unwrap();
    (root.pem(), Arc::new(config).into())
}

#[tokio::test]
async fn a_private_authority_is_believed_once_it_is_in_the_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    for version in [&TLS12, &TLS13] {
        let (root, tls) = private(&[version]);
        let server = Server::with(good(X[0]), Some(tls)).await;
        let uri: Arc<str> = format!("https://{}/keys", server.address).into();
        let says = |fetch: Fetch| {
            let place = JwksPlace::Uri(Arc::clone(&uri));
            async move { fetch.keys(place).await.map(|jwks| jwks.keys.len()).map_err(|error| error.to_string()) }
        };
        let refused = says(Fetch::new(None)).await.unwrap_err();
        assert!(refused.contains("UnknownIssuer") && refused.contains("--jwks-ca-bundle"), "{refused}");
        let missing = says(Fetch::new(Some(bundle.clone()))).await.unwrap_err();
        assert!(missing.contains("cannot be read"), "{missing}");
        std::fs::write(&bundle, "nothing").unwrap();
        let empty = says(Fetch::new(Some(bundle.clone()))).await.unwrap_err();
        assert!(empty.contains("there is no certificate in"), "{empty}");
        std::fs::write(&bundle, &root).unwrap();
        assert_eq!(says(Fetch::new(Some(bundle.clone()))).await, Ok(1));
        std::fs::remove_file(&bundle).unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_vouched_for_as_somebody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    let (root, tls) = private(&[&TLS13]);
    std::fs::write(&bundle, root).unwrap();
    let server = Server::with(good(X[0]), Some(tls)).await;
    let uri: Arc<str> = format!("https://localhost:{}/keys", server.address.port()).into();
    let refused = Fetch::new(Some(bundle)).keys(JwksPlace::Uri(uri)).await.unwrap_err().to_string();
    assert!(refused.contains("TLS with localhost failed"), "{refused}");
}
