//! Controllers that answer over real sockets, and agents that ask them.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Method;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};
use weft_runtime::Tasks;

use super::{ControllerError, Controllers, Roots, Serving, host};
use crate::{
    Clock, Request, SvidError,
    ca::{SecretAuthority, SecretIssuer},
    testing::{DAY, web},
};

/// A controller that says the same to all questions.
struct Controller {
    address: SocketAddr,
    serving: Serving,
    asked: Arc<AtomicUsize>,
    tasks: Tasks,
}

impl Controller {
    async fn start(issuer: &SecretIssuer, name: &str, status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Tasks::new());
        let (serving, asked) = (Serving::new(), Arc::new(AtomicUsize::new(0)));
        let (chain, key) = issuer.serving(name, DAY, SystemTime::now()).unwrap();
        serving.show(chain, &key).unwrap();
        let (shown, counted) = (serving.clone(), Arc::clone(&asked));
        tasks.spawn("controller", async move {
            loop {
                let (socket, _) = listener.accept().await?;
                let Ok(mut stream) = shown.accept(socket, Duration::from_secs(5)).await else { continue };
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await?;
                assert!(head[..read].windows(7).any(|it| it == b"Bearer "), "a question has a token");
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await?;
            }
            #[expect(unreachable_code, reason = "it says what the loop fails with")]
            Ok::<(), std::io::Error>(())
        });
        Self { address, serving, asked, tasks }
    }

    async fn end(self) {
        self.tasks.drain(Duration::ZERO).await;
    }
}

/// An agent's view of controllers.
struct Agent {
    controllers: Controllers,
    roots: watch::Sender<Result<Arc<Roots>, Arc<str>>>,
    _addresses: watch::Sender<Arc<[SocketAddr]>>,
    _folder: TempDir,
}

impl Agent {
    fn of(issuer: &SecretIssuer, at: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "a.b.c\n").unwrap();
        Self::with_token(issuer, at, folder, &token)
    }

    fn with_token(issuer: &SecretIssuer, at: &[SocketAddr], folder: TempDir, token: &Path) -> Self {
        let (addresses, found) = watch::channel(at.into());
        let (roots, trusted) = watch::channel(Ok(trusted(issuer)));
        let controllers = Controllers::new(host("weft-system"), token.to_owned(), found, trusted);
        Self { controllers, roots, _addresses: addresses, _folder: folder }
    }

    async fn ask(&self) -> Result<Bytes, ControllerError> {
        self.controllers.ask(Method::GET, "/v1/authority", Bytes::new()).await.map(|(_, body)| body)
    }
}

fn trusted(issuer: &SecretIssuer) -> Arc<Roots> {
    Arc::new(Roots::parse(&issuer.roots_pem()).unwrap())
}

fn authority() -> SecretAuthority {
    SecretAuthority::make("weft-system/weft-ca", "mesh.example", &[], &Clock::system()).unwrap()
}

#[tokio::test]
async fn a_controller_is_who_has_a_certificate_of_its_service_by_a_trusted_root() {
    let (ours, others) = (authority().issuer().unwrap(), authority().issuer().unwrap());
    let good = Controller::start(&ours, &host("weft-system"), "200 OK", "yes").await;
    let agent = Agent::of(&ours, &[good.address]);
    assert_eq!(agent.ask().await.unwrap(), "yes");

    let of_another_mesh = Controller::start(&others, &host("weft-system"), "200 OK", "no").await;
    let of_another_name = Controller::start(&ours, "weft-controller.shop.svc", "200 OK", "no").await;
    for wrong in [&of_another_mesh, &of_another_name] {
        let error = Agent::of(&ours, &[wrong.address]).ask().await.unwrap_err();
        assert!(matches!(error, ControllerError::Tls { .. }), "{error}");
        assert_eq!(wrong.asked.load(Ordering::Relaxed), 0, "and no token was said to it");
    }
    for controller in [good, of_another_mesh, of_another_name] {
        controller.end().await;
    }
}

