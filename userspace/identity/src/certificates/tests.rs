//! Days and years in paused time: the clock of the certificates moves with tokio's.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use futures_util::future::{BoxFuture, ready};
use tokio::time::{Instant, sleep, timeout};
use weft_runtime::Tasks;

use super::*;
use crate::{
    Authority as Vouches, IssueError, Order,
    ca::{self, CaError, DirectoryIssuer, Keeping, Place},
    testing::{Authority, api, web},
};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
/// Shorter than a day, for the issuer is looked at every 10 s of it.
const TTL: Duration = Duration::from_hours(2);

/// The directory's issuer, but for what is done to it.
struct Watched {
    inner: DirectoryIssuer,
    asked: Mutex<Vec<(ServiceAccount, Instant)>>,
    /// What happens to the next orders, one after the other.
    next: Mutex<VecDeque<Fault>>,
}

#[derive(Clone, Copy)]
enum Fault {
    Fails,
    Hangs,
    /// Answers with the certificate of another account.
    Confuses,
}

impl Issuer for Watched {
    fn authority(&self) -> BoxFuture<'_, Result<Vouches, IssueError>> {
        self.inner.authority()
    }

    fn issue(&self, order: Order) -> BoxFuture<'_, Result<Svid, IssueError>> {
        lock(&self.asked).push((order.account.clone(), Instant::now()));
        match lock(&self.next).pop_front() {
            None => self.inner.issue(order),
            Some(Fault::Fails) => Box::pin(ready(Err(CaError::Missing { place: away() }.into()))),
            Some(Fault::Hangs) => Box::pin(std::future::pending()),
            Some(Fault::Confuses) => {
                self.inner.issue(Order { account: ServiceAccount::new("shop", "admin"), ..order })
            }
        }
    }
}

