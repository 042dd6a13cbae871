//! The authority: made once, by whoever is first.

use super::{
    stage::{Stage, verify},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_begin_together_make_one_root() {
    let stage = Stage::open().await;
    let mut controllers = [(); 4].map(|()| stage.start());
    for controller in &mut controllers {
        until("each is ready", async || controller.is_ready()).await;
    }
    let made = controllers.iter().filter(|one| one.log().contains("a certificate authority was made"));
    assert_eq!(made.count(), 1);
    let (secret, trust) = (stage.secret().await, stage.trust().await);
    assert_eq!(trust.roots().len(), 1);
    // Whatever any of them signs, every node takes.
    let token = stage.agent_token("n1").await;
    for controller in &controllers {
        let svid = stage.agent(&token, &[controller]).await.ask("web").await.unwrap();
        verify(&trust, &svid).unwrap();
        assert_eq!(svid.id().to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    }
    assert_eq!(stage.secret().await, secret, "and nobody has made it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_begins_again_signs_by_the_same_root() {
    let stage = Stage::open().await;
    let token = stage.agent_token("n1").await;
    let first = stage.controller().await;
    let old = stage.agent(&token, &[&first]).await.ask("web").await.unwrap();
    drop(first);
    let second = stage.controller().await;
    let new = stage.agent(&token, &[&second]).await.ask("web").await.unwrap();
    let trust = stage.trust().await;
    verify(&trust, &old).unwrap();
    verify(&trust, &new).unwrap();
    assert_eq!(trust.roots().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_lost_is_made_anew_beside_the_trusted_root() {
    let stage = Stage::open().await;
    let token = stage.agent_token("n1").await;
    let controller = stage.controller().await;
    let old = stage.agent(&token, &[&controller]).await.ask("web").await.unwrap();
    let lost = serde_json::json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "weft-ca", "namespace": "weft-system"}});
    stage.server.delete(&lost).await;
    until("both roots are trusted", async || stage.bundle().await.certificates().len() == 2).await;
    let new = stage.agent(&token, &[&controller]).await.ask("web").await.unwrap();
    let trust = stage.trust().await;
    verify(&trust, &old).unwrap();
    verify(&trust, &new).unwrap();
    assert_ne!(old.chain()[1], new.chain()[1]);
}
