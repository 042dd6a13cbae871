//! The state behind [`Certificates`](super::Certificates): which certificates there are, and what is due.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};
use weft_model::ServiceAccount;
use weft_runtime::Backoff;

use super::{AT_ONCE, CertificateStatus, Failure, Held, ISSUE_TIME, LOOK, Status, Wanted};
use crate::{Authority, Clock, IssueError, Issuer, Order, Signer, Svid, Trust, Usage, clock::between};

pub(super) struct Keeper {
    issuer: Arc<dyn Issuer>,
    clock: Clock,
    wanted: Wanted,
    trust: Option<Arc<Trust>>,
    signer: Option<Signer>,
    failure: Option<Failure>,
    entries: BTreeMap<ServiceAccount, Entry>,
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When the issuer is looked at next; `None` while it is.
    look_at: Option<Instant>,
    /// How long to wait with that while it fails: a node that begins does so before much else of its mesh is there.
    looks: Backoff,
}

/// The certificate of one account.
struct Entry {
    svid: Option<Arc<Svid>>,
    /// When it is to be renewed.
    renew_at: SystemTime,
    /// Not before this, after a failure.
    retry_at: Instant,
    backoff: Backoff,
    is_under_way: bool,
    issued: u64,
    failure: Option<Failure>,
}

/// What came of something that was under way.
enum Done {
    Looked(Result<Authority, IssueError>),
    Issued(Order, Result<Svid, IssueError>),
}

impl Keeper {
    pub(super) fn new(issuer: Arc<dyn Issuer>, clock: Clock, wanted: Wanted) -> Self {
        let mut keeper = Self {
            issuer,
            clock,
            wanted: wanted.clone(),
            trust: None,
            signer: None,
            failure: None,
            entries: BTreeMap::new(),
            under_way: FuturesUnordered::new(),
            look_at: Some(Instant::now()),
            looks: Backoff::new(FIRST_RETRY, LOOK),
        };
        keeper.take(wanted);
        keeper
    }

    /// Takes over what is wanted from now on.
    pub(super) fn take(&mut self, wanted: Wanted) {
        let now = self.clock.now();
        if wanted.domains.own() != self.wanted.domains.own() {
            // Another mesh: the next look says whether the issuer is of it.
            self.look_at = self.look_at.map(|_| Instant::now());
            self.entries.clear();
            self.trust = None;
        } else if wanted.domains != self.wanted.domains
            && let Some(trust) = &self.trust
        {
            self.trust = Some(Arc::new(trust.with(wanted.domains.clone())));
        }
        self.entries.retain(|account, _| wanted.accounts.contains(account));
        for account in &wanted.accounts {
            self.entries.entry(account.clone()).or_insert_with(|| Entry::new(now));
        }
        self.wanted = wanted;
    }

    /// Asks the issuer for what is due, within bounds. Nothing is asked before it is known whom it vouches for.
    pub(super) fn begin_what_is_due(&mut self) {
        let (now, instant) = (self.clock.now(), Instant::now());
        if self.look_at.is_some_and(|at| at <= instant) {
            self.look_at = None;
            self.under_way.push(look(Arc::clone(&self.issuer)));
        }
        if self.trust.is_none() {
            return;
        }
        let free = AT_ONCE.saturating_sub(self.under_way.len());
        let due = self.entries.iter_mut().filter(|(_, entry)| entry.is_due(now, instant)).take(free);
        for (account, entry) in due {
            entry.is_under_way = true;
            let order = Order { account: account.clone(), ttl: self.wanted.ttl };
            self.under_way.push(issue(Arc::clone(&self.issuer), order));
        }
    }

    /// Waits until something is done or due.
    pub(super) async fn work(&mut self) {
        let wake_at = self.wake_at();
        tokio::select! {
            Some(done) = self.under_way.next() => match done {
                Done::Looked(authority) => self.looked(authority),
                Done::Issued(order, svid) => self.issued(&order, svid),
            },
            () = sleep_until(wake_at) => {}
        }
    }

    /// What is valid now.
    pub(super) fn held(&self) -> Held {
        let now = self.clock.now();
        let valid = |(account, entry): (&ServiceAccount, &Entry)| {
            let svid = entry.svid.as_ref().filter(|svid| now <= svid.not_after())?;
            Some((account.clone(), Arc::clone(svid)))
        };
        let svids: BTreeMap<_, _> = self.entries.iter().filter_map(valid).collect();
        let missing = self.entries.keys().filter(|account| !svids.contains_key(*account)).cloned().collect();
        Held { trust: self.trust.clone(), svids, missing }
    }

    pub(super) fn status(&self) -> Status {
        let certificate = |(account, entry): (&ServiceAccount, &Entry)| CertificateStatus {
            account: account.clone(),
            id: self.wanted.domains.id(account),
            serial: entry.svid.as_ref().map(|svid| svid.serial().to_owned()),
            not_before: entry.svid.as_ref().map(|svid| svid.not_before()),
            not_after: entry.svid.as_ref().map(|svid| svid.not_after()),
            renewals: entry.issued.saturating_sub(1),
            failure: entry.failure.clone(),
        };
        Status {
            trust_domain: self.wanted.domains.own().to_owned(),
            issuer: self.signer.clone(),
            roots: self.trust.as_ref().map_or(0, |trust| trust.roots().len()),
            failure: self.failure.clone(),
            certificates: self.entries.iter().map(certificate).collect(),
        }
    }

