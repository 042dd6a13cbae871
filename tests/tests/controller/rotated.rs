//! Rotations, by command, while certificates of before live.

use weft_tests::text;

use super::{
    stage::{Stage, trust, verify},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_by_command_cuts_nothing() {
    let stage = Stage::open().await;
    let controllers = [stage.controller().await, stage.controller().await];
    let (one, two) = (stage.agent_token("n1").await, stage.agent_token("n2").await);
    let old_trust = stage.trust().await;
    let web = stage.agent(&one, &[&controllers[0]]).await.ask("web").await.unwrap();

    let output = stage.rotate(&["issuer"]);
    assert!(output.status.success() && text(&output).contains("weft-system/weft-ca"), "{}", text(&output));
    // An agent with the roots of before: it asks on, through all of it.
    let agents = [stage.agent(&one, &[&controllers[0]]).await, stage.agent(&two, &[&controllers[1]]).await];
    until("both replicas sign by the new issuer", async || {
        let web = agents[0].ask("web").await.unwrap();
        let api = agents[1].ask("api").await.unwrap();
        for svid in [&web, &api] {
            verify(&old_trust, svid).unwrap();
        }
        web.chain()[1] == api.chain()[1]
    })
    .await;

    let output = stage.rotate(&["root"]);
    assert!(output.status.success(), "{}", text(&output));
    let again = stage.rotate(&["root"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    until("both roots are published", async || stage.bundle().await.certificates().len() == 2).await;
    let mut api = agents[1].ask("api").await.unwrap();
    until("the new root's issuer signs", async || {
        api = agents[1].ask("api").await.unwrap();
        api.chain().len() == 3
    })
    .await;
    let both = stage.trust().await;
    for svid in [&web, &api] {
        for trust in [&old_trust, &both] {
            verify(trust, svid).unwrap();
        }
    }

    let early = stage.rotate(&["root", "--finish"]);
    assert_eq!(early.status.code(), Some(1), "{}", text(&early));
    let cut = stage.rotate(&["root", "--finish", "--overlap", "0s"]);
    assert!(cut.status.success(), "{}", text(&cut));
    until("the old root is gone", async || stage.bundle().await.certificates().len() == 1).await;
    let new = trust(&stage.bundle().await);
    verify(&new, &api).unwrap();
    assert!(verify(&new, &web).is_err(), "who cuts it off does that");
}