#[tokio::test]
async fn no_workload_can_pose_as_a_controller_and_no_controller_as_a_workload() {
    let issuer = authority().issuer().unwrap();
    let controller = Controller::start(&issuer, &host("weft-system"), "200 OK", "yes").await;
    let key = crate::PrivateKey::generate().unwrap();
    let request = Request::parse(&Request::by(&key).unwrap()).unwrap();
    let workload = issuer.sign(&request, &web(), DAY, SystemTime::now()).unwrap();
    controller.serving.show(workload, &key).unwrap();
    let error = Agent::of(&issuer, &[controller.address]).ask().await.unwrap_err();
    assert!(matches!(error, ControllerError::Tls { .. }), "{error}");
    let (chain, key) = issuer.serving(&host("weft-system"), DAY, SystemTime::now()).unwrap();
    assert!(matches!(crate::Svid::new(chain, key), Err(SvidError::Certificate(_))));
    controller.end().await;
}

#[tokio::test]
async fn an_agent_with_the_old_root_finds_a_controller_with_the_new_one() {
    let mut authority = authority();
    let before = authority.issuer().unwrap();
    authority.rotate_root(&Clock::system()).unwrap();
    let after = authority.issuer().unwrap();
    let old = Controller::start(&before, &host("weft-system"), "200 OK", "old").await;
    let new = Controller::start(&after, &host("weft-system"), "200 OK", "new").await;
    for roots in [&before, &after] {
        assert_eq!(Agent::of(roots, &[new.address]).ask().await.unwrap(), "new");
        assert_eq!(Agent::of(roots, &[old.address]).ask().await.unwrap(), "old");
    }
    old.end().await;
    new.end().await;
}

#[tokio::test]
async fn the_next_one_is_asked_where_one_does_not_answer_and_a_no_is_a_no() {
    let issuer = authority().issuer().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ill = Controller::start(&issuer, &host("weft-system"), "503 Service Unavailable", "").await;
    let well = Controller::start(&issuer, &host("weft-system"), "200 OK", "yes").await;
    let agent = Agent::of(&issuer, &[nobody, ill.address, well.address]);
    for _ in 0..20 {
        assert_eq!(agent.ask().await.unwrap(), "yes");
    }
    assert!(ill.asked.load(Ordering::Relaxed) > 0, "who is first is left to chance");

    let body = r#"{"reason":"NoPodThere","error":"no pod of ServiceAccount shop/web"}"#;
    let strict = Controller::start(&issuer, &host("weft-system"), "403 Forbidden", body).await;
    let agent = Agent::of(&issuer, &[strict.address, strict.address]);
    let error = agent.ask().await.unwrap_err();
    let ControllerError::Said { reason, .. } = &error else { panic!("{error}") };
    assert_eq!(reason, "NoPodThere");
    assert_eq!(strict.asked.load(Ordering::Relaxed), 1, "it is not asked of others");
    for controller in [ill, well, strict] {
        controller.end().await;
    }
}

#[tokio::test]
async fn what_is_missing_is_named_before_anybody_is_asked() {
    let issuer = authority().issuer().unwrap();
    let error = Agent::of(&issuer, &[]).ask().await.unwrap_err().to_string();
    assert!(error.contains("weft-controller.weft-system.svc has no ready endpoint"), "{error}");
    let to = "127.0.0.1:1".parse().unwrap();
    let agent = Agent::of(&issuer, &[to]);
    agent.roots.send_modify(|roots| *roots = Err("no bundle".into()));
    let error = agent.ask().await.unwrap_err().to_string();
    assert!(error.contains("no bundle"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    let error = Agent::with_token(&issuer, &[to], folder, &away).ask().await.unwrap_err().to_string();
    assert!(error.contains("away") && error.contains("--ca-token"), "{error}");
}

#[test]
fn roots_that_were_kept_are_there_for_the_next_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last-good/roots.pem");
    assert_eq!(Roots::kept(&path), None);
    let roots = trusted(&authority().issuer().unwrap());
    roots.keep(&path).unwrap();
    assert_eq!(Roots::kept(&path).as_ref(), Some(&*roots));
    std::fs::write(&path, "torn").unwrap();
    assert_eq!(Roots::kept(&path), None);
}
