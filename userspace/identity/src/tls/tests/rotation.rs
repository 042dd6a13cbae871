//! Rotations: in every phase, every living certificate is accepted by every node that may be about.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_abi::Reason;

use super::{meet, reason};
use crate::{
    Clock, Endpoint, Svid, Trust, ca,
    testing::{Authority, DAY, api, web},
};

/// The certificates and the trust of a node that reads the directory now.
struct Node {
    web: Arc<Svid>,
    api: Arc<Svid>,
    trust: Arc<Trust>,
}

impl Node {
    fn of(authority: &Authority) -> Self {
        Self { web: authority.issue(web()), api: authority.issue(api()), trust: authority.trust() }
    }

    /// One that has read the roots, and whose certificates are not due yet.
    fn that_trusts(&self, other: &Self) -> Self {
        Self { web: Arc::clone(&self.web), api: Arc::clone(&self.api), trust: Arc::clone(&other.trust) }
    }

    fn end(&self, svid: &Arc<Svid>) -> Endpoint {
        Endpoint::new(Arc::clone(svid), Arc::clone(&self.trust), Clock::system()).unwrap()
    }
}

async fn how(client: &Node, server: &Node) -> (Reason, Reason) {
    let (near, far) = meet(&client.end(&client.web), &server.end(&server.api), api()).await;
    (reason(&near), reason(&far))
}

async fn all_meet(nodes: &[&Node]) {
    for (number, client) in nodes.iter().enumerate() {
        for (other, server) in nodes.iter().enumerate() {
            let met = how(client, server).await;
            assert_eq!(met, (Reason::NONE, Reason::NONE), "node {number} connects to node {other}");
        }
    }
}

#[tokio::test]
async fn a_new_issuer_is_trusted_at_once_and_the_old_ones_certificates_stay_valid() {
    let authority = Authority::new();
    let before = Node::of(&authority);
    ca::rotate_issuer(authority.path(), &authority.clock).unwrap();
    let after = Node::of(&authority);
    assert_ne!(before.web.chain()[1], after.web.chain()[1], "another issuer signs");
    assert_eq!(before.trust, after.trust);
    all_meet(&[&before, &after]).await;
}

#[tokio::test]
async fn a_new_root_cuts_nobody_in_any_phase() {
    // The rotation began two days ago.
    let authority = Authority::at(Clock::of_tokio(SystemTime::now() - 2 * DAY));
    let now = Clock::system();
    let old = Node::of(&Authority { dir: clone_of(&authority), clock: now.clone() });

    ca::rotate_root(authority.path(), &authority.clock).unwrap();
    let overlap = Node::of(&Authority { dir: clone_of(&authority), clock: now.clone() });
    assert_eq!(overlap.trust.roots().len(), 2);
    // Nodes read the roots and renew their certificates whenever they do.
    all_meet(&[&old, &old.that_trusts(&overlap), &overlap, &overlap.that_trusts(&old)]).await;

    ca::finish_root(authority.path(), DAY, &now).unwrap();
    let finished = Node::of(&Authority { dir: clone_of(&authority), clock: now });
    assert_eq!(finished.trust.roots().len(), 1);
    all_meet(&[&overlap, &overlap.that_trusts(&finished), &finished, &finished.that_trusts(&overlap)]).await;

    // And the old root is worth nothing any more.
    let late = old.that_trusts(&finished);
    assert_eq!(how(&late, &finished).await.1, Reason::CERTIFICATE_UNTRUSTED);
    assert_eq!(how(&finished, &late).await.0, Reason::CERTIFICATE_UNTRUSTED);
}

#[tokio::test]
async fn a_rotation_that_was_interrupted_anywhere_cuts_nobody_and_can_be_begun_again() {
    for last in ["roots.pem", "issuer.pem"] {
        let authority = Authority::new();
        let old = Node::of(&authority);
        let kept = clone_of(&authority);
        ca::rotate_root(authority.path(), &authority.clock).unwrap();
        // What comes after `last` was not written.
        let lost: &[&str] = if last == "roots.pem" { &["issuer.pem", "root.pem"] } else { &["root.pem"] };
        for name in lost {
            std::fs::copy(kept.path().join(name), authority.path().join(name)).unwrap();
        }
        let halfway = Node::of(&authority);
        all_meet(&[&old, &halfway, &halfway.that_trusts(&old)]).await;
        let refused = ca::finish_root(authority.path(), Duration::ZERO, &authority.clock).unwrap_err();
        assert!(matches!(refused, ca::CaError::Interrupted { .. }), "{refused}");

        let again = ca::rotate_root(authority.path(), &authority.clock).unwrap();
        assert_eq!(again.roots.len(), 2);
        let new = Node::of(&authority);
        all_meet(&[&old, &halfway.that_trusts(&old), &new, &new.that_trusts(&old), &old.that_trusts(&new)])
            .await;
        ca::finish_root(authority.path(), Duration::ZERO, &authority.clock).unwrap();
        all_meet(&[&new, &Node::of(&authority)]).await;
    }
}

fn clone_of(authority: &Authority) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["root.pem", "issuer.pem", "roots.pem"] {
        std::fs::copy(authority.path().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_connection_is_used_again_only_where_it_would_be_opened_again() {
    let (authority, start) = (Authority::new(), SystemTime::now());
    let trust = authority.trust();
    let end = |svid, clock| Endpoint::new(svid, Arc::clone(&trust), clock).unwrap();
    let clock = Clock::of_tokio(start);
    let (client, server) = (end(authority.issue(web()), clock.clone()), end(authority.issue(api()), clock));
    let (near, far) = meet(&client, &server, api()).await;
    let (near, mut far) = (near.unwrap().proof().clone(), far.unwrap().proof().clone());
    assert!(client.would_open_the_same(&near));
    server.still_believes(&mut far).unwrap();

    // What the server renews is no matter to those whom it believes.
    server.replace(authority.issue(api()), authority.trust()).unwrap();
    server.still_believes(&mut far).unwrap();
    client.replace(authority.issue(web()), authority.trust()).unwrap();
    assert!(!client.would_open_the_same(&near), "its certificate is another one now");

    let other = Authority::new();
    server.replace(other.issue(api()), other.trust()).unwrap();
    let refused = server.still_believes(&mut far).unwrap_err();
    assert_eq!(refused.reason(), Reason::CERTIFICATE_UNTRUSTED);
    server.replace(authority.issue(api()), authority.trust()).unwrap();
    server.still_believes(&mut far).unwrap();

    let (near, far) = meet(&client, &server, api()).await;
    let (near, mut far) = (near.unwrap().proof().clone(), far.unwrap().proof().clone());
    tokio::time::pause();
    tokio::time::advance(2 * DAY).await;
    assert!(!client.would_open_the_same(&near));
    assert_eq!(server.still_believes(&mut far).unwrap_err().reason(), Reason::CERTIFICATE_EXPIRED);
}