fn away() -> Place {
    Place { keeping: Keeping::Directory("away".into()), name: "issuer.pem" }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node with an authority of its own.
struct Node {
    authority: Authority,
    issuer: Arc<Watched>,
    certificates: Certificates,
    tasks: Tasks,
}

impl Node {
    fn start(accounts: &[ServiceAccount], faults: &[Fault]) -> Self {
        Self::with_ttl(accounts, faults, TTL)
    }

    fn with_ttl(accounts: &[ServiceAccount], faults: &[Fault], ttl: Duration) -> Self {
        let authority = Authority::at(Clock::of_tokio(SystemTime::now()));
        let next = Mutex::new(faults.iter().copied().collect());
        let issuer = Arc::new(Watched { inner: authority.issuer(), asked: Mutex::default(), next });
        let domains = TrustDomains::new("mesh.example", []).unwrap();
        let certificates =
            Certificates::new(Wanted { domains, ttl, accounts: accounts.iter().cloned().collect() });
        let tasks = Tasks::new();
        let (as_issuer, clock) = (Arc::clone(&issuer) as Arc<dyn Issuer>, authority.clock.clone());
        tasks.spawn("certificates", certificates.clone().run(as_issuer, clock, tasks.stop_signal()));
        Self { authority, issuer, certificates, tasks }
    }

    fn now(&self) -> SystemTime {
        self.authority.clock.now()
    }

    fn asked_for(&self, account: &ServiceAccount) -> Vec<Instant> {
        lock(&self.issuer.asked).iter().filter(|(asked, _)| asked == account).map(|(_, at)| *at).collect()
    }

    fn status_of(&self, account: &ServiceAccount) -> CertificateStatus {
        let status = self.certificates.status();
        status.certificates.iter().find(|status| status.account == *account).unwrap().clone()
    }

    /// Waits for the next certificate of `account` that is not `before`.
    async fn renewal(&self, account: &ServiceAccount, before: &Arc<Svid>) -> Arc<Svid> {
        let mut held = self.certificates.held();
        let held = held.wait_for(|held| held.svids.get(account).is_some_and(|svid| svid != before)).await;
        Arc::clone(&held.unwrap().svids[account])
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_issued_as_soon_as_it_is_wanted() {
    let node = Node::start(&[], &[]);
    sleep(HOUR).await;
    assert!(node.certificates.held().borrow().svids.is_empty());
    let began = Instant::now();
    node.certificates.want(|wanted| {
        wanted.accounts.insert(web());
    });
    let svid = node.certificates.of(&web()).await;
    assert_eq!(svid.id().to_string(), "spiffe://mesh.example/ns/shop/sa/web");
    assert!(began.elapsed() < SECOND);
    let status = node.status_of(&web());
    assert_eq!(status.serial.as_deref(), Some(svid.serial()));
    assert_eq!((status.renewals, status.failure), (0, None));
    let left = status.not_after.unwrap().duration_since(node.now()).unwrap();
    assert!(left <= TTL && left + SECOND * 10 > TTL, "{left:?}");
    assert!(node.certificates.status().issuer.as_ref().unwrap().name.starts_with("weft issuer "));
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_at_half_life_and_not_all_at_the_same_time() {
    let accounts: Vec<_> = (0..40).map(|n| ServiceAccount::new("shop", format!("app-{n}"))).collect();
    let node = Node::start(&accounts, &[]);
    let mut first = Vec::new();
    for account in &accounts {
        first.push(node.certificates.of(account).await);
    }
    let began = Instant::now();
    let mut waited = Vec::new();
    for (account, before) in accounts.iter().zip(&first) {
        let renewed = node.renewal(account, before).await;
        assert!(renewed.not_after() > before.not_after());
        waited.push(node.asked_for(account)[1] - began);
    }
    let (least, most) = (waited.iter().min().unwrap(), waited.iter().max().unwrap());
    assert!(*least >= TTL.mul_f64(0.44) && *most <= TTL.mul_f64(0.56), "{least:?} {most:?}");
    assert!(*most > *least + TTL / 40, "{least:?} {most:?}: they would be renewed together");
    assert_eq!(node.status_of(&accounts[0]).renewals, 1);
    assert!(node.tasks.drain(SECOND).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_30_s_is_renewed_in_time_again_and_again() {
    let node = Node::with_ttl(&[web()], &[], 30 * SECOND);
    let mut svid = node.certificates.of(&web()).await;
    for _ in 0..20 {
        svid = timeout(20 * SECOND, node.renewal(&web(), &svid)).await.unwrap();
        assert!(svid.not_after() > node.now());
    }
    assert!(node.status_of(&web()).renewals >= 20);
}

#[tokio::test(start_paused = true)]
async fn who_fails_is_tried_again_later_and_later_and_serves_on_until_the_end() {
    let node = Node::start(&[web()], &[]);
    let first = node.certificates.of(&web()).await;
    *lock(&node.issuer.next) = std::iter::repeat_n(Fault::Fails, 10_000).collect();
    sleep(TTL.mul_f64(0.8)).await;
    // Long past half life: the last valid one is what is shown, and the status says why.
    assert_eq!(node.certificates.of(&web()).await, first);
    let status = node.status_of(&web());
    let failure = status.failure.unwrap();
    assert!(failure.error.contains("weft ca init") && failure.tries > 10, "{failure:?}");
    let since = node.now().duration_since(failure.since).unwrap();
    assert!(since > TTL.mul_f64(0.23) && since < TTL.mul_f64(0.37), "{since:?}");
    let tries = node.asked_for(&web());
    let pauses: Vec<_> = tries[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] <= 2 * SECOND, "{pauses:?}");
    assert!(pauses.iter().skip(8).all(|pause| *pause >= 30 * SECOND && *pause <= 61 * SECOND), "{pauses:?}");

    sleep(TTL.mul_f64(0.25)).await;
    let held = Arc::clone(&node.certificates.held().borrow());
    assert!(held.svids.is_empty(), "an expired certificate is shown to nobody");
    assert_eq!(held.missing, [web()].into(), "it is wanted all the same");
    let status = node.status_of(&web());
    assert!(!status.is_valid(node.now()));
    assert_eq!(status.expiry_seconds(node.now()), Some(0));

    lock(&node.issuer.next).clear();
    let renewed = node.certificates.of(&web()).await;
    assert_ne!(renewed, first);
    assert_eq!(node.status_of(&web()).failure, None);
}

/// As much of a certificate's life as an hour is of a day.
#[tokio::test(start_paused = true)]
async fn an_hour_of_a_day_without_an_issuer_ends_no_certificate_whenever_it_begins() {
    for began in [0.0, 0.4, 0.46, 0.5, 0.54] {
        let node = Node::start(&[web()], &[]);
        node.certificates.of(&web()).await;
        sleep(TTL.mul_f64(began)).await;
        *lock(&node.issuer.next) = std::iter::repeat_n(Fault::Fails, 10_000).collect();
        for _ in 0..24 {
            sleep(TTL / 24 / 24).await;
            let held = node.certificates.of(&web()).await;
            let left = held.not_after().duration_since(node.now()).unwrap();
            assert!(left > TTL.mul_f64(0.38), "away since {began}: {left:?} are left");
        }
        lock(&node.issuer.next).clear();
        sleep(TTL / 10).await;
        let left = node.certificates.of(&web()).await.not_after().duration_since(node.now()).unwrap();
        assert!(left > TTL / 3 && node.status_of(&web()).failure.is_none(), "{began}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_does_not_hold_up_the_others() {
    let node = Node::start(&[api(), web()], &[Fault::Hangs]);
    assert_eq!(node.certificates.held().borrow().missing, [api(), web()].into(), "from the first moment on");
    let began = Instant::now();
    node.certificates.of(&web()).await;
    assert!(began.elapsed() < SECOND);
    node.certificates.of(&api()).await;
    assert!(began.elapsed() > ISSUE_TIME && began.elapsed() < 2 * ISSUE_TIME, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_somebody_else_is_not_taken() {
    let node = Node::start(&[web()], &[Fault::Confuses]);
    let mut held = node.certificates.held();
    let svid = node.certificates.of(&web()).await;
    assert_eq!(svid.id().to_string(), "spiffe://mesh.example/ns/shop/sa/web");
    assert_eq!(node.asked_for(&web()).len(), 2);
    assert!(held.borrow_and_update().svids.values().all(|held| held.id() == svid.id()));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_pod_any_more_is_forgotten() {
    let node = Node::start(&[api(), web()], &[]);
    node.certificates.of(&api()).await;
    node.certificates.of(&web()).await;
    node.certificates.want(|wanted| {
        wanted.accounts.remove(&api());
    });
    let mut held = node.certificates.held();
    let given_up = |held: &Arc<Held>| !held.svids.contains_key(&api()) && held.missing.is_empty();
    held.wait_for(given_up).await.unwrap();
    sleep(TTL).await;
    assert_eq!(node.asked_for(&api()).len(), 1);
    assert_eq!(node.certificates.status().certificates.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_are_asked_for_at_a_time_than_the_bound() {
    let accounts: Vec<_> = (0..100).map(|n| ServiceAccount::new("shop", format!("app-{n}"))).collect();
    let node = Node::start(&accounts, &[Fault::Hangs; 100]);
    sleep(ISSUE_TIME / 2).await;
    assert_eq!(lock(&node.issuer.asked).len(), AT_ONCE);
    for account in &accounts {
        timeout(HOUR, node.certificates.of(account)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn new_roots_are_seen_and_what_they_do_not_vouch_for_is_renewed_at_once() {
    let node = Node::start(&[web()], &[]);
    let first = node.certificates.of(&web()).await;
    let path = node.authority.path();
    ca::rotate_root(path, &node.authority.clock).unwrap();
    let mut held = node.certificates.held();
    held.wait_for(|held| held.trust.as_ref().unwrap().roots().len() == 2).await.unwrap();
    assert_eq!(node.certificates.of(&web()).await, first, "both roots are trusted: no hurry");
    assert_eq!(node.certificates.status().roots, 2);

    let began = Instant::now();
    ca::finish_root(path, Duration::ZERO, &node.authority.clock).unwrap();
    node.renewal(&web(), &first).await;
    assert!(began.elapsed() <= LOOK + SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broken_authority_is_told_and_a_mended_one_is_found() {
    let node = Node::start(&[web()], &[]);
    let first = node.certificates.of(&web()).await;
    let path = node.authority.path().join("issuer.pem");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "nothing").unwrap();
    sleep(LOOK + SECOND).await;
    let status = node.certificates.status();
    assert!(status.failure.as_ref().unwrap().error.contains("issuer.pem: private key"), "{status:?}");
    assert!(status.issuer.is_some(), "what was known of it is still shown");
    assert_eq!(node.certificates.of(&web()).await, first);
    std::fs::write(&path, good).unwrap();
    sleep(LOOK + SECOND).await;
    assert_eq!(node.certificates.status().failure, None);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_of_another_mesh_is_not_asked() {
    let node = Node::start(&[web()], &[]);
    node.certificates.of(&web()).await;
    node.certificates.want(|wanted| wanted.domains = TrustDomains::new("other.example", []).unwrap());
    sleep(LOOK + SECOND).await;
    let status = node.certificates.status();
    let failure = status.failure.as_ref().unwrap();
    assert!(failure.error.contains("the issuer is of trust domain mesh.example, this mesh is other.example"));
    let held = Arc::clone(&node.certificates.held().borrow());
    assert!(held.trust.is_none() && held.svids.is_empty() && held.missing == [web()].into());
    assert_eq!(node.asked_for(&web()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_trusted_at_once_and_costs_no_certificate() {
    let node = Node::start(&[web()], &[]);
    let first = node.certificates.of(&web()).await;
    node.certificates.want(|wanted| {
        wanted.domains = TrustDomains::new("mesh.example", ["old.example"]).unwrap();
    });
    let mut held = node.certificates.held();
    let aliases = |held: &Arc<Held>| held.trust.as_ref().map_or(0, |trust| trust.domains().aliases().len());
    timeout(SECOND, held.wait_for(|held| aliases(held) == 1)).await.unwrap().unwrap();
    sleep(TTL / 4).await;
    assert_eq!(node.certificates.of(&web()).await, first);
}
