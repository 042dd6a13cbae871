use std::time::Duration;

use futures_util::FutureExt as _;
use tempfile::TempDir;
use weft_identity::{
    Issuer as _, Order, Peer, Refused, TrustDomains,
    ca::{self, DirectoryIssuer},
};

use super::*;

fn web() -> ServiceAccount {
    ServiceAccount::new("shop", "web")
}

fn api() -> ServiceAccount {
    ServiceAccount::new("shop", "api")
}

/// An authority, and what an agent says by it.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(dir.path(), "mesh.example", &Clock::system()).unwrap();
        Self(dir)
    }

    fn issuer(&self) -> DirectoryIssuer {
        DirectoryIssuer::new(self.0.path(), Clock::system())
    }

    fn trust(&self) -> Arc<Trust> {
        let authority = self.issuer().authority().now_or_never().unwrap().unwrap();
        let domains = TrustDomains::new("mesh.example", []).unwrap();
        Arc::new(Trust::new(domains, authority.roots).unwrap())
    }

    fn svid(&self, account: ServiceAccount) -> Arc<Svid> {
        let order = Order { account, ttl: Duration::from_hours(1) };
        Arc::new(self.issuer().issue(order).now_or_never().unwrap().unwrap())
    }

    /// With new certificates of `issued`.
    fn held(&self, issued: &[ServiceAccount], missing: &[ServiceAccount]) -> Held {
        let svids = issued.iter().map(|account| (account.clone(), self.svid(account.clone())));
        Held { trust: Some(self.trust()), svids: svids.collect(), missing: missing.iter().cloned().collect() }
    }
}

fn none() -> Identities {
    Identities::new(Clock::system())
}

/// Whom the client has met, and whom the server. A client is done before the server has looked at its certificate.
async fn meet(client: &Endpoint, server: &Endpoint) -> (Result<Peer, Refused>, Result<Peer, Refused>) {
    let (near, far) = tokio::io::duplex(4096);
    let patience = Duration::from_secs(10);
    let account = server.svid().id().service_account().unwrap();
    let (connected, accepted) =
        tokio::join!(client.connect(near, &account, patience), server.accept(far, patience));
    (connected.map(|stream| stream.peer().clone()), accepted.map(|stream| stream.peer().clone()))
}

#[tokio::test]
async fn two_accounts_of_the_node_prove_to_each_other_who_they_are() {
    let (authority, identities) = (Authority::new(), none());
    assert!(identities.endpoint_of(&web()).is_none() && identities.valid() == 0);
    identities.take(authority.held(&[web(), api()], &[])).unwrap();
    assert_eq!(identities.valid(), 2);
    let [client, server] = [web(), api()].map(|account| identities.endpoint_of(&account).unwrap());
    let (met, seen) = meet(&client, &server).await;
    assert_eq!((met.unwrap().account, seen.unwrap().account), (api(), web()));
}

#[tokio::test]
async fn a_renewal_changes_what_an_endpoint_shows_and_whom_it_trusts() {
    let (before, after, identities) = (Authority::new(), Authority::new(), none());
    identities.take(before.held(&[web()], &[])).unwrap();
    let endpoint = identities.endpoint_of(&web()).unwrap();
    let others = none();
    others.take(after.held(&[api()], &[])).unwrap();
    let stranger = others.endpoint_of(&api()).unwrap();
    assert!(meet(&stranger, &endpoint).await.0.is_err());
    identities.take(after.held(&[web()], &[])).unwrap();
    assert!(Arc::ptr_eq(&endpoint, &identities.endpoint_of(&web()).unwrap()));
    assert_eq!(meet(&stranger, &endpoint).await.1.unwrap().account, api());
}

#[test]
fn what_did_not_change_is_not_made_anew() {
    let (authority, identities) = (Authority::new(), none());
    let mut held = authority.held(&[web(), api()], &[]);
    identities.take(held.clone()).unwrap();
    let shown = |account| identities.endpoint_of(&account).unwrap().svid();
    let before = [web(), api()].map(shown);
    held.svids.insert(api(), authority.svid(api()));
    // As it comes from the agent: nothing of it is the same allocation.
    identities.take(Held::from_wire(&held.to_wire()).unwrap()).unwrap();
    let after = [web(), api()].map(shown);
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert_ne!(before[1], after[1]);
}

#[tokio::test]
async fn an_account_that_the_agent_has_no_certificate_for_keeps_its_own_and_learns_whom_to_trust() {
    let (authority, identities) = (Authority::new(), none());
    identities.take(authority.held(&[web(), api()], &[])).unwrap();
    let svid = identities.endpoint_of(&web()).unwrap().svid();
    // The agent was restarted, and knows nothing yet.
    let missing = [web(), api()].into();
    identities.take(Held { missing, ..Held::default() }).unwrap();
    assert_eq!(identities.valid(), 2);
    ca::rotate_root(authority.0.path(), &Clock::system()).unwrap();
    let overlap = authority.held(&[], &[web()]);
    ca::finish_root(authority.0.path(), Duration::ZERO, &Clock::system()).unwrap();
    let others = none();
    others.take(authority.held(&[api()], &[])).unwrap();
    let newcomer = others.endpoint_of(&api()).unwrap();
    let endpoint = identities.endpoint_of(&web()).unwrap();
    assert!(meet(&endpoint, &newcomer).await.0.is_err(), "a root that it knows nothing of");
    identities.take(overlap).unwrap();
    assert_eq!(identities.endpoint_of(&web()).unwrap().svid(), svid);
    let (met, seen) = meet(&endpoint, &newcomer).await;
    assert_eq!(met.unwrap().account, api());
    assert!(matches!(seen, Err(Refused::Certificate(_))), "and is of one that the newcomer knows nothing of");
}

#[test]
fn an_account_that_nobody_wants_is_given_up_also_where_nobody_is_trusted_any_more() {
    let (authority, identities) = (Authority::new(), none());
    identities.take(authority.held(&[web(), api()], &[])).unwrap();
    identities.take(authority.held(&[web()], &[])).unwrap();
    assert!(identities.endpoint_of(&api()).is_none());
    identities.take(Held::default()).unwrap();
    assert!(identities.endpoint_of(&web()).is_none());
    assert_eq!(identities.valid(), 0);
}