    /// When to look again though nothing happened: something is due, something ends, or time may have jumped.
    fn wake_at(&self) -> Instant {
        let (now, instant) = (self.clock.now(), Instant::now());
        let is_full = self.under_way.len() >= AT_ONCE || self.trust.is_none();
        let of_entries = self.entries.values().flat_map(|entry| {
            // One tick after its last moment it is to be out of what is held.
            let ends = entry.svid.as_ref().map(|svid| between(now, svid.not_after()) + TICK);
            let ends = ends.filter(|left| *left > TICK).map(|left| instant + left);
            let due = (!entry.is_under_way && !is_full)
                .then(|| entry.retry_at.max(instant + between(now, entry.renew_at)));
            [ends, due].into_iter().flatten()
        });
        of_entries.chain(self.look_at).chain([instant + LOOK]).min().expect("one is always there")
    }

    fn looked(&mut self, looked: Result<Authority, IssueError>) {
        let now = self.clock.now();
        let taken = looked.and_then(|authority| {
            let trust = self.trust_in(&authority)?;
            Ok((trust, authority.issuer))
        });
        match taken {
            Ok((trust, signer)) => {
                self.look_at = Some(Instant::now() + LOOK);
                self.looks.reset();
                self.signer = Some(signer);
                self.failure = None;
                if self.trust.as_deref() != Some(&trust) {
                    tracing::info!(roots = trust.roots().len(), "trusted roots or trust domains changed");
                    self.entries.values_mut().for_each(|entry| entry.renew_unless_vouched_for(&trust, now));
                    self.trust = Some(Arc::new(trust));
                }
            }
            Err(error) => {
                self.look_at = Some(Instant::now() + self.looks.step());
                self.failure = Some(failed(self.failure.take(), "issuer", &error, now));
            }
        }
    }

    fn trust_in(&self, authority: &Authority) -> Result<Trust, IssueError> {
        let (issuer, mesh) = (&authority.trust_domain, self.wanted.domains.own());
        if **issuer != *mesh {
            return Err(IssueError::TrustDomain { issuer: Arc::clone(issuer), mesh: mesh.to_owned() });
        }
        Ok(Trust::new(self.wanted.domains.clone(), authority.roots.clone())?)
    }

    fn issued(&mut self, order: &Order, issued: Result<Svid, IssueError>) {
        let Order { account, .. } = order;
        let now = self.clock.now();
        let checked = issued.and_then(|svid| self.check(account, svid, now));
        // An account that nobody wants any more.
        let Some(entry) = self.entries.get_mut(account) else { return };
        entry.is_under_way = false;
        match checked {
            Ok(svid) => {
                tracing::debug!(%account, serial = svid.serial(), "certificate issued");
                entry.take(svid, now);
            }
            Err(error) => {
                entry.failure = Some(failed(entry.failure.take(), &account.to_string(), &error, now));
                entry.retry_at = Instant::now() + entry.backoff.step();
            }
        }
    }

    /// Whatever the issuer is, what it gives is looked at as a peer will look at it.
    fn check(&self, account: &ServiceAccount, svid: Svid, now: SystemTime) -> Result<Svid, IssueError> {
        let useless = |source| IssueError::Useless { account: account.clone(), source };
        if *svid.id() != self.wanted.domains.id(account) {
            return Err(IssueError::Another { account: account.clone(), given: svid.id().clone() });
        }
        if let Some(trust) = &self.trust {
            vouched_for(&svid, trust, now).map_err(useless)?;
        }
        Ok(svid)
    }
}

impl Entry {
    fn new(now: SystemTime) -> Self {
        Self {
            svid: None,
            renew_at: now,
            retry_at: Instant::now(),
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            is_under_way: false,
            issued: 0,
            failure: None,
        }
    }

    fn is_due(&self, now: SystemTime, instant: Instant) -> bool {
        !self.is_under_way && self.renew_at <= now && self.retry_at <= instant
    }

    fn take(&mut self, svid: Svid, now: SystemTime) {
        // Half of what is left when it comes: its first moments are past, for clocks that are behind.
        let share = 0.45 + 0.1 * weft_runtime::fraction();
        self.renew_at = now + between(now, svid.not_after()).mul_f64(share);
        self.svid = Some(Arc::new(svid));
        self.issued += 1;
        self.failure = None;
        self.backoff.reset();
        // Even an issuer whose certificates end at once is not asked without a pause.
        self.retry_at = Instant::now() + FIRST_RETRY;
    }

    fn renew_unless_vouched_for(&mut self, trust: &Trust, now: SystemTime) {
        if self.svid.as_ref().is_some_and(|svid| vouched_for(svid, trust, now).is_err()) {
            self.renew_at = now;
        }
    }
}

fn vouched_for(svid: &Svid, trust: &Trust, now: SystemTime) -> Result<(), crate::Unacceptable> {
    let (leaf, chain) = svid.chain().split_first().expect("an SVID has a certificate");
    for usage in [Usage::Server, Usage::Client] {
        trust.verify(leaf, chain, usage, now)?;
    }
    Ok(())
}

/// Tells the log when something begins to fail, and not each time.
fn failed(before: Option<Failure>, what: &str, error: &IssueError, now: SystemTime) -> Failure {
    if before.is_none() {
        tracing::warn!(%what, %error, "no new certificate; the last valid one serves until it ends");
    }
    Failure::again(before, error.to_string(), now)
}

fn look(issuer: Arc<dyn Issuer>) -> BoxFuture<'static, Done> {
    async move { Done::Looked(in_time(issuer.authority()).await) }.boxed()
}

fn issue(issuer: Arc<dyn Issuer>, order: Order) -> BoxFuture<'static, Done> {
    async move {
        let svid = in_time(issuer.issue(order.clone())).await;
        Done::Issued(order, svid)
    }
    .boxed()
}

async fn in_time<T>(asked: BoxFuture<'_, Result<T, IssueError>>) -> Result<T, IssueError> {
    timeout(ISSUE_TIME, asked).await.unwrap_or(Err(IssueError::Timeout { within: ISSUE_TIME }))
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(1);
